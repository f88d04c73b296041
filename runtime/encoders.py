"""Encoders: one sensor frame becomes a few tokens.

Holds how frames go through an encoder. What it takes is in `encoder_specs.py`, how a frame becomes
that in `encoder_inputs.py`; the engine is given, loading and building it is done elsewhere; what
becomes of tokens is a connection's affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.direction_tokens import DIRECTIONS, object_directions
from .detectors import GEOMETRY_WIDTH
from .encoder_inputs import (
    bev_grid_of,
    camera_geometry_of,
    directions_in_view,
    image_of,
    object_tokens_of,
    radar_tokens_of,
    range_image_of,
    sound_tokens_of,
)
from .encoder_specs import (
    BevInput,
    CameraInput,
    EncoderSpec,
    LidarInput,
    ObjectsInput,
    RadarInput,
    SoundInput,
)
from .engine import Engine, TensorSpec
from .errors import EngineError, SensorError
from .frames import SensorFrame
from .on_device import is_broken, is_on_device, run_keeping
from .reloadable_engine import ReloadableEngine

__all__ = [
    "BevInput",
    "CameraInput",
    "Encoder",
    "EncoderSpec",
    "LidarInput",
    "ObjectsInput",
    "Prepared",
    "RadarInput",
    "SoundInput",
]

Prepared = Mapping[str, NDArray[np.float32]]
"""A prepared frame: arrays by the names of the engine's inputs, without the batch axis."""

GEOMETRY = "geometry"
"""Input of a camera detector: float32 `[batch, 16]`, see `detectors.GEOMETRY_WIDTH`."""

_TOKENS = "tokens"
_REBUILD = "build the engine again, or correct the encoder's specification"


class Encoder:
    """Runs the frames of one modality through one engine; some kinds need none.

    `prepare` may be called from several threads at once; `encode` and `run` from one at a time, as
    the engine's contract says.
    """

    def __init__(self, spec: EncoderSpec, engine: Engine | None) -> None:
        """Put an engine behind a specification; the encoder closes it.

        Args:
            spec: what it is.
            engine: None for kinds that need none.

        Raises:
            EngineError: the inputs or outputs of the engine are not those of the specification.
        """
        self._spec = spec
        self._engine = engine
        self._input, self._output, self._batch = _TOKENS, _TOKENS, -1
        self._shapes: dict[str, tuple[int, ...]] = {}
        if not spec.needs_engine:
            if engine is not None:
                raise EngineError(
                    f"frames of kind {spec.kind} go through no engine",
                    field=spec.label,
                    remedy=_REBUILD,
                )
            return
        if engine is None:
            raise EngineError("there is no engine", field=spec.label, remedy=_REBUILD)
        wanted: dict[str, tuple[int, ...]] = {"": spec.input.shape}
        if spec.kind == "camera_detector":
            wanted[GEOMETRY] = (GEOMETRY_WIDTH,)
        self._input, batch = _matching(engine.input_specs, wanted, spec.label, "input")
        self._output, _ = _matching(
            engine.output_specs, {"": (spec.engine_tokens, spec.width)}, spec.label, "output"
        )
        self._batch = batch
        self._shapes = {name or self._input: shape for name, shape in wanted.items()}

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    @property
    def reloadable(self) -> ReloadableEngine | None:
        """Its engine, if that can be dropped and loaded again."""
        return self._engine if isinstance(self._engine, ReloadableEngine) else None

    def prepare(self, frame: SensorFrame, previous: SensorFrame | None = None) -> Prepared:
        """Pre-process one frame.

        Args:
            frame: a frame of this encoder's modality.
            previous: an earlier frame of the same sensor, for encoders with `previous_ms`.

        Returns:
            float32 arrays by input; the sensor's own is of shape `spec.input.shape`.

        Raises:
            SensorError: the payload is not what the modality sends, or is damaged or empty; or the
                frame does not say where its sensor was and the encoder needs it.
        """
        spec, given = self._spec, self._spec.input
        if frame.modality != spec.modality:
            raise SensorError(
                f"a {frame.modality} frame was given to a {spec.modality} encoder",
                field=frame.sensor,
                remedy="configure an encoder of the sensor's modality",
            )
        if isinstance(given, ObjectsInput):
            return {self._input: object_tokens_of(frame, spec.tokens)}
        if isinstance(given, RadarInput):
            return {self._input: radar_tokens_of(frame)}
        if isinstance(given, SoundInput):
            return {self._input: sound_tokens_of(frame)}
        if isinstance(given, BevInput):
            return {self._input: bev_grid_of(frame, previous, given)}
        if isinstance(given, LidarInput):
            return {self._input: range_image_of(frame, given)}
        prepared = {self._input: image_of(frame, given)}
        if spec.kind == "camera_detector":
            prepared[GEOMETRY] = camera_geometry_of(frame, given)
        return prepared

    def encode(
        self, prepared: Sequence[Prepared], sensors: Sequence[str] = ()
    ) -> NDArray[np.float32] | list[Any]:
        """Run prepared frames through the engine, as one batch where it takes one.

        Args:
            prepared: what `prepare` returned, one per frame.
            sensors: the name of each frame's sensor, for messages.

        Returns:
            float32 `[len(prepared), tokens, width]`, all finite; where the engine keeps results on
            its device, a list of them, one per frame (`on_device.py`).

        Raises:
            SensorError: the tokens of a frame are not finite.
            EngineError: the engine failed or is closed.
        """
        if not prepared:
            return np.empty((0, self._spec.tokens, self._spec.width), np.float32)
        step = len(prepared) if self._batch == -1 else 1
        parts: list[Any] = [
            self._tokens(prepared[start : start + step]) for start in range(0, len(prepared), step)
        ]
        if all(is_on_device(part) for part in parts):
            frames = [frame for part in parts for frame in part.device.split(part)]
            self._refuse([n for n, one in enumerate(frames) if is_broken(one)], sensors, prepared)
            return frames
        tokens = np.concatenate(parts).astype(np.float32, copy=False)
        self._refuse(np.unique(np.nonzero(~np.isfinite(tokens))[0]), sensors, prepared)
        return tokens

    def _refuse(
        self,
        broken: Sequence[int] | NDArray[np.int64],
        sensors: Sequence[str],
        prepared: Sequence[Prepared],
    ) -> None:
        if len(broken):
            names = [*sensors, *(f"frame {i}" for i in range(len(sensors), len(prepared)))]
            bad = [names[index] for index in broken]
            raise SensorError(
                f"the encoder {self._spec.label} gives tokens that are not finite",
                field=", ".join(bad),
                remedy="drop the frame; if it happens again, the encoder's weights are broken",
            )

    def _tokens(self, prepared: Sequence[Prepared]) -> NDArray[np.generic]:
        rows = self._run(prepared)
        if self._spec.objects is None:
            return rows
        return np.stack(
            [
                object_directions(found.astype(np.float32, copy=False), self._in_view(one))
                for found, one in zip(rows, prepared, strict=True)
            ]
        )

    def _in_view(self, prepared: Prepared) -> NDArray[np.bool_]:
        """Directions that the sensor looks to: a camera to some, a LiDAR to all."""
        if isinstance(self._spec.input, CameraInput):
            return directions_in_view(prepared[GEOMETRY], self._spec.input.width)
        return np.ones(DIRECTIONS, np.bool_)

    def _run(self, prepared: Sequence[Prepared]) -> NDArray[np.generic]:
        inputs = {name: np.stack([one[name] for one in prepared]) for name in prepared[0]}
        if self._engine is None:
            return inputs[self._output]
        # What is looked at here must come to the host.
        kept = (self._output,) if self._spec.objects is None else ()
        return run_keeping(self._engine, inputs, kept)[self._output]

    def run(self, frame: SensorFrame, previous: SensorFrame | None = None) -> NDArray[np.float32]:
        """Prepare and encode one frame.

        Returns:
            float32 `[tokens, width]`.

        Raises:
            SensorError: see `prepare` and `encode`.
            EngineError: see `encode`.
        """
        return np.asarray(self.encode([self.prepare(frame, previous)], [frame.sensor])[0])

    def rehearse(self, frames: int) -> None:
        """Run frames of zeros through the engine as one batch, to see what that costs.

        Raises:
            EngineError: see `encode`.
        """
        if self._engine is None:
            return
        step = frames if self._batch == -1 else 1
        for start in range(0, frames, step):
            batch = min(step, frames - start)
            self._engine.run(
                {
                    name: np.zeros((batch, *shape), np.float32)
                    for name, shape in self._shapes.items()
                }
            )

    def close(self) -> None:
        """Close the engine; a closed encoder raises EngineError when run."""
        if self._engine is not None:
            self._engine.close()


def _matching(
    specs: Sequence[TensorSpec], wanted: Mapping[str, tuple[int, ...]], file: str, what: str
) -> tuple[str, int]:
    """Check tensors `[batch, *shape]`, whose batch is free or 1.

    Args:
        specs: of the engine.
        wanted: shapes by name; the one without a name may have any.
        file: for messages.
        what: they are, for messages.

    Returns:
        Name of the one without a name, and the batch that all of them take.
    """
    if len(specs) != len(wanted):
        number = {1: "one", 2: "two"}[len(wanted)]
        raise EngineError(f"{len(specs)} {what}s instead of {number}", field=file, remedy=_REBUILD)
    named = {spec.name: spec for spec in specs}
    batches: set[int] = set()
    for name in filter(None, wanted):
        if name not in named:
            raise EngineError(f"there is no {what} {name}", field=file, remedy=_REBUILD)
        batches.add(_batch(named.pop(name), wanted[name], file, what))
    (own,) = named.values()
    batches.add(_batch(own, wanted[""], file, what))
    return own.name, -1 if batches == {-1} else 1


def _batch(found: TensorSpec, shape: tuple[int, ...], file: str, what: str) -> int:
    batch, *rest = found.shape or (0,)
    fits = len(rest) == len(shape) and all(
        size in (-1, wanted) for size, wanted in zip(rest, shape, strict=True)
    )
    if not fits or batch not in (-1, 1) or found.dtype != "float32":
        raise EngineError(
            f"the {what} {found.name} is {found.dtype} {list(found.shape)}, "
            f"but the encoder's is float32 {[-1, *shape]}",
            field=file,
            remedy=_REBUILD,
        )
    return batch
