"""From frames to sensor rows: decodes, encodes and remembers, one entry per sensor.

A frame is encoded once, however many questions and steps use it. A frame that cannot be used is
tried once, reported with its reason, and never stops the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .connections import Connection, SensorRows
from .encoders import Encoder
from .errors import EngineError, SensorError
from .frames import SensorFrame
from .metrics import StageClock

Float = NDArray[np.float32]


@dataclass(frozen=True)
class SensorTokens:
    """What an encoder made of a frame.

    Attributes:
        frame: that was encoded.
        tokens: float32 `[tokens, width]`.
    """

    frame: SensorFrame
    tokens: Float


class Perception:
    """Encoders of all sensors, with the newest tokens of each."""

    def __init__(
        self, encoders: Mapping[str, Encoder], sensor_encoders: Mapping[str, str], threads: int
    ) -> None:
        """Put encoders to work.

        Args:
            encoders: by name.
            sensor_encoders: encoder name by sensor, in the order in which prefixes are joined.
            threads: frames that are decoded at once.
        """
        self._encoders = encoders
        self._sensor_encoders = dict(sensor_encoders)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tailwire-prepare")
        self._tokens: dict[str, SensorTokens] = {}
        self._refused: dict[str, tuple[SensorFrame, str]] = {}
        self._bad_frames = dict.fromkeys(self._sensor_encoders, 0)
        self._rows: dict[str, tuple[SensorTokens, Connection, SensorRows]] = {}

    @property
    def sensors(self) -> tuple[str, ...]:
        return tuple(self._sensor_encoders)

    def close(self) -> None:
        """Free the encoders."""
        self._pool.shutdown(cancel_futures=True)
        for encoder in self._encoders.values():
            encoder.close()

    def encoder_of(self, sensor: str) -> tuple[str, Encoder]:
        """Name and encoder of a sensor.

        Raises:
            SensorError: the sensor is unknown.
        """
        if sensor not in self._sensor_encoders:
            raise SensorError(
                f"there is no sensor '{sensor}'",
                field="sensor",
                remedy=f"use one of {', '.join(self._sensor_encoders)}",
            )
        name = self._sensor_encoders[sensor]
        return name, self._encoders[name]

    @property
    def bad_frames(self) -> dict[str, int]:
        """Frames per sensor that could not be used."""
        return dict(self._bad_frames)

    def is_new(self, frame: SensorFrame) -> bool:
        """Whether a frame has not been tried yet."""
        held = self._tokens.get(frame.sensor)
        return (held is None or held.frame is not frame) and self.refusal(frame) is None

    def refusal(self, frame: SensorFrame) -> str | None:
        """Why this very frame could not be used, or None if it could or has not been tried."""
        refused, reason = self._refused.get(frame.sensor, (None, None))
        return reason if refused is frame else None

    def tokens(self, sensor: str) -> SensorTokens | None:
        """The newest tokens of a sensor."""
        return self._tokens.get(sensor)

    def forget(self) -> None:
        """Drop all tokens, e.g. when time jumps back."""
        self._tokens.clear()
        self._rows.clear()
        self._refused.clear()

    def encode(self, frames: Sequence[SensorFrame], clock: StageClock) -> dict[str, str]:
        """Encode frames, those of one encoder as one batch.

        Args:
            frames: at most one per sensor.
            clock: gets the stages `prepare` and `encode <encoder>`.

        Returns:
            By sensor, why its frame could not be used.
        """
        dropped: dict[str, str] = {}
        with clock.stage("prepare"):
            prepared = list(self._pool.map(self._prepare, frames))
        batches: dict[str, list[tuple[SensorFrame, Float]]] = {}
        for frame, result in zip(frames, prepared, strict=True):
            if isinstance(result, SensorError):
                dropped[frame.sensor] = str(result)
            else:
                batches.setdefault(self._sensor_encoders[frame.sensor], []).append((frame, result))
        for name, batch in batches.items():
            with clock.stage(f"encode {name}"):
                dropped.update(self._encode_batch(name, batch))
        for frame in frames:
            if frame.sensor in dropped:
                self._refused[frame.sensor] = (frame, dropped[frame.sensor])
                self._bad_frames[frame.sensor] += 1
        return dropped

    def _prepare(self, frame: SensorFrame) -> Float | SensorError:
        try:
            _, encoder = self.encoder_of(frame.sensor)
            return encoder.prepare(frame)
        except SensorError as error:
            return error

    def _encode_batch(
        self, name: str, batch: Sequence[tuple[SensorFrame, Float]]
    ) -> dict[str, str]:
        encoder = self._encoders[name]
        try:
            tokens = encoder.encode(
                [prepared for _, prepared in batch], [frame.sensor for frame, _ in batch]
            )
        except (SensorError, EngineError) as error:
            if len(batch) == 1:
                return {batch[0][0].sensor: str(error)}
            # One bad frame must not cost the others: find it by encoding one by one.
            dropped: dict[str, str] = {}
            for item in batch:
                dropped.update(self._encode_batch(name, [item]))
            return dropped
        for (frame, _), made in zip(batch, tokens, strict=True):
            self._tokens[frame.sensor] = SensorTokens(frame, made)
        return {}

    def has_rows(self, sensor: str, connection: Connection) -> bool:
        """Whether `rows` of a sensor are there already."""
        held = self._rows.get(sensor)
        return held is not None and held[0] is self._tokens.get(sensor) and held[1] is connection

    def rows(self, sensors: Sequence[str], connection: Connection) -> list[SensorRows]:
        """Rows of sensors that have tokens, computed once per tokens and connection."""
        return [self._rows_of(sensor, connection) for sensor in sensors]

    def _rows_of(self, sensor: str, connection: Connection) -> SensorRows:
        if self.has_rows(sensor, connection):
            return self._rows[sensor][2]
        tokens = self._tokens[sensor]
        rows = connection.prepare(sensor, self._sensor_encoders[sensor], tokens.tokens)
        self._rows[sensor] = (tokens, connection, rows)
        return rows
