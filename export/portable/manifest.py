"""What lies in a folder that `tailwire export` wrote: `export.json`, with a hash of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ...runtime.errors import EngineError
from ...runtime.files import inside, sha256_of
from ...runtime.pack import PackManifest

MANIFEST_NAME = "export.json"

#: Folder of the language model's stages, in the layout of `runtime/model_manifest.py`.
LANGUAGE_MODEL_FOLDER = "language_model"

Target = Literal["onnx", "tensorrt"]


class TensorShapes(BaseModel):
    """One input or output of a graph, with the shapes that engines are built for.

    Attributes:
        name: of the tensor.
        dtype: e.g. `float32`.
        shape: sizes, or names of free dimensions.
        least: the smallest shape.
        usual: what engines are tuned for.
        most: the largest shape.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    least: tuple[int, ...]
    usual: tuple[int, ...]
    most: tuple[int, ...]


class ExportedGraph(BaseModel):
    """One graph.

    Attributes:
        role: `encoder <name>`, `connection`, `embed`, `blocks <start>-<stop>`, `logits`.
        file: of the graph, below the folder; its large constants lie beside it.
        precision: of its products: how weights are stored, and `-fp16` where 8 or 4 bits are
            multiplied in float16.
        opset: of ONNX.
        inputs: in the graph's order.
        outputs: in the graph's order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: str
    file: str
    precision: str
    opset: int
    inputs: tuple[TensorShapes, ...]
    outputs: tuple[TensorShapes, ...]


class FileHash(BaseModel):
    """Size and hash of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    sha256: str


class ExportManifest(BaseModel):
    """Index of an exported pack.

    Attributes:
        format: of this file.
        tailwire: version that wrote it.
        target: what it was written for.
        pack: name of the pack.
        pack_sha256: see `pack_identity`.
        model: name of the language model.
        model_sha256: of its checkpoint.
        graphs: all graphs.
        files: by name below the folder, all files but this one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    tailwire: str
    target: Target
    pack: str
    pack_sha256: str
    model: str
    model_sha256: str
    graphs: tuple[ExportedGraph, ...]
    files: Mapping[str, FileHash]

    def graph(self, role: str) -> ExportedGraph:
        """The graph of a role.

        Raises:
            EngineError: there is none.
        """
        for graph in self.graphs:
            if graph.role == role:
                return graph
        raise EngineError(
            f"no graph '{role}' was exported",
            field="graphs",
            remedy="export the pack again with this version of Tailwire",
        )


def read_export(folder: Path, *, verify: bool = False) -> ExportManifest:
    """Read the manifest of a folder that `tailwire export` wrote.

    Args:
        folder: with `export.json`.
        verify: also hash every file.

    Raises:
        EngineError: the manifest is missing or broken, a file is missing, or one has changed.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = ExportManifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise EngineError(
            f"the export cannot be read: {error}",
            field=str(path),
            remedy="give a folder that `tailwire export` wrote, or export again",
        ) from error
    for name, record in manifest.files.items():
        file = inside(folder, name, error=EngineError)
        found = file.stat().st_size if file.is_file() else -1
        if found != record.size_bytes or (verify and sha256_of(file) != record.sha256):
            problem = "is missing" if found < 0 else "has changed since the export"
            raise EngineError(f"the file {problem}", field=str(file), remedy="export again")
    return manifest


def pack_identity(pack: PackManifest) -> str:
    """A hash of all that graphs of a pack depend on.

    Weights of the connection are inputs of its graph, so they may change, as may calibration,
    questions and descriptions.
    """
    left_out = {pack.connection.file, pack.calibration}
    content = {
        **pack.model_dump(mode="json", include={"base_model", "encoders", "tail_blocks"}),
        "connection": pack.connection.model_dump(mode="json", exclude={"file", "lora_rank"}),
        "files": {
            name: file.sha256
            for name, file in pack.files.items()
            if name not in left_out and not name.endswith(".md")
        },
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hashes_of(folder: Path) -> dict[str, FileHash]:
    """Size and hash of every file below a folder, by its name there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): FileHash(
            size_bytes=path.stat().st_size, sha256=sha256_of(path)
        )
        for path in files
        if path.name != MANIFEST_NAME
    }
