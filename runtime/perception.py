"""From frames to sensor rows: decodes, encodes and remembers, one entry per sensor.

A frame is encoded once, however many questions and steps use it. A frame that cannot be used is
tried once, reported with its reason, and never stops the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .connections import Connection, SensorRows
from .encoder_specs import HISTORY_MS
from .encoders import Encoder, Prepared
from .errors import EngineError, SensorError
from .frames import SensorFrame, SensorGeometry
from .metrics import StageClock, resident_memory_bytes
from .reloadable_engine import ReloadableEngine
from .standpoint import Standpoint
from .worker_cpus import CallingThread, Spread

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


@dataclass(frozen=True)
class _PreparedRows:
    """What a connection has made of tokens, and where these were carried to, None as they were."""

    tokens: SensorTokens
    connection: Connection
    here: Standpoint | None
    rows: SensorRows


class Perception:
    """Encoders of all sensors, with the newest tokens of each."""

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        sensor_encoders: Mapping[str, str],
        threads: int,
        mounts: Mapping[str, SensorGeometry] | None = None,
    ) -> None:
        """Put encoders to work.

        Args:
            encoders: by name.
            sensor_encoders: encoder name by sensor, in the order in which prefixes are joined.
            threads: frames that are decoded at once.
            mounts: by sensor, where it sits if its frames do not say so.
        """
        #: Whether what runs leave in memory is added to what their encoders hold.
        self.watches_memory = False
        self._encoders = encoders
        self._sensor_encoders = dict(sensor_encoders)
        self._mounts = dict(mounts or {})
        #: Frames that were encoded lately, of sensors whose encoder wants an earlier one.
        self._history: dict[str, list[SensorFrame]] = {}
        #: The thread that frames are called for from.
        self.calling = CallingThread(threads)
        self._pool = ThreadPoolExecutor(
            threads, thread_name_prefix="tailwire-prepare", initializer=Spread(threads)
        )
        self._tokens: dict[str, SensorTokens] = {}
        self._refused: dict[str, tuple[SensorFrame, str]] = {}
        self._bad_frames = dict.fromkeys(self._sensor_encoders, 0)
        self._rows: dict[str, _PreparedRows] = {}

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

    def mount(self, sensor: str) -> SensorGeometry | None:
        """Where a sensor sits if its frames do not say so; None if nobody knows."""
        return self._mounts.get(sensor)

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of all encoders."""
        return tuple(self._encoders)

    @property
    def reloadable(self) -> dict[str, ReloadableEngine]:
        """By encoder, the engines that can be dropped and loaded again."""
        found = {name: encoder.reloadable for name, encoder in self._encoders.items()}
        return {name: engine for name, engine in found.items() if engine is not None}

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
        self._history.clear()

    def encode(
        self,
        frames: Sequence[SensorFrame],
        clock: StageClock,
        *,
        most: int | None = None,
        skip: Callable[[str, int], str | None] | None = None,
    ) -> dict[str, str]:
        """Encode frames, those of one encoder as one batch; encoders are loaded if need be.

        Args:
            frames: at most one per sensor.
            clock: gets the stages `prepare`, `load <encoder>` and `encode <encoder>`.
            most: frames of a batch, None for no limit.
            skip: asked before each batch, with the encoder and the number of frames: why they are
                left for later, or None.

        Returns:
            By sensor, why its frame could not be used.
        """
        dropped: dict[str, str] = {}
        skipped: dict[str, str] = {}
        with clock.stage("prepare", size=len(frames)):
            prepared = list(self._pool.map(self._prepare, frames, map(self._previous, frames)))
        batches: dict[str, list[tuple[SensorFrame, Prepared]]] = {}
        for frame, result in zip(frames, prepared, strict=True):
            if isinstance(result, SensorError):
                dropped[frame.sensor] = str(result)
            else:
                batches.setdefault(self._sensor_encoders[frame.sensor], []).append((frame, result))
        for name, waiting in batches.items():
            step = most or len(waiting)
            for batch in (waiting[at : at + step] for at in range(0, len(waiting), step)):
                reason = None if skip is None else skip(name, len(batch))
                if reason is None:
                    dropped.update(self._load_and_encode(name, batch, clock))
                else:
                    skipped.update((frame.sensor, reason) for frame, _ in batch)
        for frame in frames:
            if frame.sensor in dropped:
                self._refused[frame.sensor] = (frame, dropped[frame.sensor])
                self._bad_frames[frame.sensor] += 1
        return dropped | skipped

    def _load_and_encode(
        self, name: str, batch: Sequence[tuple[SensorFrame, Prepared]], clock: StageClock
    ) -> dict[str, str]:
        engine = self._encoders[name].reloadable
        if engine is not None and not engine.is_loaded:
            try:
                with clock.stage(f"load {name}"):
                    engine.load()
            except EngineError as error:
                return {frame.sensor: str(error) for frame, _ in batch}
        with self._growth(engine), clock.stage(f"encode {name}", size=len(batch)):
            return self._encode_batch(name, batch)

    @contextmanager
    def _growth(self, engine: ReloadableEngine | None) -> Iterator[None]:
        """Add what runs of an engine leave in memory to what it holds."""
        before = resident_memory_bytes() if self.watches_memory else None
        yield
        after = None if before is None else resident_memory_bytes()
        if engine is not None and before is not None and after is not None:
            engine.grew(after - before)

    def rehearse(self, name: str, frames: int, *, most: int | None = None) -> None:
        """Run frames of zeros through an encoder, as many at once as `most` allows.

        Raises:
            EngineError: the encoder cannot be loaded or run.
        """
        encoder, step = self._encoders[name], most or frames
        with self._growth(encoder.reloadable):
            for start in range(0, frames, step):
                encoder.rehearse(min(step, frames - start))

    def rehearse_preparing(self, frames: Sequence[SensorFrame]) -> None:
        """Prepare frames as `encode` does, and do nothing with them.

        Raises:
            SensorError: a frame cannot be used.
        """
        for prepared in self._pool.map(self._prepare, frames, [None] * len(frames)):
            if isinstance(prepared, SensorError):
                raise prepared

    def _prepare(self, frame: SensorFrame, previous: SensorFrame | None) -> Prepared | SensorError:
        try:
            _, encoder = self.encoder_of(frame.sensor)
            return encoder.prepare(
                self._mounted(frame), None if previous is None else self._mounted(previous)
            )
        except SensorError as error:
            return error

    def _mounted(self, frame: SensorFrame) -> SensorFrame:
        """The frame, with what the pack says of its sensor where the frame does not."""
        mount, own = self._mounts.get(frame.sensor), frame.geometry
        if mount is None or (own is not None and own.intrinsic is not None):
            return frame
        if own is None:
            return replace(frame, geometry=mount)
        if mount.intrinsic is None:
            return frame
        lens = replace(own, intrinsic=mount.intrinsic, image_size=mount.image_size)
        return replace(frame, geometry=lens)

    def _previous(self, frame: SensorFrame) -> SensorFrame | None:
        """The earlier frame whose age suits the sensor's encoder best, None if none does."""
        window = self._window(frame.sensor)
        if window is None:
            return None
        least, most = window
        middle = (least + most) / 2
        fitting: list[tuple[float, SensorFrame]] = []
        for one in self._history.get(frame.sensor, ()):
            age_ms = (frame.stamp_ns - one.stamp_ns) / 1e6
            if least <= age_ms <= most:
                fitting.append((abs(age_ms - middle), one))
        return min(fitting, key=lambda found: found[0])[1] if fitting else None

    def _window(self, sensor: str) -> tuple[int, int] | None:
        name = self._sensor_encoders.get(sensor)
        return None if name is None else self._encoders[name].spec.previous_ms

    def _remember(self, frame: SensorFrame) -> None:
        """Keep an encoded frame for those behind it, and none that is too old for them."""
        if self._window(frame.sensor) is None:
            return
        held = self._history.get(frame.sensor, [])
        ages_ms = [(frame.stamp_ns - one.stamp_ns) / 1e6 for one in held]
        kept = [
            one
            for one, age_ms in zip(held, ages_ms, strict=True)
            if 0 <= age_ms <= HISTORY_MS and one is not frame
        ]
        self._history[frame.sensor] = [*kept, frame]

    def _encode_batch(
        self, name: str, batch: Sequence[tuple[SensorFrame, Prepared]]
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
            self._remember(frame)
        return {}

    def has_rows(self, sensor: str, connection: Connection, here: Standpoint | None = None) -> bool:
        """Whether `rows` of a sensor are there already."""
        held, tokens = self._rows.get(sensor), self._tokens.get(sensor)
        return (
            held is not None
            and tokens is not None
            and held.tokens is tokens
            and held.connection is connection
            and held.here == self._carried_to(tokens, here)
        )

    def carries(self, sensor: str, here: Standpoint | None) -> bool:
        """Whether the newest tokens of a sensor are brought forward before they are used."""
        held = self._tokens.get(sensor)
        return held is not None and self._carried_to(held, here) is not None

    def rows(
        self, sensors: Sequence[str], connection: Connection, here: Standpoint | None = None
    ) -> list[SensorRows]:
        """Rows of sensors that have tokens, computed once per tokens, connection and standpoint.

        Args:
            sensors: whose.
            connection: that makes them.
            here: where objects of earlier frames are carried to; None leaves them where they were.
        """
        return [self._rows_of(sensor, connection, here) for sensor in sensors]

    def _rows_of(self, sensor: str, connection: Connection, here: Standpoint | None) -> SensorRows:
        if self.has_rows(sensor, connection, here):
            return self._rows[sensor].rows
        held, name = self._tokens[sensor], self._sensor_encoders[sensor]
        carried_to, tokens = self._carried_to(held, here), held.tokens
        if carried_to is not None and (geometry := held.frame.geometry) is not None:
            tokens = carried_to.carry(tokens, held.frame.stamp_ns, geometry)
        rows = connection.prepare(sensor, name, tokens)
        self._rows[sensor] = _PreparedRows(held, connection, carried_to, rows)
        return rows

    def _carried_to(self, held: SensorTokens, here: Standpoint | None) -> Standpoint | None:
        """Where tokens are brought before they are used, None where they are used as they are."""
        frame = held.frame
        spec = self._encoders[self._sensor_encoders[frame.sensor]].spec
        if here is None or not here.carries(spec, frame.stamp_ns, frame.geometry):
            return None
        return here
