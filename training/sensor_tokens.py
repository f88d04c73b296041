"""Tokens of all sensors at all keyframes, made by the encoders that run, kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.encoders import Encoder
from ..runtime.errors import SensorError
from ..runtime.files import write_atomic
from ..runtime.frames import SensorFrame
from ..simulation.annotated_objects import OBJECTS, annotated_objects
from .moments import TrainingMoment, earlier_sweeps

_FLUSH_EVERY = 100


def sensor_tokens(
    moments: Sequence[TrainingMoment],
    sensors: Mapping[str, str],
    encoders: Mapping[str, Encoder],
    identity: str,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, NDArray[np.float16]]:
    """By sensor, tokens `[moments, tokens, width]`; all zeros where a frame is missing or broken.

    An interrupted computation goes on where it stopped.

    Args:
        moments: the keyframes.
        sensors: encoder name by sensor.
        encoders: by name.
        identity: of the encoders' weights.
        folder: of the cache.
        progress: told keyframes done and keyframes in all.
    """
    key = hashlib.sha256(f"{identity} {sorted(sensors.items())}".encode())
    for moment in moments:
        key.update(f"{moment.data.dataroot.resolve()} {moment.token}".encode())
    place = folder / f"tokens-{key.hexdigest()[:24]}"
    place.mkdir(parents=True, exist_ok=True)
    found: dict[str, NDArray[np.float16]] = {}
    for sensor, name in sensors.items():
        spec = encoders[name].spec
        path = place / f"{sensor}.npy"
        found[sensor] = np.lib.format.open_memmap(
            path,
            mode="r+" if path.is_file() else "w+",
            dtype=np.float16,
            shape=(len(moments), spec.tokens, spec.width),
        )
    done_file = place / "done"
    done = int(done_file.read_text()) if done_file.is_file() else 0
    reader = _Reader(sensors, encoders)
    for number in range(done, len(moments)):
        for sensor, tokens in reader.tokens(moments[number]).items():
            found[sensor][number] = tokens
        if (number + 1) % _FLUSH_EVERY == 0 or number + 1 == len(moments):
            for tokens in found.values():
                tokens.flush()  # pyright: ignore[reportAttributeAccessIssue] - a memmap
            write_atomic(done_file, str(number + 1))
        if progress is not None:
            progress(number + 1, len(moments))
    return found


class _Reader:
    """Reads and encodes one keyframe after the other."""

    def __init__(self, sensors: Mapping[str, str], encoders: Mapping[str, Encoder]) -> None:
        self._sensors, self._encoders = sensors, encoders
        self._scene: tuple[object, ...] = ()
        self._sweeps: dict[str, dict[str, list[SensorFrame]]] = {}
        self._files = {}

    def tokens(self, moment: TrainingMoment) -> dict[str, NDArray[np.float32]]:
        """By sensor, of those whose frame can be used; cameras as one batch."""
        batches: dict[str, list[tuple[str, Mapping[str, NDArray[np.float32]]]]] = {}
        for sensor, name in self._sensors.items():
            encoder = self._encoders[name]
            try:
                frame, previous = self._frames(moment, sensor, encoder)
                batches.setdefault(name, []).append((sensor, encoder.prepare(frame, previous)))
            except SensorError:
                continue
        found: dict[str, NDArray[np.float32]] = {}
        for name, batch in batches.items():
            names = [sensor for sensor, _ in batch]
            made = self._encoders[name].encode([prepared for _, prepared in batch], names)
            found.update(zip(names, made, strict=True))
        return found

    def _frames(
        self, moment: TrainingMoment, sensor: str, encoder: Encoder
    ) -> tuple[SensorFrame, SensorFrame | None]:
        data = moment.data
        if sensor == OBJECTS:
            objects = annotated_objects(data, moment.token)
            return SensorFrame(OBJECTS, "objects", 0, "ego", objects), None
        window = encoder.spec.previous_ms
        if window is None:
            return data.read(data.sample_data(sensor, moment.token)), None
        newest, *older = self._older(moment, sensor)
        ages = {(newest.stamp_ns - file.stamp_ns) / 1e6: file for file in older}
        fitting = [age for age in ages if window[0] <= age <= window[1]]
        previous = None
        if fitting:
            middle = sum(window) / 2
            previous = data.read(ages[min(fitting, key=lambda age: abs(age - middle))])
        return data.read(newest), previous

    def _older(self, moment: TrainingMoment, sensor: str):
        scene = (id(moment.data), moment.scene)
        if scene != self._scene:
            self._scene, self._files = scene, {}
        if sensor not in self._files:
            self._files[sensor] = earlier_sweeps(moment.data, moment.scene, sensor)
        return self._files[sensor][moment.token]
