"""Packs: encoders, connections and a manifest in one folder, without code and without pickles.

A pack fits one base model. Whatever does not fit (hash, shape, base) is refused by name before
anything runs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from .composition_specs import CompositionSpec, TextChangeSpec
from .connections import ConnectionSpec, check_weights, weight_shapes
from .encoder_specs import EncoderSpec, Finite
from .errors import PackError, SensorError
from .files import inside, sha256_of
from .frames import SensorGeometry
from .low_rank import LowRankChange, join, read_change
from .model_config import LanguageModelConfig

MANIFEST_NAME = "pack.yaml"

#: Has a gate like a modality, see `connections.weight_shapes`.
_SUMMARY = "summary"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Row = tuple[Finite, Finite, Finite]


class BaseModelSpec(BaseModel):
    """The language model that a pack was made for.

    Attributes:
        sha256: of its checkpoint; packs from before hashes were noted have none.
        tokenizer_sha256: of its tokenizer in the format of the `tokenizers` library.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    hidden_size: int = Field(gt=0)
    num_blocks: int = Field(gt=0)
    num_kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    sha256: Sha256 | None = None
    tokenizer_sha256: Sha256 | None = None

    @classmethod
    def of(
        cls,
        name: str,
        config: LanguageModelConfig,
        *,
        sha256: str | None = None,
        tokenizer_sha256: str | None = None,
    ) -> BaseModelSpec:
        """What a pack made for the model `name` says of it."""
        return cls(
            name=name,
            hidden_size=config.hidden_size,
            num_blocks=config.num_blocks,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            sha256=sha256,
            tokenizer_sha256=tokenizer_sha256,
        )


class PromptSpec(BaseModel):
    """How a question is put to the language model.

    Attributes:
        template: text with `{question}` where the question goes.
        answer_prefix: what stands before an allowed answer, e.g. a space.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    template: str
    answer_prefix: str = ""

    @model_validator(mode="after")
    def _has_place(self) -> PromptSpec:
        if self.template.count("{question}") != 1:
            raise ValueError("the template must hold {question} once")
        return self

    def render(self, question: str) -> str:
        return self.template.replace("{question}", question)


class MountSpec(BaseModel):
    """Where a sensor sits on the vehicle, for frames that do not say so themselves.

    Attributes:
        translation: x y z in the ego frame, metres.
        rotation: quaternion w x y z, ego from sensor.
        intrinsic: 3x3, of a camera, in pixels of its whole image.
        image_size: width and height of that image, pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    translation: tuple[Finite, Finite, Finite]
    rotation: tuple[Finite, Finite, Finite, Finite]
    intrinsic: tuple[_Row, _Row, _Row] | None = None
    image_size: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _is_a_geometry(self) -> MountSpec:
        length = math.hypot(*self.rotation)
        if not 0.5 < length < 2:
            raise ValueError("rotation is no quaternion of length 1")
        try:
            self.geometry()
        except SensorError as error:
            raise ValueError(f"{error.field}: {error.problem}") from error
        return self

    def geometry(self) -> SensorGeometry:
        """The same as frames have it; the pose of the vehicle is not known."""
        transform = np.eye(4)
        transform[:3, :3] = _rotation_matrix(self.rotation)
        transform[:3, 3] = self.translation
        intrinsic = None if self.intrinsic is None else np.array(self.intrinsic)
        return SensorGeometry(transform, intrinsic, self.image_size)


def _rotation_matrix(wxyz: Sequence[float]) -> NDArray[np.float64]:
    w, *vector = np.asarray(wxyz, np.float64) / math.hypot(*wxyz)
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


class SensorSpec(BaseModel):
    """A sensor that the pack knows.

    Attributes:
        name: of the sensor.
        encoder: name of its encoder in the pack.
        mount: where it sits, if its frames do not say so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    encoder: str
    mount: MountSpec | None = None


class FileSpec(BaseModel):
    """A file of the pack.

    Attributes:
        sha256: of its content.
        registry: name in the model registry, for weights that are not in the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    registry: str | None = None


class StandingQuestionSpec(BaseModel):
    """A question that the pack suggests for demonstrations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    answers: tuple[str, ...] | None = None


class PackManifest(BaseModel):
    """The content of `pack.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    name: str
    version: str
    description: str
    trained: bool
    licences: tuple[str, ...]
    base_model: BaseModelSpec
    prompt: PromptSpec
    sensors: tuple[SensorSpec, ...]
    encoders: dict[str, EncoderSpec]
    connection: ConnectionSpec
    tail_blocks: int = Field(gt=0)
    files: dict[str, FileSpec]
    questions: tuple[StandingQuestionSpec, ...] = ()
    calibration: str | None = None
    text: tuple[TextChangeSpec, ...] = ()
    composition: CompositionSpec | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> PackManifest:
        for sensor in self.sensors:
            if sensor.encoder not in self.encoders:
                raise ValueError(f"sensor {sensor.name} names no encoder of the pack")
        if len(self.sensor_encoders) != len(self.sensors):
            raise ValueError("sensors has a name twice")
        if _SUMMARY in self.encoders:
            raise ValueError(f"encoders has '{_SUMMARY}', which names a row of the connection")
        needed = {file for spec in self.encoders.values() for file in spec.files}
        needed.add(self.connection.file)
        if self.calibration is not None:
            needed.add(self.calibration)
        own = {self.connection.file, *(change.file for change in self.text)}
        if self.composition is not None:
            own |= self.composition.files
        needed |= own
        if needed - self.files.keys():
            raise ValueError(f"files lacks {sorted(needed - self.files.keys())}")
        elsewhere = [file for file in sorted(own) if self.files[file].registry is not None]
        if elsewhere:
            raise ValueError(f"files has {elsewhere} in the registry, they must lie in the pack")
        return self

    @model_validator(mode="after")
    def _depths_fit(self) -> PackManifest:
        if self.tail_blocks > self.connection.tail_blocks:
            raise ValueError("tail_blocks is deeper than the connection")
        if self.connection.tail_blocks > self.base_model.num_blocks:
            raise ValueError("connection.tail_blocks is deeper than base_model.num_blocks")
        return self

    @property
    def sensor_encoders(self) -> dict[str, str]:
        """Encoder name by sensor name."""
        return {sensor.name: sensor.encoder for sensor in self.sensors}

    @property
    def mounts(self) -> dict[str, SensorGeometry]:
        """By sensor name, of those that have one."""
        return {one.name: one.mount.geometry() for one in self.sensors if one.mount is not None}


@dataclass(frozen=True)
class Pack:
    """A pack whose files have been checked.

    Attributes:
        folder: where it lies.
        manifest: what it says.
        connection_weights: float32, as named by `connections.weight_shapes`.
    """

    folder: Path
    manifest: PackManifest
    connection_weights: dict[str, NDArray[np.float32]]

    @property
    def label(self) -> str:
        return f"{self.manifest.name} {self.manifest.version}"

    def text_change(self) -> LowRankChange | None:
        """What the pack changes in the language model for all text, None for nothing.

        Raises:
            PackError: a file is broken.
        """
        parts = [
            (spec.weight, read_change(inside(self.folder, spec.file, error=PackError)))
            for spec in self.manifest.text
        ]
        return join(parts) if parts else None

    @property
    def text_label(self) -> str:
        """Tells the change apart from others, in a few letters; empty for none."""
        if not self.manifest.text:
            return ""
        said = [
            f"{self.manifest.files[spec.file].sha256} {float(spec.weight).hex()}"
            for spec in self.manifest.text
        ]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]


def load_pack(folder: Path) -> Pack:
    """Read and check a pack.

    Raises:
        PackError: the manifest is broken, a file is missing or of another hash, or weights do not
            fit the manifest.
    """
    kept: dict[str, NDArray[np.float32]] = {}

    def read(path: Path) -> Mapping[str, NDArray[np.float32]]:
        kept.update(read_weights(path))
        return kept

    return Pack(folder, check_pack(folder, read), kept)


def check_pack(
    folder: Path, read: Callable[[Path], Mapping[str, NDArray[np.float32]]]
) -> PackManifest:
    """Check a pack as `load_pack` does, with the connection's weights read in another way.

    Args:
        folder: of the pack.
        read: gives the arrays of a file; each is asked for once.

    Raises:
        PackError: see `load_pack`.
    """
    manifest = read_manifest(folder)
    for name, spec in manifest.files.items():
        if spec.registry is None:
            _check_hash(folder, name, spec.sha256)
    path = inside(folder, manifest.connection.file, error=PackError)
    weights = read(path)
    encoders = {name: (spec.tokens, spec.width) for name, spec in manifest.encoders.items()}
    shapes = weight_shapes(
        manifest.connection, manifest.base_model, encoders, manifest.sensor_encoders
    )
    check_weights(weights, shapes, str(path))
    for change in manifest.text:
        # Checked and let go: whoever needs it reads it again, where engines are built.
        read_change(inside(folder, change.file, error=PackError))
    return manifest


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read a safetensors file of float32 arrays.

    Raises:
        PackError: it is missing, corrupt, of another format, or has arrays of another dtype.
    """
    return {name: array.astype(np.float32, copy=False) for name, array in _read(path, ("F32",))}


def read_encoder_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the state dict of an encoder: float32 or float16, returned as float32.

    The counters that torch keeps in batch norms are left out.

    Raises:
        PackError: see `read_weights`.
    """
    found = _read(path, ("F32", "F16"), skipped=".num_batches_tracked")
    return {name: array.astype(np.float32, copy=False) for name, array in found}


def _read(
    path: Path, wanted: tuple[str, ...], skipped: str | None = None
) -> list[tuple[str, NDArray[np.floating]]]:
    """Names and arrays of a safetensors file, without names that end in `skipped`."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = [n for n in file.keys() if skipped is None or not n.endswith(skipped)]  # noqa: SIM118
            # Asked for before reading: numpy lacks some of the format's dtypes.
            for name in names:
                dtype = file.get_slice(name).get_dtype()
                if dtype not in wanted:
                    floats = " or ".join(f"float{kind[1:]}" for kind in wanted)
                    raise PackError(
                        f"dtype {dtype} where {floats} is needed",
                        field=f"{path}: {name}",
                        remedy="convert the weights",
                    )
            return [(name, file.get_tensor(name)) for name in names]
    except (SafetensorError, OSError) as error:
        raise PackError(
            f"the weights cannot be read: {error}", field=str(path), remedy="copy the pack again"
        ) from error


def read_manifest(folder: Path) -> PackManifest:
    """Read `pack.yaml`.

    Raises:
        PackError: it is missing, no YAML, or a field is wrong.
    """
    return read_manifest_file(folder / MANIFEST_NAME)


def read_manifest_file(path: Path) -> PackManifest:
    """As `read_manifest`, of a file of any name."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: no UTF-8, or a date or number that YAML recognises and Python has not.
        raise PackError(
            f"the manifest cannot be read: {error}",
            field=str(path),
            remedy="give a folder with a pack.yaml",
        ) from error
    try:
        return PackManifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise PackError(
            first["msg"], field=f"{path}: {where}", remedy="correct this field"
        ) from error


def _check_hash(folder: Path, name: str, expected: str) -> None:
    path = inside(folder, name, error=PackError)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise PackError(
            f"the file cannot be read: {error}", field=str(path), remedy="copy the pack again"
        ) from error
    if found != expected:
        raise PackError(
            f"sha256 is {found}, the manifest says {expected}",
            field=str(path),
            remedy="copy the pack again; the file was changed or cut off",
        )


def check_base_model(manifest: PackManifest, config: LanguageModelConfig, name: str) -> None:
    """Refuse a language model that the pack was not made for.

    Raises:
        PackError: naming the first field that differs.
    """
    base = manifest.base_model
    for field in ("hidden_size", "num_blocks", "num_kv_heads", "head_dim"):
        wanted, found = getattr(base, field), getattr(config, field)
        if wanted != found:
            raise PackError(
                f"{field} is {found} in '{name}', the pack was made for {wanted} ('{base.name}')",
                field=f"{manifest.name}: base_model.{field}",
                remedy=f"use the language model '{base.name}', or a pack made for '{name}'",
            )
