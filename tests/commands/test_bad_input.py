"""Wrong input: exit code 2, one line with field and remedy, nothing half done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tailwire.cli import main
from tailwire.commands.results import Results
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.errors import ConfigError
from tailwire.runtime.plans import Answer, Plan

from .conftest import Run

COMMANDS = ("ask", "demo")


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest, run: Run, drive: Path, model: Path) -> Run:
    """`ask` or `demo`, complete but for what a test adds."""
    question = ["Is it?"] if request.param == "ask" else ["--steps", "1"]
    base = [request.param, *question, "--model", str(model), "--precision", "fp32"]

    def call(*words: str | Path) -> object:
        source = [] if "--nuscenes" in words else ["--nuscenes", drive]
        return run(*base, *source, *words)

    return call  # pyright: ignore[reportReturnType]


def test_a_missing_dataroot(command: Run, tmp_path: Path) -> None:
    assert "no-such-place" in command("--nuscenes", tmp_path / "no-such-place").error()


def test_a_folder_without_tables(command: Run, tmp_path: Path) -> None:
    assert str(tmp_path) in command("--nuscenes", tmp_path).error()


def test_an_unknown_version(command: Run) -> None:
    assert "v1.0-mini" in command("--version", "v1.0-trainval").error()


def test_a_broken_table(command: Run, own_drive: Path) -> None:
    (own_drive / "v1.0-mini" / "sample_data.json").write_text('[{"token": 3}]')
    assert "sample_data.json" in command("--nuscenes", own_drive).error()


def test_an_unknown_key_of_the_configuration(command: Run, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("tail_block: 4\n")
    error = command("--config", file).error()
    assert f"{file}: tail_block" in error
    assert "tail_blocks" in error


@pytest.mark.parametrize("text", ["tail_blocks: [", "- a list", "threads: many", "\x00"])
def test_a_configuration_that_is_none(command: Run, tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert str(file) in command("--config", file).error()


def test_a_missing_configuration(command: Run, tmp_path: Path) -> None:
    assert "nowhere.yaml" in command("--config", tmp_path / "nowhere.yaml").error()


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--precision", "int3", "precision"),
        ("--tail", "0", "tail"),
        ("--threads", "-1", "threads"),
    ],
)
def test_a_value_out_of_range(command: Run, option: str, value: str, named: str) -> None:
    assert named in command(option, value).error()


def test_a_tail_deeper_than_the_pack(
    command: Run, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILWIRE_CACHE", str(cache))
    assert "1 to 6" in command("--tail", "99").error()


def test_an_unknown_model(command: Run) -> None:
    assert "smollm2-135m-instruct" in command("--model", "smollm2").error()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model", b"GGUF\x03" + bytes(200)])
def test_a_corrupt_model_file(command: Run, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert "model.gguf" in command("--model", file).error()


def test_a_model_folder_with_cut_off_weights(command: Run, model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "model.safetensors" in command("--model", folder).error()


@pytest.mark.parametrize("manifest", [None, "format: 1\n", ": ["])
def test_a_broken_pack(
    command: Run, tmp_path: Path, manifest: str | None, runtime_options: list[str]
) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    if manifest is not None:
        (pack / "pack.yaml").write_text(manifest)
    assert "pack.yaml" in command("--pack", pack).error()


def test_a_changed_file_of_a_pack(
    run: Run, drive: Path, runtime_options: list[str], cache: Path, tmp_path: Path
) -> None:
    words = ["ask", "--nuscenes", drive, *runtime_options, "--answers", "yes,no", "Is it?"]
    assert run(*words).code == 0  # Makes the starter pack, if no test has yet.
    made = next(iter((cache / "engines").glob("starter-*/pack.yaml"))).parent
    pack = Path(shutil.copytree(made, tmp_path / "pack"))
    assert run(*words, "--pack", pack).code == 0
    weights = pack / "lidar_encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    error = run(*words, "--pack", pack).error()
    assert "lidar_encoder.safetensors" in error
    assert "sha256" in error


def test_a_cache_that_cannot_be_written(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("TAILWIRE_CACHE", str(file / "cache"))
    assert "TAILWIRE_CACHE" in command().error()


def test_a_cache_that_cannot_hold_the_clip(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("TAILWIRE_CACHE", str(file / "cache"))
    assert "TAILWIRE_CACHE" in run("demo").error()
    assert "TAILWIRE_CACHE" in run("models", "get", "efficientnet-lite0", "--from", file).error()


@pytest.mark.parametrize("sensors", ["cam_frnt", "cam_front,,cam_back", "", "all,none"])
def test_sensors_that_do_not_exist(run: Run, drive: Path, sensors: str) -> None:
    assert "sensors: " in run("ask", "--nuscenes", drive, "--sensors", sensors, "Is it?").error()


def test_an_unknown_sensor_of_the_configuration(command: Run, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("sensors: [cam_frnt]\n")
    assert "cam_frnt" in command("--config", file).error()


def test_an_unknown_keyframe(run: Run, drive: Path) -> None:
    error = run("ask", "--nuscenes", drive, "--sample", "0123", "Is it?").error()
    assert "--sample" in error
    assert "0123" in error


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["  "], "question"),
        (["Is it?", "--answers", "yes,,no"], "--answers"),
        (["Is it?", "--answers", "yes,yes"], "answers"),
        (["Is it?", "--max-new-tokens", "0"], "max_new_tokens"),
        (["Is it?", "--version", "v1.0-mini"], "--version"),
    ],
)
def test_a_question_that_is_none(run: Run, words: list[str], named: str) -> None:
    assert named in run("ask", *words).error()


def test_results_that_cannot_be_written(run: Run, drive: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    error = run("demo", "--nuscenes", drive, "--out", file / "results").error()
    assert str(file / "results") in error
    assert "--out" in error


def test_a_full_disk_loses_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(sensors={}, tail_blocks=1, precision="fp32", flops=1)
    answer = Answer(
        question="Is it?",
        text="no",
        confidence=1,
        stamp_ns=None,
        sensors={},
        dropped={},
        plan=plan,
        timings_ms={},
        flops=1,
        pack="none",
        pack_trained=False,
    )
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:100])

    with Results(tmp_path / "results", RuntimeConfig()) as results:
        results.add([answer])
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(ConfigError, match="No space left"):
            results.add([answer])
    lines = results.answers_file.read_text().splitlines()
    assert [Answer.model_validate_json(line) for line in lines] == [answer]


@pytest.mark.parametrize("name", ["config.yaml", "metadata.yaml"])
def test_results_do_not_go_over_files_of_something_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=name):
        Results(tmp_path, RuntimeConfig())
    assert not (tmp_path / "answers.jsonl").exists()
    assert (tmp_path / name).read_text() == "mine"


def test_results_go_on_in_the_folder_of_a_run_that_broke_off(tmp_path: Path) -> None:
    with Results(tmp_path, RuntimeConfig()):
        pass
    with Results(tmp_path, RuntimeConfig(threads=2)) as results:
        assert "threads: 2" in results.config_file.read_text()


def test_a_demo_of_no_steps_and_a_picture_in_no_folder(run: Run, tmp_path: Path) -> None:
    assert "--steps" in run("demo", "--steps", "0").error()
    assert "no-folder" in run("demo", "--capture", tmp_path / "no-folder" / "demo.svg").error()


def test_the_process_exits_with_what_main_returns() -> None:
    assert main(["models", "path", "no-such-model"]) == 2
