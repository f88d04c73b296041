"""Packs of radar and sound behind a tiny model: asked alone, composed, and through the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="the tiny models are made with torch")

from tailwire import open_runtime
from tailwire.assembly import load_connection, load_language_model
from tailwire.benchmarks.commonality import LETTERS
from tailwire.benchmarks.commonality_items import (
    CONCEPTS,
    KINDS,
    NOTHING,
    Moment,
    Sense,
    make_items,
)
from tailwire.benchmarks.commonality_tokens import (
    SenseData,
    asked_concepts,
    number_of,
    place_of,
    thinned,
)
from tailwire.benchmarks.composition_accuracy import Examination, Examiner
from tailwire.benchmarks.composition_answers import ConceptAsker, heads_of, options_of
from tailwire.cli import main
from tailwire.kernels.direction_tokens import (
    PRESENCE,
    object_directions,
    radar_directions,
    sound_directions,
)
from tailwire.kernels.object_tokens import object_tokens
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.connections import ConnectionSpec, weight_shapes
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.pack import BaseModelSpec, load_pack
from tailwire.simulation.radar_returns import radar_returns
from tailwire.simulation.street_sound import street_sound
from tailwire.training.sense_packs import SensePack, answer_tokens, write_sense_pack

from ..fakes import SPECS
from ..packs import write_small_pack
from ..quick_drives import quick_drive
from .busy_streets import make_streets_busy
from .test_commonality import NO_CLOUD, street, thing

if TYPE_CHECKING:
    from ..built_models import TinyModels

SENSES: tuple[Sense, ...] = ("radar", "audio")
SENSOR = {"radar": "radar", "audio": "microphones"}
PLACES = {"front": (20, 0), "back": (-20, 0), "front left": (10, 17), "front right": (10, -17)}


def moment(number: int) -> Moment:
    """One thing that moves in each of two directions."""
    rng = np.random.default_rng(number)
    first, second = rng.choice(list(PLACES), 2, replace=False)
    kinds = rng.choice(["car", "bus", "motorcycle"], 2)
    objects = street(
        *(
            thing(kind, *PLACES[where], "with rider" if kind == "motorcycle" else "moving")
            for kind, where in zip(kinds.tolist(), (first, second), strict=True)
        )
    )
    made = Moment(cast(Any, None), f"scene{number % 6}", f"token{number}", 0.0)
    made.__dict__["objects"] = objects
    return made


MOMENTS = [moment(number) for number in range(36)]


def payload(sense: Sense, one: Moment) -> NDArray[np.float32]:
    if sense == "audio":
        return street_sound(one.objects, one.own_speed_mps, one.rng(sense))
    return radar_returns(one.objects, NO_CLOUD, one.rng(sense))


@pytest.fixture(scope="module")
def data() -> SenseData:
    made = {"radar": radar_directions, "audio": sound_directions}
    tokens: dict[Sense, dict[str, NDArray[np.float16]]] = {
        sense: {
            SENSOR[sense]: np.stack(
                [made[sense](payload(sense, one)).astype(np.float16) for one in MOMENTS]
            )
        }
        for sense in SENSES
    }
    facts: dict[Sense, NDArray[np.int8]] = {}
    for sense in SENSES:
        facts[sense] = np.full((len(MOMENTS), len(KINDS), 6), -1, np.int8)
        for row, one in enumerate(MOMENTS):
            for concept, holds in one.holds(sense).items():
                if holds is not None:
                    facts[sense][(row, *place_of(concept))] = holds
    return SenseData(MOMENTS, tokens, facts)


@pytest.fixture
def folders(tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Sense, Path]:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
    config = tiny.model("llama").config
    other = tmp_path / "other"
    other.mkdir()
    for spec in SPECS.values():
        for file in spec.files:
            (other / file).write_bytes(b"weights")
    sensors = {f"{name}_1": name for name in SPECS}
    write_small_pack(other, config, ConnectionSpec(kind="plain", tail_blocks=2), SPECS, sensors)
    spec = ConnectionSpec(kind="plain", tail_blocks=4, per_block=True, hidden=8, lora_rank=2)
    found: dict[Sense, Path] = {}
    base = BaseModelSpec.of("tiny", config)
    each: list[tuple[Sense, ...]] = [("radar",), ("audio",), SENSES]
    for seed, senses in enumerate(each):
        rng = np.random.default_rng(seed)
        sizes: dict[str, tuple[int, int]] = dict.fromkeys(senses, (6, 64))
        shapes = weight_shapes(spec, config, sizes, {SENSOR[sense]: sense for sense in senses})
        weights = {n: rng.normal(0, 0.3, s).astype(np.float32) for n, s in shapes.items()}
        name = senses[0] if len(senses) == 1 else "joint"
        content = SensePack(name, senses, spec, weights, base, "# tests\n")
        write_sense_pack(tmp_path / name, content, load_pack(other))
        if len(senses) == 1:
            found[senses[0]] = tmp_path / name
    return found


def test_a_concept_is_where_its_object_is() -> None:
    for kind, where in CONCEPTS:
        angle = {"front": 0, "front left": 60, "back left": 120, "back": 180}.get(where)
        angle = {"back right": -120, "front right": -60}[where] if angle is None else angle
        x, y = 20 * np.cos(np.deg2rad(angle)), 20 * np.sin(np.deg2rad(angle))
        name = "truck" if kind == "bus or truck" else kind
        things = [] if kind == NOTHING else [thing(name, x, y)]
        rows = object_directions(object_tokens(street(*things), 2), np.ones(6, bool))
        _, direction = place_of((kind, where))
        assert rows[direction, PRESENCE + 1 + direction] == 1
        assert rows[direction, :10].any() == (kind != NOTHING)
        assert not np.delete(rows[:, :10], direction, 0).any()
    assert sorted(number_of(concept) for concept in CONCEPTS) == list(range(24))
    text = asked_concepts()[number_of(("bus or truck", "back left"))]
    assert text == "Moving bus or truck, back left?"
    assert asked_concepts()[number_of((NOTHING, "front"))] == "No vehicle, front?"


def test_some_moments_of_each_scene_are_left() -> None:
    kept = thinned(MOMENTS, 4)
    assert [one.token for one in kept if one.scene == "scene1"] == ["token1", "token25"]


def test_margins_are_what_the_runtime_answers(
    tiny: TinyModels, folders: dict[Sense, Path], data: SenseData
) -> None:
    name = str(tiny.folder("llama"))
    pack = load_pack(folders["radar"])
    model = load_language_model(name, "fp32", threads=1, depths=(4,))
    connection = load_connection(pack, model, threads=1)
    heads = heads_of(model, pack.manifest)
    asker = ConceptAsker(model, pack.manifest, connection, data, heads, answer_tokens(model))
    config = RuntimeConfig(model=name, precision="fp32", pack=str(folders["radar"]), threads=1)
    numbers = [0, 7, 17]
    with open_runtime(config) as runtime:
        for row in (0, 5, 11):
            margins = asker.margins({"radar": row}, numbers)
            returns = payload("radar", MOMENTS[row])
            frames = [SensorFrame("radar", "radar", row + 1, "ego", returns)]
            for number, margin in zip(numbers, margins, strict=True):
                said = runtime.ask(frames, asked_concepts()[number], ("yes", "no"))
                assert said.text == ("yes" if margin > 0 else "no")
                share = 1 / (1 + np.exp(-abs(float(margin))))
                # Tokens are kept in float16.
                assert said.confidence == pytest.approx(share, abs=0.02)
    model.close()


def test_all_ways_of_composing_are_asked_the_same(
    tiny: TinyModels, folders: dict[Sense, Path], data: SenseData, tmp_path: Path
) -> None:
    model = load_language_model(str(tiny.folder("llama")), "fp32", threads=1, depths=(4,))
    items = make_items(MOMENTS[:24], 20, 1, SENSES)
    other = make_items(MOMENTS[24:], 6, 2, SENSES)
    single: dict[Sense, list[tuple[int, int, bool]]] = {
        sense: [(row, 3, bool(data.facts[sense][row, 0, 3] == 1)) for row in range(10)]
        for sense in SENSES
    }
    exam = Examination(data, items, other, [one.item for one in other], single)
    work = tmp_path / "work"
    work.mkdir()
    examiner = Examiner(
        *(model, lambda pack: load_connection(pack, model, threads=1), folders),
        *(folders["radar"].parent / "joint", exam, answer_tokens(model), work, lambda text: None),
    )
    result = examiner.run(["naive", "damc", "task_arithmetic", "ties"], weight_steps=1)
    found = result["accuracy"]["2"]
    assert result["items"] == {"2": len(items)} and len(items) == 20
    # In packs text and modality are apart by construction, so equal weights are the average.
    assert found["naive"] == found["damc"]
    assert set(result["weights"]) == {"radar+audio"} and 0 <= found["joint"] <= 1
    heads = heads_of(model, load_pack(folders["radar"]).manifest)
    row_of = {one.token: row for row, one in enumerate(MOMENTS)}
    right: dict[str, list[bool]] = {"radar": [], "audio": [], "sum": []}
    for item in items:
        margins: dict[str, NDArray[np.float32]] = {}
        for sense, folder in folders.items():
            pack = load_pack(folder)
            connection = load_connection(pack, model, threads=1)
            asker = ConceptAsker(
                *(model, pack.manifest, connection, data, heads, answer_tokens(model))
            )
            row = row_of[item.moments[sense].token]
            margins[sense] = asker.margins({sense: row}, options_of(item))
        margins["sum"] = margins["radar"] + margins["audio"]
        for name, one in margins.items():
            right[name].append(LETTERS[int(one.argmax())] == item.item.answer)
    assert found["ensemble"] == pytest.approx(np.mean(right["sum"]))
    best = max(np.mean(right["radar"]), np.mean(right["audio"]))
    assert found["best_single"] == pytest.approx(best)
    low, high = result["interval"]["2"]["ensemble"]
    assert low < found["ensemble"] < high
    assert result["single_senses"]["radar"]["questions"] == 10
    model.close()


def test_packs_are_trained_composed_and_asked_by_command(
    tiny: TinyModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
    make_streets_busy(monkeypatch)
    first = quick_drive(tmp_path / "first", scenes=6, seconds=2.0)
    second = quick_drive(tmp_path / "second", scenes=4, seconds=2.0, seed=8)
    model = ["--model", str(tiny.folder("llama")), "--precision", "fp32", "--threads", "1"]
    packs = tmp_path / "packs"
    train = ["train", "senses", "--dataroot", str(first), "--out", str(packs), *model, "-q"]
    sizes = ["--tail", "4", "--hidden", "24", "--steps", "3", "--batch", "4", "--every", "1"]
    assert main([*train, *sizes, "--packs", "radar,audio"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["held_out"]) == {"radar", "audio"}
    assert load_pack(packs / "radar").manifest.trained
    published = tmp_path / "published"
    form = ["--form", "input-level", "--out", str(published), "--lora-rank", "11"]
    shape = ["--views", "2", "--questions", "3", "--packs", "radar,audio"]
    assert main([*train, *sizes, *form, *shape]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["held_out"]) == {
        f"{sense}-{branches}" for sense in SENSES for branches in ("decoupled", "single")
    }
    figure = tmp_path / "figure.png"
    bench = ["bench", "composition", "--senses", str(packs), "--no-costs", "--json", *model]
    every = ["--every", "1", "--validate-every", "1"]
    drives = ["--dataroot", str(second), "--validate-on", str(first), *every]
    few = ["--items", "4", "--validation-items", "2", "--questions", "6", "--weight-steps", "1"]
    also = ["--input-level", str(published), "--input-level-items", "2"]
    assert main([*bench, *drives, *few, *also, "--figure", str(figure)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    for one in (result, result["input_level"]):
        assert {"naive", "damc", "best_single"} <= one["accuracy"]["2"].keys()
    assert result["input_level"]["items"] == {"2": 2}
    assert figure.read_bytes().startswith(b"\x89PNG")
    same = ["--dataroot", str(first), "--validate-on", str(first), *every]
    assert main([*bench, *same, *few]) == 2
    assert "both asked about" in capsys.readouterr().err
