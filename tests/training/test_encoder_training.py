"""The loop that trains detectors, on a drive of a few keyframes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("torch", reason="training is in torch")

import torch

from tailwire.runtime.adaptation.training_config import TrainingError
from tailwire.runtime.errors import ConfigError
from tailwire.training.detectors import BevDetector
from tailwire.training.encoder_data import check_enough, lidar_examples
from tailwire.training.encoder_training import EncoderTrainer, EncoderTrainingConfig
from tailwire.training.moments import moments_of
from tailwire.training.run_folder import RunFolder, read_checkpoint, state_arrays

from ..quick_drives import quick_drive

if TYPE_CHECKING:
    from tailwire.training.encoder_training import Examples

CONFIG = EncoderTrainingConfig(epochs=3, batch=2, learning_rate=4e-3)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Examples, Examples]:
    drive = quick_drive(tmp_path_factory.mktemp("drives") / "quick")
    return lidar_examples(moments_of([drive]))


def trainer(
    examples: tuple[Examples, Examples],
    checkpoint: Path | None = None,
    config: EncoderTrainingConfig = CONFIG,
) -> EncoderTrainer:
    torch.manual_seed(0)
    return EncoderTrainer(BevDetector(), *examples, config, checkpoint)


def test_the_loss_falls_and_a_resumed_run_is_the_uninterrupted_one(
    examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    whole = trainer(examples)
    history = whole.run()
    assert sum(history.loss[-1].values()) < sum(history.loss[0].values())

    path = tmp_path / "lidar-checkpoint.pt"
    cut = trainer(examples, path)
    cut.run(should_stop=lambda: cut.step == 3)  # In the middle of an epoch.
    resumed = trainer(examples, path)
    assert resumed.step == 3
    assert resumed.run() == history
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_weights_are_written_without_counters(tmp_path: Path) -> None:
    arrays = state_arrays(BevDetector().state_dict())
    assert not any(name.endswith("num_batches_tracked") for name in arrays)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_divergence_stops_and_the_checkpoint_stays_finite(
    examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    path = tmp_path / "lidar-checkpoint.pt"
    running = trainer(examples, path)

    def spoil(progress: object) -> None:
        if running.step == 4:
            with torch.no_grad():
                next(running.model.parameters()).fill_(float("nan"))

    with pytest.raises(TrainingError, match="the loss is nan at step 4"):
        running.run(spoil)
    kept = read_checkpoint(path)
    assert kept["step"] == 4
    assert all(torch.isfinite(value).all() for value in kept["model"].values())


def test_a_checkpoint_of_other_settings_is_refused(
    examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    path = tmp_path / "lidar-checkpoint.pt"
    cut = trainer(examples, path)
    cut.run(should_stop=lambda: cut.step == 1)
    with pytest.raises(TrainingError, match="other settings"):
        trainer(examples, path, EncoderTrainingConfig(epochs=4, batch=2))


def test_the_folder_names_the_setting_that_differs(
    examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    files = RunFolder(tmp_path, "lidar")
    files.begin({"epochs": 3, "seed": 0})
    cut = trainer(examples, files.checkpoint)
    cut.run(should_stop=lambda: cut.step == 1)
    files.begin({"epochs": 3, "seed": 0})
    with pytest.raises(TrainingError, match=r"seed was 0 and is 1.*--out"):
        files.begin({"epochs": 3, "seed": 1})


def test_a_broken_checkpoint_is_told(tmp_path: Path) -> None:
    files = RunFolder(tmp_path, "lidar")
    files.checkpoint.write_bytes(b"no checkpoint at all")
    with pytest.raises(TrainingError, match=r"lidar-checkpoint\.pt"):
        files.begin({})


def test_too_little_data_is_refused(examples: tuple[Examples, Examples]) -> None:
    train, held_out = examples
    with pytest.raises(ConfigError, match="fewer than a batch of 100"):
        check_enough(train, held_out, 100)
    with pytest.raises(ConfigError, match="no scene is held out"):
        check_enough(train, lidar_examples([])[0], 2)
