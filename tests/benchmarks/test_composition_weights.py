"""Weights of composed packs chosen by asking: one loaded pack, weights changed between frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.numpy import save_file

from tailwire import open_runtime
from tailwire.benchmarks.composition_weights import choose_weights
from tailwire.benchmarks.evaluation import Evaluation
from tailwire.benchmarks.exam import Exam, set_exam
from tailwire.cli import main
from tailwire.export.range_encoder import random_weights
from tailwire.kernels.object_tokens import TOKEN_WIDTH
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.encoders import EncoderSpec, ObjectsInput
from tailwire.runtime.errors import ConfigError

from ..composed import shape
from ..packs import RANGE_LIDAR, write_small_pack
from ..quick_drives import quick_drive

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="the tiny models are made with torch")

OBJECTS = EncoderSpec(
    modality="objects",
    kind="objects",
    input=ObjectsInput(),
    tokens=6,
    width=TOKEN_WIDTH,
    licence="none",
    source="tests",
)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_drive(tmp_path_factory.mktemp("weights") / "drive")


@pytest.fixture
def exam(drive: Path) -> Exam:
    return set_exam([drive], split="all", limit=3, keyframes=2)


@pytest.fixture
def packs(tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
    config = tiny.model("llama").config
    lidar, objects = tmp_path / "with_lidar", tmp_path / "with_objects"
    for folder in (lidar, objects):
        folder.mkdir()
    save_file(random_weights(0), lidar / RANGE_LIDAR.file)
    write_small_pack(
        lidar, config, shape(), {"lidar": RANGE_LIDAR}, {"lidar_top": "lidar"}, name="with_lidar"
    )
    write_small_pack(
        objects, config, shape(), {"objects": OBJECTS}, {"objects": "objects"}, name="with_objects"
    )
    return [str(lidar), str(objects)]


def test_the_best_weights_are_those_that_answer_best(
    tiny: TinyModels, tmp_path: Path, packs: list[str], exam: Exam
) -> None:
    out = tmp_path / "both"
    assert main(["compose", *packs, "--out", str(out)]) == 0
    config = RuntimeConfig(
        model=str(tiny.folder("llama")), precision="fp32", pack=str(out), threads=1
    )
    with open_runtime(config) as runtime:
        before = runtime.connection
        chosen = choose_weights(runtime, exam, steps=2)
        assert runtime.connection is before
        assert (chosen.tried, chosen.questions) == (4, len(exam.items))
        assert sum(chosen.weights.values()) == pytest.approx(1)
        assert chosen.accuracy >= chosen.accuracy_equal
        # Asked again with these weights, as many are right.
        runtime.swap_connection(before.with_lora_weights(chosen.weights))
        again = Evaluation(runtime, exam, {}, {"all": runtime.known_sensors})
        again.run()
        right = [mark.given["all"].text == mark.item.answer for mark in again.marks]
        assert sum(right) / len(right) == chosen.accuracy
    alone = config.model_copy(update={"pack": packs[0]})
    with open_runtime(alone) as runtime, pytest.raises(ConfigError, match="fewer than two"):
        choose_weights(runtime, exam)


def test_the_command_tries_weights_on_questions(
    tiny: TinyModels,
    tmp_path: Path,
    packs: list[str],
    drive: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "out")
    model = ["--model", str(tiny.folder("llama")), "--precision", "fp32", "--threads", "1"]
    some = ["--dataroot", str(drive), "--split", "all", "--keyframes", "1", "--steps", "1"]
    arguments = ["compose", *packs, "--out", out, *model]
    for wrong, words in (
        (some, "no weights are to be chosen"),
        ([*some, "--weights", "auto", "--method", "ties"], "cannot change while"),
        ([*some[:-1], "0", "--weights", "auto"], "too small"),
    ):
        assert main([*arguments, *wrong]) == 2
        assert words in capsys.readouterr().err
        assert not Path(out).exists()
    assert main([*arguments, *some, "--weights", "auto", "--json"]) == 0
    weights = json.loads(capsys.readouterr().out)["weights"]
    assert sum(weights.values()) == pytest.approx(1)
