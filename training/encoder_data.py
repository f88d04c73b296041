"""What the encoders are trained with, made of the keyframes of several data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..runtime.encoder_specs import CameraInput
from ..runtime.engine import Engine
from ..runtime.errors import ConfigError
from ..simulation.rig import CAMERAS
from .camera_samples import CameraSamples, camera_samples
from .encoder_training import Examples
from .lidar_samples import LidarSample, lidar_example, lidar_samples
from .losses import TargetBatch, batch_of
from .moments import TrainingMoment
from .targets import image_targets

CAMERA_SENSORS = tuple(mount.channel.lower() for mount in CAMERAS)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LidarExamples:
    """Sweeps in memory; implements `Examples`."""

    samples: Sequence[LidarSample]

    def __len__(self) -> int:
        return len(self.samples)

    def batch(
        self, rows: Sequence[int], rng: np.random.Generator | None
    ) -> tuple[tuple[Tensor, ...], TargetBatch]:
        """Grids from above, turned and mirrored at random."""
        grids, targets = zip(*(lidar_example(self.samples[row], rng) for row in rows), strict=True)
        grid = torch.from_numpy(np.stack(grids)).to(memory_format=torch.channels_last)
        return (grid,), batch_of(targets)


@dataclass(frozen=True)
class CameraExamples:
    """Pictures of several data sets, each with features of its own; implements `Examples`.

    Attributes:
        places: data set and row of each picture.
        sets: features by data set.
    """

    sets: Sequence[CameraSamples]
    places: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.places)

    def batch(
        self, rows: Sequence[int], rng: np.random.Generator | None
    ) -> tuple[tuple[Tensor, ...], TargetBatch]:
        """Features and targets; features are not changed at random."""
        del rng
        chosen = [(self.sets[number], row) for number, row in (self.places[r] for r in rows)]
        inputs = tuple(
            torch.from_numpy(
                np.stack([one.features[stride][row] for one, row in chosen]).astype(np.float32)
            ).contiguous(memory_format=torch.channels_last)
            for stride in range(len(self.sets[0].features))
        )
        targets = [
            image_targets(one.objects[row], one.geometry[row], one.size) for one, row in chosen
        ]
        return inputs, batch_of(targets)


def lidar_examples(
    moments: Sequence[TrainingMoment], progress: Progress | None = None
) -> tuple[Examples, Examples]:
    """Training and held-out sweeps.

    Raises:
        SensorError: a file is broken, or a data set has no poses.
    """
    train = [moment for moment in moments if moment.split == "train"]
    held_out = [moment for moment in moments if moment.split != "train"]

    def told(offset: int) -> Progress:
        def tell(done: int, _: int) -> None:
            if progress is not None:
                progress(offset + done, len(moments))

        return tell

    return (
        LidarExamples(lidar_samples(train, progress=told(0))),
        LidarExamples(lidar_samples(held_out, progress=told(len(train)))),
    )


def camera_examples(
    moments: Sequence[TrainingMoment],
    backbone: Engine,
    spec: CameraInput,
    cache: Path,
    identity: str,
    progress: Progress | None = None,
) -> tuple[Examples, Examples]:
    """Training and held-out pictures; their features are kept by data set in the cache.

    Args:
        moments: keyframes, those of a data set together.
        backbone: gives the features.
        spec: of the encoder's picture.
        cache: folder for the features.
        identity: of the backbone's weights.
        progress: told pictures done and pictures in all.

    Raises:
        SensorError: a picture is broken.
    """
    sets: list[CameraSamples] = []
    places: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    done, cameras = 0, len(CAMERA_SENSORS)
    for _, group in groupby(moments, key=lambda moment: id(moment.data)):
        own, before = list(group), done

        def tell(finished: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + finished, cameras * len(moments))

        found = camera_samples(own, CAMERA_SENSORS, backbone, spec, cache, identity, tell)
        for row in range(len(found)):
            places[own[row // cameras].split == "train"].append((len(sets), row))
        sets.append(found)
        done += len(found)
    return CameraExamples(sets, places[True]), CameraExamples(sets, places[False])


def check_enough(train: Examples, held_out: Examples, batch: int) -> None:
    """Refuse data that cannot fill a batch, or that leaves nothing to look at.

    Raises:
        ConfigError: naming what is too little.
    """
    if len(train) < batch:
        raise ConfigError(
            f"there are {len(train)} training examples, fewer than a batch of {batch}",
            field="--dataroot",
            remedy="give more drives or a smaller --batch",
        )
    if not len(held_out):
        raise ConfigError(
            "no scene is held out, so nothing would tell whether training helps",
            field="--dataroot",
            remedy="give drives with at least two scenes, or more conditions",
        )
