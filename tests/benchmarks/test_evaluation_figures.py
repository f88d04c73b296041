"""Accuracies, bounds, intervals and pictures, against counts by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailwire.benchmarks.evaluation import Given, Mark
from tailwire.benchmarks.evaluation_figures import accuracy_rows, scene_interval, set_figures
from tailwire.benchmarks.evaluation_plots import draw_evaluation
from tailwire.runtime.errors import ConfigError
from tailwire.simulation.questions.items import QaItem

#: (type, hop, condition, right, cameras say, sure, objects say, majority, words).
TABLE = [
    ("exist", 0, "day", "yes", "yes", 0.9, "yes", "yes", "no"),
    ("exist", 1, "day", "no", "yes", 0.8, "no", "yes", "yes"),
    ("exist", 1, "night", "yes", "yes", 0.6, "yes", "yes", "yes"),
    ("count", 0, "night", "3", "3", 0.7, "3", "0", "3"),
    ("count", 0, "fog", "0", "2", 0.3, "1", "0", "0"),
]


def marks() -> list[Mark]:
    return [
        Mark(
            QaItem("token", f"q{place}", right, kind, hop, "val"),
            f"scene-{condition}",
            condition,
            {"cams": Given(said, sure, 2), "truth": Given(truth, 1.0, 1)},
            {"majority per template": majority, "words": words},
        )
        for place, (kind, hop, condition, right, said, sure, truth, majority, words) in enumerate(
            TABLE
        )
    ]


def test_rows_hold_the_pack_beside_the_bound_and_the_blind() -> None:
    rows = accuracy_rows(marks(), "cams", "truth")
    assert rows["overall"] == {
        "questions": 5,
        "accuracy": 3 / 5,
        "blind_accuracy": 3 / 5,
        "blind_baseline": "majority per template",
        "majority_accuracy": 3 / 5,
        "objects_bound": 4 / 5,
    }
    # The best baseline of each row, which is another one for counts.
    assert rows["by_type"]["count"] == {
        "questions": 2,
        "accuracy": 1 / 2,
        "blind_accuracy": 1.0,
        "blind_baseline": "words",
        "majority_accuracy": 1 / 2,
        "objects_bound": 1 / 2,
    }
    assert rows["by_type"]["exist"]["blind_accuracy"] == 2 / 3
    assert list(rows["by_condition"]) == ["day", "night", "fog"]
    assert rows["by_condition"]["night"]["accuracy"] == 1.0
    assert {key: row["questions"] for key, row in rows["by_type_and_hop"].items()} == {
        "count, 0": 2,
        "exist, 0": 1,
        "exist, 1": 2,
    }
    assert rows["by_hop"]["1"]["accuracy"] == 1 / 2


def test_without_bound_and_baselines_there_are_no_figures_of_them() -> None:
    blind = [Mark(m.item, m.drive, m.condition, m.given, {}) for m in marks()]
    row = accuracy_rows(blind, "cams", None)["overall"]
    assert row["accuracy"] == 3 / 5
    assert [row[name] for name in ("blind_accuracy", "majority_accuracy", "objects_bound")] == [
        None
    ] * 3


def test_a_set_of_sensors_has_calibration_and_coverage() -> None:
    found = set_figures(marks(), "cams", ["cam_front", "cam_back", "cam_left"])
    assert found["accuracy"] == 3 / 5
    assert found["by_condition"] == {"day": 0.5, "night": 1.0, "fog": 0.0}
    assert found["calibration"]["mean_confidence"] == pytest.approx(0.66)
    assert found["coverage"][1] == {
        "coverage": 0.2,
        "questions": 1,
        "accuracy": 1.0,
        "least_confidence": 0.9,
    }
    assert found["answers_missing_a_sensor"] == 5
    assert found["answers_without_sensors"] == 0
    assert found["accuracy_interval_95"] is not None
    json.dumps(found)


def test_the_interval_draws_scenes_and_not_questions() -> None:
    # One scene all right, one all wrong: a draw of two is 0, 1/2 or 1 with odds 1 : 2 : 1.
    scenes, right = ["a"] * 50 + ["b"] * 50, [True] * 50 + [False] * 50
    assert scene_interval(scenes, right) == [0.0, 1.0]
    assert scene_interval(["a"] * 3, [True] * 3) is None
    many = [f"scene {n}" for n in range(400) for _ in range(2)]
    rng = np.random.default_rng(0)
    hits = (rng.random(400) < 0.5).repeat(2).tolist()
    low, high = scene_interval(many, hits) or (0, 0)
    # The normal approximation for 400 independent scenes.
    assert low == pytest.approx(np.mean(hits) - 1.96 * 0.5 / 20, abs=0.01)
    assert high == pytest.approx(np.mean(hits) + 1.96 * 0.5 / 20, abs=0.01)


def test_pictures_are_drawn(tmp_path: Path) -> None:
    sets = [set_figures(marks(), name, ["cam_front"]) for name in ("cams", "truth")]
    files = draw_evaluation(tmp_path, sets, 0.4)
    assert [file.name for file in files] == ["reliability.png", "coverage.png"]
    for file in files:
        picture = np.asarray(Image.open(file).convert("RGB"))
        assert min(picture.shape[:2]) > 400
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_without_matplotlib_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    sets = [set_figures(marks(), "cams", ["cam_front"])]
    with pytest.raises(ConfigError, match=r"matplotlib.*tailwire\[viz\]"):
        draw_evaluation(tmp_path, sets, None)
    assert not list(tmp_path.iterdir())
