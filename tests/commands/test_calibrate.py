"""`tailwire calibrate`: what it measures against `tailwire eval`, and what becomes of the pack."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tailwire import open_runtime
from tailwire.benchmarks.calibration import KeyframeCounts
from tailwire.benchmarks.calibration_file import WorkHeader, read_work
from tailwire.export.range_encoder import TOKEN_WIDTH, random_weights
from tailwire.runtime.calibrated_pack import note_variants
from tailwire.runtime.calibration_table import CalibrationTable, read_calibration
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.encoder_specs import EncoderSpec, LidarInput
from tailwire.runtime.measured_variants import MeasuredVariant
from tailwire.runtime.pack import load_pack
from tailwire.runtime.questions import NUSCENES_QA_ANSWERS, Question
from tailwire.simulation.annotated_objects import AnnotatedDrive
from tailwire.simulation.nuscenes import NuScenes

from ..built_models import TinyModels
from ..packs import write_small_pack
from .conftest import OBJECTS, Run

ASKED = (
    ("Are there any cars?", "exist", "yes"),
    ("Is there a bus to our front left?", "exist", "no"),
    ("How many pedestrians are there?", "count", "2"),
    ("Are there more cars than trucks?", "comparison", "yes"),
)
TOPICS = ("exist", "exist@front left", "count", "comparison")
LIDAR = EncoderSpec(
    modality="lidar",
    kind="range_encoder",
    input=LidarInput(),
    tokens=4,
    width=TOKEN_WIDTH,
    file="lidar_encoder.safetensors",
    licence="none",
    source="random",
)

VARIANT = MeasuredVariant(
    variant="cpu:int4",
    measured_on="tests",
    questions=8,
    right=5,
    blind_accuracy=0.5,
    difference_points=-12.5,
    interval_points=(-25.0, 0.0),
    same_answers=7,
    bytes=1000,
)


@pytest.fixture
def pack(tiny: TinyModels, tmp_path: Path) -> Path:
    """A pack with a LiDAR and given objects for the tiny Llama; its weights are random."""
    folder = tmp_path / "pack"
    folder.mkdir()
    save_file(random_weights(0), folder / LIDAR.file)
    spec = ConnectionSpec(
        kind="conditioned", tail_blocks=3, hidden=8, width=8, layers=1, heads=2, per_block=True
    )
    encoders = {"lidar": LIDAR, "objects": OBJECTS}
    sensors = {"lidar_top": "lidar", "objects": "objects"}
    return write_small_pack(folder, tiny.model("llama").config, spec, encoders, sensors)


@pytest.fixture
def questions(drive: Path) -> Path:
    """The same four questions, with the same answers, at both keyframes."""
    data = NuScenes.open(drive)
    records = [
        {
            "sample_token": sample.token,
            "question": text,
            "answer": answer,
            "template_type": kind,
            "num_hop": 0,
            "split": "val",
        }
        for sample in data.samples(data.scenes[0])
        for text, kind, answer in ASKED
    ]
    file = Path("qa.json")
    file.write_text(json.dumps({"questions": records}))
    return file


@pytest.fixture
def calibrate(
    run: Run, drive: Path, questions: Path, runtime_options: list[str], pack: Path
) -> Run:
    """Calibrates the pack on the drive, every plan at every keyframe."""
    options = ["--dataroot", drive, "--questions", questions, "--pack", pack, *runtime_options]
    return lambda *words: run("calibrate", *options, "--plans", "99", *words)


def _right(table: CalibrationTable, sensors: tuple[str, ...], depth: int) -> Counter[str]:
    """Right answers by topic with the newest frames of some sensors."""
    return Counter(
        {
            cell.topic: cell.right
            for cell in table.cells
            if cell.plan.sensors == sensors
            and cell.plan.tail_blocks == depth
            and not any((*cell.plan.ages_ms, cell.plan.held_ms))
        }
    )


def test_counts_are_those_of_an_evaluation(
    calibrate: Run, run: Run, drive: Path, questions: Path, runtime_options: list[str], pack: Path
) -> None:
    outcome = calibrate("--depths", "1,3", "--out", "calibrated", "--json")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 1
    table = read_calibration(Path("calibrated/calibration.json"))
    assert set(table.topics) == set(TOPICS)
    assert outcome.json["answers"] == table.questions
    for depth in (1, 3):
        run(
            *("eval", "--dataroot", drive, "--questions", questions, *runtime_options),
            *("--pack", pack, "--tail", str(depth), "--out", f"eval{depth}"),
            *("--sensor-sets", "lidar_top;objects;lidar_top,objects"),
        )
        lines = Path(f"eval{depth}/answers.jsonl").read_text().splitlines()
        answers = [json.loads(line) for line in lines]
        topic_of = dict(zip((text for text, _, _ in ASKED), TOPICS, strict=True))
        for name in ("lidar_top", "objects", "lidar_top,objects"):
            own = [answer for answer in answers if answer["sensor_set"] == name]
            assert len(own) == 8
            expected = Counter(
                topic_of[answer["question"]]
                for answer in own
                if answer["text"] == answer["expected"]
            )
            assert +_right(table, tuple(name.split(",")), depth) == expected


def _by_plan(header: WorkHeader, counts: KeyframeCounts, age_ms: int, held_ms: int = 0) -> dict:
    """Questions and right answers by sensors, depth and topic, of plans whose tokens, or answers,
    are so old.
    """
    return {
        (plan.sensors, plan.tail_blocks, topic): (questions, right)
        for number, topic, questions, right in counts.cells
        for plan in (header.plans[number],)
        if plan.sensors and set(plan.ages_ms) == {age_ms} and plan.held_ms == held_ms
    }


def test_an_old_plan_answers_what_a_new_one_did_before(
    calibrate: Run, drive: Path, pack: Path
) -> None:
    """Where tokens say nothing of places; objects are carried forward."""
    assert calibrate("--work", "work.jsonl", "--out", "calibrated").code == 0
    header, (first, second) = read_work(Path("work.jsonl"))
    stamps = [sample.stamp_ns for sample in NuScenes.open(drive).samples("scene-0001")]
    assert stamps[1] - stamps[0] == 500_000_000
    own = {
        key: counts
        for key, counts in _by_plan(header, second, 500).items()
        if key[0] == ("lidar_top",)
    }
    assert own
    assert own.items() <= _by_plan(header, first, 0).items()
    assert not _by_plan(header, first, 500)
    # An answer that is given again is what it was, whatever it rests on.
    again = _by_plan(header, second, 0, held_ms=500)
    assert {sensors for sensors, _, _ in again} >= {("objects",), ("lidar_top",)}
    assert again.items() <= _by_plan(header, first, 0).items()


def test_old_objects_are_asked_about_as_a_runtime_does(
    calibrate: Run, drive: Path, pack: Path, model: Path
) -> None:
    assert calibrate("--work", "work.jsonl", "--out", "calibrated").code == 0
    header, (_, second) = read_work(Path("work.jsonl"))
    old = _by_plan(header, second, 500)
    data = NuScenes.open(drive)
    source = AnnotatedDrive(data, data.scenes[0])
    then, now = (sample.stamp_ns for sample in data.samples(data.scenes[0]))
    frames = list(source.frames(["lidar_top", "objects"]))
    config = RuntimeConfig(model=str(model), precision="fp32", pack=str(pack))
    with open_runtime(config) as runtime:
        for text, _, _ in ASKED:
            runtime.watch(Question(text, NUSCENES_QA_ANSWERS))
        runtime.set_tail(3)
        runtime.switch_sensors(["objects"])
        seen = runtime.step([f for f in frames if f.stamp_ns <= then])
        # The LiDAR is not asked, but its newest frame says where the vehicle is.
        late = [f for f in frames if f.sensor == "lidar_top" and then < f.stamp_ns <= now]
        answers = runtime.step(late)
    assert [a.plan.sensors for a in answers] == [{"objects": "reuse"}] * len(ASKED)
    for topic, answer, (_, _, expected) in zip(TOPICS, answers, ASKED, strict=True):
        assert old[("objects",), 3, topic] == (1, answer.text == expected)
    # Not where they were.
    assert [a.confidence for a in answers] != [a.confidence for a in seen]


def test_a_new_pack_is_whole_and_the_old_one_is_untouched(calibrate: Run, pack: Path) -> None:
    before = {file.name: file.read_bytes() for file in pack.iterdir()}
    outcome = calibrate("--out", "calibrated")
    assert "table written to calibrated" in outcome.out
    assert {file.name: file.read_bytes() for file in pack.iterdir()} == before
    new = load_pack(Path("calibrated"))
    assert new.manifest.calibration == "calibration.json"
    assert new.manifest.model_copy(update={"calibration": None, "files": {}}) == load_pack(
        pack
    ).manifest.model_copy(update={"files": {}})
    assert "something is there already" in calibrate("--out", "calibrated").error()


def test_in_place_the_table_is_replaced_and_its_old_file_goes(calibrate: Run, pack: Path) -> None:
    names = []
    for seed in ("1", "2"):
        assert calibrate("--in-place", "--seed", seed, "--random-sets", "0").code == 0
        manifest = load_pack(pack).manifest
        assert manifest.calibration is not None
        names.append(manifest.calibration)
    assert len(set(names)) == 2
    assert [path.name for path in pack.glob("calibration*")] == names[1:]


def test_what_was_measured_of_variants_stays_in_a_new_table(calibrate: Run, pack: Path) -> None:
    note_variants(pack, [VARIANT])  # There is no table yet.
    assert calibrate("--in-place", "--random-sets", "0").code == 0
    assert calibrate("--out", "calibrated").code == 0
    for folder in (pack, Path("calibrated")):
        name = load_pack(folder).manifest.calibration
        assert name is not None
        table = read_calibration(folder / name)
        assert table.variants == (VARIANT,) and table.questions > 0
    other = VARIANT.model_copy(update={"variant": "cpu:int8"})
    note_variants(pack, [other])
    name = load_pack(pack).manifest.calibration
    assert name is not None
    again = read_calibration(pack / name)
    assert again.variants == (other,) and again.questions > 0


def test_an_interrupted_run_goes_on_where_it_stopped(calibrate: Run) -> None:
    assert calibrate("--work", "work", "--out", "whole").code == 0
    lines = Path("work").read_text().splitlines(keepends=True)
    assert len(lines) == 3
    Path("work").write_text("".join(lines[:2]) + lines[2][:20])
    outcome = calibrate("--work", "work", "--out", "again", "--json")
    assert Path("work").read_text() == "".join(lines)
    assert outcome.json["keyframes"] == 2
    assert (
        Path("again/calibration.json").read_bytes() == Path("whole/calibration.json").read_bytes()
    )
    error = calibrate("--work", "work", "--out", "third", "--seed", "9").error()
    assert "other plans" in error


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "--out: it is not said where the table goes"),
        (("--out", "x", "--in-place"), "--out: a new pack is named beside --in-place"),
        (("--out", "x", "--ages", "1"), "--ages: newest frames"),
        (("--out", "x", "--ages", "0,old"), "--ages: 'old' is no age"),
        (("--out", "x", "--ages", "0,nan"), "--ages: 'nan' is no age"),
        (("--out", "x", "--depths", "4"), "--depths: '4' is no depth"),
        (("--out", "x", "--depths", "x"), "--depths: 'x' is no depth"),
        (("--out", "x", "--precisions", "int3"), "--precisions: there is no precision 'int3'"),
        (("--out", "x", "--plans", "0"), "--plans: 0 is too small"),
        (("--out", "x", "--random-sets", "-1"), "--random-sets: -1 is too small"),
        (("--out", "x", "--sensor-sets", "sonar"), "--sensor-sets: the pack has no sensor"),
        (("--out", "x", "--pack", "starter"), "--pack: the pack 'starter' is untrained"),
        (("--out", "x", "--work", "qa.json"), "qa.json: no working file"),
    ],
)
def test_wrong_input_is_one_line_with_the_option(
    calibrate: Run, words: tuple[str, ...], named: str
) -> None:
    assert named in calibrate(*words).error()
    assert not Path("x").exists()


def test_several_precisions_share_their_tokens(calibrate: Run) -> None:
    outcome = calibrate("--precisions", "fp32,int8", "--out", "calibrated", "--json")
    table = read_calibration(Path("calibrated/calibration.json"))
    counted = Counter(plan.precision for plan in table.plans)
    assert counted["fp32"] > counted["int8"] > 0
    assert np.isfinite(outcome.json["accuracy"])
