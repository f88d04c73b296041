"""`tailwire ask`: what it prints, in words and as JSON, and how broken sensors are dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailwire.runtime.metrics import PEAK_MEMORY_METHOD
from tailwire.runtime.plans import Answer
from tailwire.runtime.questions import NUSCENES_QA_ANSWERS

from .conftest import Run, camera_file

QUESTION = "Is there a bus behind me?"
CAMERAS = 6


@pytest.fixture
def ask(run: Run, drive: Path, runtime_options: list[str]) -> Run:
    """Asks about the drive on the tiny model."""
    return lambda *words: run("ask", "--nuscenes", drive, *runtime_options, *words)


def test_the_text_says_what_the_answer_rests_on(ask: Run) -> None:
    out = ask("--answers", "yes,no", QUESTION).out
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["answer"] in ("yes", "no")
    assert "the first one" in lines["keyframe"]
    assert "untrained pack" in lines["warning"]
    assert "cam_front 35 ms" in lines["sensors"]
    assert "encode camera" in lines["time"]
    assert "GFLOP" in lines["compute"]
    assert PEAK_MEMORY_METHOD in lines["memory"]


def test_json_has_all_fields_of_the_answer_and_of_the_run(ask: Run) -> None:
    outcome = ask("--json", "--answers", "nuscenes-qa", "--tail", "3", QUESTION)
    assert len(outcome.out.splitlines()) == 1
    found = outcome.json
    answer = Answer.model_validate({name: found[name] for name in Answer.model_fields})
    assert answer.text in NUSCENES_QA_ANSWERS
    assert not answer.pack_trained
    assert len(answer.sensors) == CAMERAS + 1
    assert answer.flops > 0
    assert {"encode camera", "encode lidar", "tail"} <= answer.timings_ms.keys()
    assert found["peak_memory_bytes"] > 10_000_000
    assert found["memory_method"] == PEAK_MEMORY_METHOD
    assert found["load_ms"] > 0
    assert found["config"]["tail_blocks"] == answer.plan.tail_blocks == 3
    assert found["config"]["precision"] == "fp32"


def test_free_text_is_streamed_whole(ask: Run) -> None:
    whole = ask("--json", "--max-new-tokens", "8", "What do you see?").json
    streamed = ask("--quiet", "--max-new-tokens", "8", "What do you see?")
    assert streamed.out.strip() == whole["text"]
    assert streamed.err == ""


def test_only_the_sensors_asked_for_are_used(ask: Run) -> None:
    assert list(ask("--json", "--sensors", "lidar_top", QUESTION).json["sensors"]) == ["lidar_top"]
    blind = ask("--json", "--sensors", "none", QUESTION).json
    assert (blind["sensors"], blind["dropped"], blind["stamp_ns"]) == ({}, {}, None)


def test_options_win_over_the_configuration_file(ask: Run, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("sensors: [cam_back]\ntail_blocks: 2\n")
    from_file = ask("--config", file, "--json", QUESTION).json
    assert list(from_file["sensors"]) == ["cam_back"]
    assert from_file["plan"]["tail_blocks"] == 2
    both = ask("--config", file, "--sensors", "all", "--tail", "4", "--json", QUESTION).json
    assert len(both["sensors"]) == CAMERAS + 1
    assert both["plan"]["tail_blocks"] == 4


def test_a_chosen_keyframe_is_the_one_used(ask: Run) -> None:
    first = ask("--json", QUESTION).json["sample"]
    chosen = ask("--sample", first, QUESTION)
    assert first in chosen.out
    assert "the first one" not in chosen.out


def test_broken_sensors_are_dropped_with_their_reasons(
    run: Run, own_drive: Path, runtime_options: list[str]
) -> None:
    image = camera_file(own_drive, "CAM_FRONT")
    image.write_bytes(image.read_bytes()[:500])
    camera_file(own_drive, "CAM_BACK").unlink()
    words = ["ask", "--nuscenes", own_drive, *runtime_options, "--answers", "yes,no", QUESTION]
    found = run(*words, "--json").json
    assert "cut off" in found["dropped"]["cam_front"]
    assert "missing" in found["dropped"]["cam_back"]
    assert found["sensors"].keys().isdisjoint(found["dropped"])
    assert len(found["sensors"]) == CAMERAS - 1
    assert run(*words).out.count("\ndropped ") == 2


def test_an_image_that_only_looks_whole_is_dropped_too(
    run: Run, own_drive: Path, runtime_options: list[str]
) -> None:
    image = camera_file(own_drive, "CAM_FRONT")
    data = image.read_bytes()
    image.write_bytes(data[:100] + data[-2:])
    words = ["ask", "--nuscenes", own_drive, *runtime_options, "--answers", "yes,no", QUESTION]
    assert "cam_front" in run(*words, "--json").json["dropped"]


@pytest.mark.parametrize("kept_bytes", [0, 100])
def test_no_answer_when_no_sensor_asked_for_works(
    run: Run, own_drive: Path, runtime_options: list[str], kept_bytes: int
) -> None:
    image = camera_file(own_drive, "CAM_FRONT")
    data = image.read_bytes()
    # With its last two bytes the file passes for whole until it is decoded.
    image.write_bytes(data[:kept_bytes] + data[-2:] if kept_bytes else b"")
    outcome = run(
        "ask", "--nuscenes", own_drive, *runtime_options, "--sensors", "cam_front", QUESTION
    )
    error = outcome.error()
    assert "none of the sensors asked for can be used" in error
    assert "cam_front" in error or image.name in error


def test_a_sensor_that_the_drive_lacks_is_dropped(
    run: Run, own_drive: Path, runtime_options: list[str]
) -> None:
    tables = own_drive / "v1.0-mini"
    _rename_channel(tables / "sensor.json", "CAM_BACK", "CAM_ROOF")
    words = ["ask", "--nuscenes", own_drive, *runtime_options, "--answers", "yes,no", QUESTION]
    found = run(*words, "--json").json
    assert "no such sensor" in found["dropped"]["cam_back"]
    assert "cam_roof" not in found["sensors"]


def _rename_channel(table: Path, old: str, new: str) -> None:
    table.write_text(table.read_text().replace(f'"{old}"', f'"{new}"'))


def test_the_real_keyframe(run: Run, real_keyframe: Path, runtime_options: list[str]) -> None:
    words = ["ask", "--nuscenes", real_keyframe, *runtime_options, "--answers", "yes,no", "--json"]
    found = run(*words, QUESTION).json
    assert len(found["sensors"]) == CAMERAS + 1
    assert found["dropped"] == {}
    assert found["sensors"]["cam_front"]["age_ms"] == pytest.approx(35.491)


def test_a_budget_leaves_sensors_out_and_the_plan_is_told(ask: Run) -> None:
    whole = ask("--json", "--answers", "yes,no", QUESTION).json
    less = whole["plan"]["flops"] - 1
    words = [
        "--policy",
        "round_robin",
        "--budget-flops",
        str(less),
        "--answers",
        "yes,no",
        QUESTION,
    ]
    found = ask("--json", *words).json
    assert found["plan"]["policy"] == "round_robin"
    assert found["plan"]["flops"] <= less
    assert 0 < len(found["sensors"]) < len(whole["sensors"])
    assert found["config"]["budget"]["flops"] == less
    told = ask(*words).out
    assert "round_robin: cam_front" in told


def test_a_budget_that_fixed_breaks_is_refused_with_the_cheapest_plan(ask: Run) -> None:
    error = ask("--budget-flops", "1k", "--answers", "yes,no", QUESTION).error()
    assert "budget.flops" in error
    assert "cheapest plan" in error
    assert "--budget-latency" in ask("--budget-latency", "-4", QUESTION).error()
