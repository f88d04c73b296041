"""What the camera detector learns from: features of a frozen backbone, kept on disk, and boxes.

The backbone runs once per picture; an epoch then costs the neck and the head alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.encoder_inputs import camera_geometry_of, image_of
from ..runtime.encoder_specs import CameraInput
from ..runtime.engine import Engine
from ..runtime.files import write_atomic
from ..simulation.annotated_objects import annotated_objects
from .losses import TargetBatch, batch_of
from .moments import TrainingMoment
from .targets import image_targets

#: Names of the backbone's outputs, finest first.
FEATURES = ("at8", "at16", "at32")
_BATCH = 6


@dataclass(frozen=True)
class CameraSamples:
    """Pictures as features; implements `Examples`.

    Attributes:
        features: float16 `[pictures, channels, rows, columns]` per stride, mapped from files.
        geometry: float32 `[pictures, 16]`.
        objects: of each picture's moment.
        size: rows and columns of the encoder's picture.
    """

    features: tuple[NDArray[np.float16], ...]
    geometry: NDArray[np.float32]
    objects: Sequence[NDArray[np.float32]]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.geometry)

    def take(self, rows: Sequence[int]) -> PartOfSamples:
        """Some of the pictures."""
        return PartOfSamples(self, list(rows))

    def batch(
        self, rows: Sequence[int], rng: np.random.Generator | None
    ) -> tuple[tuple[Tensor, ...], TargetBatch]:
        """Features and targets of pictures; features are not changed at random."""
        del rng
        inputs = tuple(
            torch.from_numpy(np.stack([maps[row] for row in rows]).astype(np.float32)).contiguous(
                memory_format=torch.channels_last
            )
            for maps in self.features
        )
        targets = [image_targets(self.objects[row], self.geometry[row], self.size) for row in rows]
        return inputs, batch_of(targets)


@dataclass(frozen=True)
class PartOfSamples:
    """Some examples of others; implements `Examples`."""

    whole: CameraSamples
    rows: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(
        self, rows: Sequence[int], rng: np.random.Generator | None
    ) -> tuple[tuple[Tensor, ...], TargetBatch]:
        return self.whole.batch([self.rows[row] for row in rows], rng)


def camera_samples(
    moments: Sequence[TrainingMoment],
    sensors: Sequence[str],
    backbone: Engine,
    spec: CameraInput,
    folder: Path,
    identity: str,
    progress: Callable[[int, int], None] | None = None,
) -> CameraSamples:
    """Features of all pictures, from the files that hold them or computed now.

    An interrupted computation goes on where it stopped.

    Args:
        moments: keyframes; pictures are in their order, sensor by sensor.
        sensors: names of the cameras.
        backbone: maps `image` to the features.
        spec: of the encoder's picture.
        folder: of the cache, about 250 KB a picture.
        identity: of the backbone's weights.
        progress: told pictures done and pictures in all.

    Raises:
        SensorError: a picture is broken.
    """
    count = len(moments) * len(sensors)
    key = hashlib.sha256(f"{identity} {spec.model_dump_json()} {sensors}".encode())
    for moment in moments:
        key.update(f"{moment.data.dataroot.resolve()} {moment.token}".encode())
    place = folder / f"features-{key.hexdigest()[:24]}"
    place.mkdir(parents=True, exist_ok=True)
    shapes = {spec.name: spec.shape[1:] for spec in backbone.output_specs}
    maps = [
        np.lib.format.open_memmap(
            place / f"{name}.npy",
            mode="r+" if (place / f"{name}.npy").is_file() else "w+",
            dtype=np.float16,
            shape=(count, *shapes[name]),
        )
        for name in FEATURES
    ]
    done_file = place / "done"
    done = int(done_file.read_text()) if done_file.is_file() else 0
    pairs = [(moment, sensor) for moment in moments for sensor in sensors]

    def read(pair: tuple[TrainingMoment, str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        moment, sensor = pair
        frame = moment.data.read(moment.data.sample_data(sensor, moment.token))
        return image_of(frame, spec), camera_geometry_of(frame, spec)

    geometry_file = place / "geometry.npy"
    geometry = np.lib.format.open_memmap(
        geometry_file,
        mode="r+" if geometry_file.is_file() else "w+",
        dtype=np.float32,
        shape=(count, 16),
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(done, count, _BATCH):
            part = slice(start, min(start + _BATCH, count))
            images, lenses = zip(*pool.map(read, pairs[part]), strict=True)
            made = backbone.run({"image": np.stack(images)})
            for name, values in zip(FEATURES, maps, strict=True):
                values[part] = made[name]
            geometry[part] = np.stack(lenses)
            if part.stop % (_BATCH * 100) < _BATCH or part.stop == count:
                for values in (*maps, geometry):
                    values.flush()
                write_atomic(done_file, str(part.stop))
            if progress is not None:
                progress(part.stop, count)
    objects = [annotated_objects(moment.data, moment.token) for moment in moments]
    owners = [objects[index // len(sensors)] for index in range(count)]
    return CameraSamples(tuple(maps), np.array(geometry), owners, (spec.height, spec.width))
