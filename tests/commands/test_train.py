"""`tailwire train`: from a drive to weights, with a tiny language model; and wrong input."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytest.importorskip("torch", reason="training is in torch")

from tailwire.export.detector_layers import weight_shapes
from tailwire.runtime.adaptation import trainer as trainer_module
from tailwire.training.encoder_training import EncoderTrainer
from tailwire.training.prepared_data import read_prepared

from ..quick_drives import quick_drive
from .conftest import Run

SMALL = ("--width", "16", "--layers", "1", "--heads", "2", "--tail", "2", "--batch", "16")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_drive(tmp_path_factory.mktemp("drives") / "quick")


@pytest.fixture
def encoders(run: Run, drive: Path) -> Run:
    options = ["--modality", "lidar", "--dataroot", drive, "--epochs", "2", "--batch", "2"]
    return lambda *words: run("train", "encoders", *options, "--threads", "1", *words)


@pytest.fixture
def connections(run: Run, drive: Path, runtime_options: list[str]) -> Run:
    options = ["--dataroot", drive, "--cache", "kept", *runtime_options, *SMALL]
    options += ["--evaluate-on", "20", "--threads", "1"]
    return lambda *words: run("train", "connections", *options, *words)


def test_a_lidar_encoder_is_what_packs_take(encoders: Run) -> None:
    outcome = encoders("--out", "work")
    assert outcome.code == 0, outcome.err
    weights = load_file("work/lidar.safetensors")
    shapes = weight_shapes("bev_detector")
    assert {name: array.shape for name, array in weights.items()} == shapes
    assert outcome.json["steps"] == 4
    record = json.loads(Path("work/lidar.json").read_text())
    assert record["settings"]["seed"] == 0
    assert len(record["history"]["loss"]) == 2
    assert "torch" in record["versions"]

    again = encoders("--out", "work")
    assert again.json["loss"] == outcome.json["loss"]
    assert "epochs was 2 and is 3" in encoders("--out", "work", "--epochs", "3").error()


def test_ctrl_c_keeps_the_checkpoint(encoders: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoders("--out", "whole")
    step = EncoderTrainer._take_step

    def interrupted(self: EncoderTrainer) -> dict[str, float]:
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(EncoderTrainer, "_take_step", interrupted)
        outcome = encoders("--out", "cut")
    assert outcome.code == 130
    assert "stopped behind step 2 of 4" in outcome.err
    assert encoders("--out", "cut").json["loss"] == whole.json["loss"]
    expected = load_file("whole/lidar.safetensors")
    for name, array in load_file("cut/lidar.safetensors").items():
        np.testing.assert_array_equal(array, expected[name])


def test_connections_learn_and_a_resumed_run_is_the_same(
    connections: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--sensors", "objects", "--steps", "30", "--evaluate-every", "10")
    options += ("--learning-rate", "0.003", "--warmup", "2")
    whole = connections("--out", "whole", *options)
    assert whole.code == 0, whole.err
    record = json.loads(Path("whole/connections.json").read_text())
    losses = record["history"]["loss"]
    assert losses[-1] < losses[0]
    assert record["connection"]["tail_blocks"] == 2
    assert set(whole.json["accuracy"]) == {"objects"}
    assert 0 <= whole.json["majority_accuracy"] <= whole.json["blind_accuracy"] <= 1

    step = trainer_module.Trainer._take_step

    def interrupted(self: trainer_module.Trainer) -> tuple[float, float]:
        if self.step == 14:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.Trainer, "_take_step", interrupted)
        cut = connections("--out", "cut", *options)
    assert cut.code == 130
    assert "the same command goes on" in cut.err
    assert connections("--out", "cut", *options).code == 0
    expected = load_file("whole/connection.safetensors")
    for name, array in load_file("cut/connection.safetensors").items():
        np.testing.assert_array_equal(array, expected[name])
    other = connections("--out", "cut", *options, "--seed", "1").error()
    assert "other settings: training" in other


def test_an_interrupted_run_can_be_ended_where_it_stands(
    connections: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--out", "cut", "--sensors", "objects", "--steps", "30", "--warmup", "2")
    assert "--finish: there is no checkpoint" in connections(*options, "--finish", "5").error()
    step = trainer_module.Trainer._take_step

    def interrupted(self: trainer_module.Trainer) -> tuple[float, float]:
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.Trainer, "_take_step", interrupted)
        assert connections(*options).code == 130
    assert not Path("cut/connection.safetensors").exists()
    outcome = connections(*options, "--finish", "5")
    assert outcome.code == 0, outcome.err
    record = json.loads(Path("cut/connections.json").read_text())
    assert record["step"] == 4
    assert record["held_out"]["questions"] == 5
    cells = record["held_out"]["sensor_sets"][0]["cells"]
    assert sum(questions for _, _, questions, _ in cells) == 5
    # The questions are those that a whole run looks at, and the weights have not moved.
    whole = connections(*options)
    assert whole.json["steps"] == 30


def test_divergence_keeps_the_last_good_weights(
    connections: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = trainer_module.Trainer._loss

    def diverging(self: trainer_module.Trainer, *parts: object) -> object:
        total, accuracy = loss(self, *parts)  # pyright: ignore[reportArgumentType]
        return (total * float("nan") if self.step == 3 else total), accuracy

    monkeypatch.setattr(trainer_module.Trainer, "_loss", diverging)
    outcome = connections("--out", "work", "--sensors", "objects", "--steps", "9")
    assert "smaller learning rate" in outcome.error()
    assert "last good step" in outcome.err
    weights = load_file("work/connection.safetensors")
    assert all(np.isfinite(array).all() for array in weights.values())


def test_sensors_go_through_their_encoders(encoders: Run, connections: Run) -> None:
    assert encoders("--out", "work").code == 0
    objects = connections("--out", "first", "--sensors", "objects", "--steps", "2")
    assert objects.code == 0, objects.err
    both = ("--sensors", "lidar_top,objects", "--subsets", "2:lidar_top;objects")
    options = ("--encoders-from", "work", "--from", "first", "--steps", "2", *both)
    outcome = connections("--out", "second", *options)
    assert outcome.code == 0, outcome.err
    assert set(outcome.json["accuracy"]) == {"lidar_top", "objects"}
    weights = load_file("second/connection.safetensors")
    assert weights["sensor.lidar_top"].shape == (64, 64)


def test_scenes_are_held_out_anew(connections: Run, run: Run, runtime_options: list[str]) -> None:
    options = ["--sensors", "objects", "--prepare-only"]
    split = ["--held-out", "1/2", "--learn-per-keyframe", "2", "--ask-per-keyframe", "1"]
    made = connections("--out", "data", *options, *split)
    assert made.code == 0, made.err
    prepared = read_prepared(Path(made.json["prepared"]))
    assert prepared.origin["held_out_scenes"] == "1 of 2"
    assert prepared.origin["questions_learned"] == 2 and prepared.origin["questions_asked"] == 1
    learned, asked = set(prepared.train.moment.tolist()), set(prepared.held_out.moment.tolist())
    assert learned and asked and not learned & asked
    assert len(prepared.known.questions) == len(asked)
    assert "'2' is no share" in connections("--out", "data", *options, "--held-out", "2").error()
    again = ["--prepared", made.json["prepared"], "--out", "other", *split[:2], *runtime_options]
    outcome = run("train", "connections", *again)
    assert "prepared data have their held-out scenes" in outcome.error()


def test_prepared_data_train_the_same_weights(
    connections: Run, run: Run, runtime_options: list[str]
) -> None:
    options = ["--sensors", "objects", "--steps", "4", "--summary-steps", "2", "--threads", "1"]
    direct = connections("--out", "direct", *options)
    assert direct.code == 0, direct.err
    made = connections("--out", "data", *options, "--prepare-only")
    assert made.code == 0, made.err
    path = Path(made.json["prepared"])
    assert path.stat().st_size == made.json["bytes"]
    assert "not both" in connections("--out", "other", *options, "--prepared", path).error()

    command = ["train", "connections", "--cache", "kept", *runtime_options, *SMALL, *options]
    command += ["--evaluate-on", "20"]
    outcome = run(*command, "--prepared", path, "--out", "elsewhere")
    assert outcome.code == 0, outcome.err
    assert outcome.json["accuracy"] == direct.json["accuracy"]
    assert outcome.json["blind_accuracy"] == direct.json["blind_accuracy"]
    expected = load_file("direct/connection.safetensors")
    for name, array in load_file("elsewhere/connection.safetensors").items():
        np.testing.assert_array_equal(array, expected[name])
    records = [
        json.loads(Path(f"{folder}/connections.json").read_text())["settings"]
        for folder in ("direct", "elsewhere")
    ]
    assert records[0] == records[1]

    path.write_bytes(path.read_bytes()[:2000])
    assert (
        "the prepared data cannot be read"
        in run(*command, "--prepared", path, "--out", "broken").error()
    )


def test_mirrored_batches_have_mirrored_words(connections: Run) -> None:
    options = ("--sensors", "objects", "--steps", "8", "--threads", "1", "--learning-rate", "0.003")
    plain = connections("--out", "plain", *options)
    mirrored = connections("--out", "mirrored", *options, "--mirror")
    assert mirrored.code == 0, mirrored.err
    weights = [load_file(f"{name}/connection.safetensors") for name in ("plain", "mirrored")]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])
    assert plain.json["blind_accuracy"] == mirrored.json["blind_accuracy"]


def test_without_matplotlib_there_is_a_note(encoders: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    outcome = encoders("--out", "work", "--epochs", "1")
    assert outcome.code == 0
    assert outcome.json["curve"] is None
    assert "matplotlib is not installed" in outcome.err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--modality", "radar"], "--modality: there is no encoder of 'radar'"),
        (["--epochs", "0"], "--epochs: 0 is no such number"),
        (["--conditions", "snow"], "--conditions: there is no condition 'snow'"),
        (["--conditions", "night"], "no keyframe is of the conditions night"),
        (["--batch", "1000"], "fewer than a batch of 1000"),
    ],
)
def test_wrong_input_of_encoders(encoders: Run, words: list[str], problem: str) -> None:
    assert problem in encoders("--out", "work", *words).error()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--sensors", "radar"], "--sensors: there is no sensor 'radar'"),
        (["--subsets", "lidar_top"], "--subsets: there is no sensor 'lidar_top'"),
        (["--sensors", "lidar_top"], "--encoders-from: the sensors need trained encoders"),
        (["--width", "15"], "--width: width 15 is no multiple of heads 2"),
        (["--kind", "magic"], "--kind: Input should be"),
        (["--tail", "99"], "--tail: a tail of 99 blocks does not fit 6"),
        (["--train-only", "nothing"], "--train-only: no weight's name begins with 'nothing'"),
        (["--from", "nowhere"], "--from: there is no connection.safetensors"),
        (["--learning-rate", "nan"], "--learning-rate: nan is no such number"),
        (["--summary-steps", "-1"], "--summary-steps: Input should be"),
        (["--device", "teapot"], "--device: torch cannot use 'teapot'"),
    ],
)
def test_wrong_input_of_connections(connections: Run, words: list[str], problem: str) -> None:
    assert problem in connections("--out", "work", "--sensors", "objects", *words).error()


def test_without_torch_the_command_is_told(encoders: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'tailwire[train]'" in encoders("--out", "work").error()
