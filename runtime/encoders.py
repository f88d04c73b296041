"""Encoders: one sensor frame becomes a few tokens.

Holds what an encoder is (its specification, frozen and checked) and how frames go through it. The
engine is given, loading and building it is done elsewhere; what becomes of tokens is a connection's
affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..kernels.image import decode_image, preprocess_image
from ..kernels.range_image import CHANNELS, RANGE_MEAN, RANGE_STD, range_image
from .engine import Engine, TensorSpec
from .errors import EngineError, SensorError
from .frames import Modality, SensorFrame

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rgb = tuple[Finite, Finite, Finite]
RgbScale = tuple[Positive, Positive, Positive]
RangeChannels = tuple[Finite, Finite, Finite, Finite, Finite]
RangeChannelsScale = tuple[Positive, Positive, Positive, Positive, Positive]


class CameraInput(BaseModel):
    """A picture `[3, height, width]`, RGB, `(value - mean) / std` of values 0..255."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["image"] = "image"
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    mean: Rgb = (127.0, 127.0, 127.0)
    std: RgbScale = (128.0, 128.0, 128.0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one prepared frame."""
        return (3, self.height, self.width)


class LidarInput(BaseModel):
    """A range image `[5, height, width]`, see `kernels.range_image`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["range_image"] = "range_image"
    height: int = Field(default=32, gt=0)
    width: int = Field(default=2048, gt=0)
    fov_up_deg: float = Field(default=10.0, ge=-90, le=90)
    fov_down_deg: float = Field(default=-30.0, ge=-90, le=90)
    intensity_max: Positive = 255.0
    mean: RangeChannels = RANGE_MEAN
    std: RangeChannelsScale = RANGE_STD

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one prepared frame."""
        return (len(CHANNELS), self.height, self.width)

    @model_validator(mode="after")
    def _down_is_below_up(self) -> LidarInput:
        if self.fov_down_deg >= self.fov_up_deg:
            raise ValueError("fov_down_deg must lie below fov_up_deg")
        return self


class EncoderSpec(BaseModel):
    """What an encoder takes, gives and comes from.

    Attributes:
        modality: whose frames it takes.
        kind: how `file` becomes a graph: `onnx` is one already, the others name their builder.
        input: pre-processing, told apart by its own `kind`.
        tokens: tokens per frame.
        width: width of a token.
        file: name of the graph or the weights, without folders.
        licence: of the weights, e.g. an SPDX identifier.
        source: where the weights come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Modality
    kind: Literal["efficientnet_lite0", "range_encoder", "onnx"]
    input: Annotated[CameraInput | LidarInput, Field(discriminator="kind")]
    tokens: int = Field(gt=0)
    width: int = Field(gt=0)
    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$")
    licence: str = Field(min_length=1)
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _input_is_of_the_modality(self) -> EncoderSpec:
        if isinstance(self.input, CameraInput) != (self.modality == "camera"):
            raise ValueError(f"a {self.modality} does not give the input {self.input.kind}")
        return self


class Encoder:
    """Runs the frames of one modality through one engine.

    `prepare` may be called from several threads at once; `encode` and `run` from one at a time, as
    the engine's contract says.
    """

    def __init__(self, spec: EncoderSpec, engine: Engine) -> None:
        """Put an engine behind a specification; the encoder closes it.

        Raises:
            EngineError: the inputs or outputs of the engine are not those of the specification.
        """
        self._spec = spec
        self._engine = engine
        self._input, batch = _matching(engine.input_specs, spec.input.shape, spec.file, "input")
        self._output, _ = _matching(
            engine.output_specs, (spec.tokens, spec.width), spec.file, "output"
        )
        self._batch = batch

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    def prepare(self, frame: SensorFrame) -> NDArray[np.float32]:
        """Pre-process one frame.

        Args:
            frame: a frame of this encoder's modality.

        Returns:
            float32 of shape `spec.input.shape`.

        Raises:
            SensorError: the payload is not what the modality sends, or is damaged or empty.
        """
        if frame.modality != self._spec.modality:
            raise SensorError(
                f"a {frame.modality} frame was given to a {self._spec.modality} encoder",
                field=frame.sensor,
                remedy="configure an encoder of the sensor's modality",
            )
        if isinstance(self._spec.input, CameraInput):
            return _prepare_image(frame, self._spec.input)
        return _prepare_cloud(frame, self._spec.input)

    def encode(
        self, prepared: Sequence[NDArray[np.float32]], sensors: Sequence[str] = ()
    ) -> NDArray[np.float32]:
        """Run prepared frames through the engine, as one batch where it takes one.

        Args:
            prepared: what `prepare` returned, one per frame.
            sensors: the name of each frame's sensor, for messages.

        Returns:
            float32 `[len(prepared), tokens, width]`, all finite.

        Raises:
            SensorError: the tokens of a frame are not finite.
            EngineError: the engine failed or is closed.
        """
        if not prepared:
            return np.empty((0, self._spec.tokens, self._spec.width), np.float32)
        step = len(prepared) if self._batch == -1 else 1
        parts = [
            self._engine.run({self._input: np.stack(prepared[start : start + step])})[self._output]
            for start in range(0, len(prepared), step)
        ]
        tokens = np.concatenate(parts).astype(np.float32, copy=False)
        broken = np.unique(np.nonzero(~np.isfinite(tokens))[0])
        if len(broken):
            names = [*sensors, *(f"frame {i}" for i in range(len(sensors), len(prepared)))]
            bad = [names[index] for index in broken]
            raise SensorError(
                f"the encoder {self._spec.file} gives tokens that are not finite",
                field=", ".join(bad),
                remedy="drop the frame; if it happens again, the encoder's weights are broken",
            )
        return tokens

    def run(self, frame: SensorFrame) -> NDArray[np.float32]:
        """Prepare and encode one frame.

        Returns:
            float32 `[tokens, width]`.

        Raises:
            SensorError: see `prepare` and `encode`.
            EngineError: see `encode`.
        """
        return self.encode([self.prepare(frame)], [frame.sensor])[0]

    def close(self) -> None:
        """Close the engine; a closed encoder raises EngineError when run."""
        self._engine.close()


def _matching(
    specs: Sequence[TensorSpec], shape: tuple[int, ...], file: str, what: str
) -> tuple[str, int]:
    """Return name and batch size of the one tensor `[batch, *shape]`; a batch is free or 1."""
    remedy = "build the engine again, or correct the encoder's specification"
    if len(specs) != 1:
        raise EngineError(f"{len(specs)} {what}s instead of one", field=file, remedy=remedy)
    found = specs[0]
    batch, *rest = found.shape or (0,)
    fits = len(rest) == len(shape) and all(
        size in (-1, wanted) for size, wanted in zip(rest, shape, strict=True)
    )
    if not fits or batch not in (-1, 1) or found.dtype != "float32":
        raise EngineError(
            f"the {what} {found.name} is {found.dtype} {list(found.shape)}, "
            f"but the encoder's is float32 {[-1, *shape]}",
            field=file,
            remedy=remedy,
        )
    return found.name, batch


def _prepare_image(frame: SensorFrame, spec: CameraInput) -> NDArray[np.float32]:
    target = (spec.height, spec.width, spec.mean, spec.std)
    try:
        if isinstance(frame.payload, bytes):
            return decode_image(frame.payload, *target)
        if isinstance(frame.payload, np.ndarray):
            return preprocess_image(frame.payload, *target)  # pyright: ignore[reportArgumentType] - dtype is checked there
    except ValueError as error:
        raise SensorError(
            str(error),
            field=frame.sensor,
            remedy="send uint8 RGB [H, W, 3] or a whole JPEG or PNG file; "
            "for damaged files check the camera's driver and link",
        ) from error
    raise _unknown_payload(frame, "uint8 RGB [H, W, 3] or the bytes of a JPEG or PNG file")


def _prepare_cloud(frame: SensorFrame, spec: LidarInput) -> NDArray[np.float32]:
    if not isinstance(frame.payload, np.ndarray):
        raise _unknown_payload(frame, "float32 [n, 4+]")
    try:
        return range_image(
            frame.payload,  # pyright: ignore[reportArgumentType] - dtype is checked there
            spec.height,
            spec.width,
            spec.fov_up_deg,
            spec.fov_down_deg,
            intensity_max=spec.intensity_max,
            mean=spec.mean,
            std=spec.std,
        )
    except ValueError as error:
        raise SensorError(
            str(error),
            field=frame.sensor,
            remedy="send float32 [n, 4+] of x y z intensity with at least one finite point; "
            "for empty clouds check the LiDAR's driver and its field of view",
        ) from error


def _unknown_payload(frame: SensorFrame, wanted: str) -> SensorError:
    return SensorError(
        f"the payload is a {type(frame.payload).__name__}",
        field=frame.sensor,
        remedy=f"send {wanted}",
    )
