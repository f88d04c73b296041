"""What an encoder takes, gives and comes from, as a pack says it: frozen and checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..kernels.bev_grid import CELL_M, RANGE_M, cells_of
from ..kernels.bev_grid import CHANNELS as BEV_CHANNELS
from ..kernels.direction_tokens import DIRECTION_WIDTH, DIRECTIONS
from ..kernels.object_tokens import TOKEN_WIDTH
from ..kernels.range_image import CHANNELS, RANGE_MEAN, RANGE_STD
from .frames import Modality

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rgb = tuple[Finite, Finite, Finite]
RgbScale = tuple[Positive, Positive, Positive]
RangeChannels = tuple[Finite, Finite, Finite, Finite, Finite]
RangeChannelsScale = tuple[Positive, Positive, Positive, Positive, Positive]

#: How long frames are kept for the ones behind them; no window reaches farther back.
HISTORY_MS = 1000


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


class BevInput(BaseModel):
    """A sweep from above with an earlier one, `[12, cells, cells]`, see `kernels.bev_grid`.

    Attributes:
        range_m: the grid reaches so far to all four sides of the vehicle.
        cell_m: side of a cell.
        previous_ms: how much older the earlier sweep may be, least and most; the one nearest to
            the middle is taken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["bev_grid"] = "bev_grid"
    range_m: Positive = RANGE_M
    cell_m: Positive = CELL_M
    previous_ms: tuple[int, int] = (200, 700)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one prepared frame."""
        cells = cells_of(self.range_m, self.cell_m)
        return (len(BEV_CHANNELS), cells, cells)

    @model_validator(mode="after")
    def _makes_a_grid(self) -> BevInput:
        cells_of(self.range_m, self.cell_m)
        least, most = self.previous_ms
        if not 0 < least <= most <= HISTORY_MS:
            raise ValueError(f"previous_ms must be two ages, 0 < least <= most <= {HISTORY_MS}")
        return self


class ObjectsInput(BaseModel):
    """Objects that a detector has found; they become tokens without an engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["objects"] = "objects"

    @property
    def shape(self) -> tuple[int, ...]:
        """Nothing goes into an engine."""
        return ()


class RadarInput(BaseModel):
    """Radar returns; they become tokens by direction without an engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["radar_returns"] = "radar_returns"

    @property
    def shape(self) -> tuple[int, ...]:
        """Nothing goes into an engine."""
        return ()


class SoundInput(BaseModel):
    """Levels of sound around the vehicle; they become tokens by direction without an engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["sound_levels"] = "sound_levels"

    @property
    def shape(self) -> tuple[int, ...]:
        """Nothing goes into an engine."""
        return ()


EncoderInput = CameraInput | LidarInput | BevInput | ObjectsInput | RadarInput | SoundInput

_MODALITY_OF_INPUT: dict[str, Modality] = {
    "image": "camera",
    "range_image": "lidar",
    "bev_grid": "lidar",
    "objects": "objects",
    "radar_returns": "radar",
    "sound_levels": "audio",
}
#: Kinds of encoders that take one kind of input, and the only ones that take it where so.
_INPUT_OF_KIND = {
    "efficientnet_lite0": "image",
    "range_encoder": "range_image",
    "camera_detector": "image",
    "bev_detector": "bev_grid",
    "objects": "objects",
    "radar_directions": "radar_returns",
    "sound_directions": "sound_levels",
}
#: Kinds without an engine, and how wide their tokens are; they have no file.
_WITHOUT_ENGINE = {
    "objects": TOKEN_WIDTH,
    "radar_directions": DIRECTION_WIDTH,
    "sound_directions": DIRECTION_WIDTH,
}


class EncoderSpec(BaseModel):
    """What an encoder takes, gives and comes from.

    Attributes:
        modality: whose frames it takes.
        kind: how `file` becomes a graph: `onnx` is one already, the others name their builder;
            `objects`, `radar_directions` and `sound_directions` need none. Detectors, and
            `objects`, give object tokens in the ego frame (`kernels.object_tokens`), the last two
            tokens by direction (`kernels.direction_tokens`).
        input: pre-processing, told apart by its own `kind`.
        tokens: tokens per frame.
        objects: of a detector whose objects become tokens by direction: how many it finds at most;
            None where each object is a token.
        width: width of a token.
        file: name of the graph or the weights, without folders; empty for kinds without any.
        backbone: of a camera detector: name of the ImageNet weights below it among the pack's
            `files`, as a rule with a name in the registry there.
        licence: of the weights, e.g. an SPDX identifier.
        source: where the weights come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Modality
    kind: Literal[
        "efficientnet_lite0",
        "range_encoder",
        "camera_detector",
        "bev_detector",
        "objects",
        "radar_directions",
        "sound_directions",
        "onnx",
    ]
    input: Annotated[EncoderInput, Field(discriminator="kind")]
    tokens: int = Field(gt=0)
    width: int = Field(gt=0)
    objects: int | None = Field(default=None, gt=0)
    file: str = Field(default="", pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.+-]*)?$")
    backbone: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$")
    licence: str = Field(min_length=1)
    source: str = Field(min_length=1)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all its files."""
        return tuple(name for name in (self.file, self.backbone) if name)

    @property
    def needs_geometry(self) -> bool:
        """Whether a frame must say where its sensor was."""
        return self.kind == "camera_detector" or isinstance(self.input, BevInput)

    @property
    def gives_objects(self) -> bool:
        """Whether its tokens are object tokens in the ego frame."""
        detects = self.kind in ("camera_detector", "bev_detector", "objects")
        return detects and self.objects is None

    @property
    def needs_engine(self) -> bool:
        """Whether frames go through an engine."""
        return self.kind not in _WITHOUT_ENGINE

    @property
    def engine_tokens(self) -> int:
        """Rows that its engine gives."""
        return self.tokens if self.objects is None else self.objects

    @property
    def previous_ms(self) -> tuple[int, int] | None:
        """Ages of the earlier frame that it would like to have, None if it wants none."""
        return self.input.previous_ms if isinstance(self.input, BevInput) else None

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.file or self.kind

    @model_validator(mode="after")
    def _input_is_of_the_modality(self) -> EncoderSpec:
        if _MODALITY_OF_INPUT[self.input.kind] != self.modality:
            raise ValueError(f"a {self.modality} does not give the input {self.input.kind}")
        wanted = _INPUT_OF_KIND.get(self.kind)
        if wanted not in (None, self.input.kind):
            raise ValueError(f"kind {self.kind} takes the input {wanted}, not {self.input.kind}")
        return self

    @model_validator(mode="after")
    def _detectors_give_object_tokens(self) -> EncoderSpec:
        is_detector = self.kind in ("camera_detector", "bev_detector")
        if is_detector and self.width != TOKEN_WIDTH:
            raise ValueError(f"width must be {TOKEN_WIDTH} for kind {self.kind}")
        if self.objects is not None and not is_detector:
            raise ValueError("objects goes with kinds camera_detector and bev_detector only")
        if (self.backbone is not None) != (self.kind == "camera_detector"):
            raise ValueError("backbone goes with kind camera_detector, and with no other")
        return self

    @model_validator(mode="after")
    def _directions_are_six(self) -> EncoderSpec:
        by_direction = self.kind in ("radar_directions", "sound_directions")
        if (by_direction or self.objects is not None) and self.tokens != DIRECTIONS:
            raise ValueError(f"tokens must be {DIRECTIONS} where they go by direction")
        return self

    @model_validator(mode="after")
    def _only_engines_need_a_file(self) -> EncoderSpec:
        if self.needs_engine:
            if not self.file:
                raise ValueError(f"file is missing for kind {self.kind}")
            for kind in _WITHOUT_ENGINE:
                if self.input.kind == _INPUT_OF_KIND[kind]:
                    raise ValueError(f"the input {self.input.kind} goes with kind {kind}")
            return self
        if self.file:
            raise ValueError(f"file must be left out for kind {self.kind}, which has no weights")
        if self.width != _WITHOUT_ENGINE[self.kind]:
            raise ValueError(f"width must be {_WITHOUT_ENGINE[self.kind]} for kind {self.kind}")
        return self
