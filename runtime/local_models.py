"""Models that are used where they lie: `.gguf` files and Hugging Face folders.

Which files make up such a model, and the hash of them all. What is in them is not known here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

from .errors import ModelError
from .files import recorded_sha256, sha256_of


def local_model_files(path: Path) -> list[Path]:
    """The files that make up a local model, after a check that all of them are there.

    Args:
        path: a `.gguf` file, or a folder in the Hugging Face layout: `config.json`,
            `tokenizer.json`, and `*.safetensors` with its index if there are several; files with
            a chat template belong to it where they are there.

    Raises:
        ModelError: a file is missing or is not what its name says.
    """
    try:
        if path.is_dir():
            return _hugging_face_files(path)
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as exc:
        raise unreadable(path, exc) from exc
    if magic != b"GGUF":
        raise ModelError(
            "this is neither a GGUF file nor a Hugging Face folder",
            field=str(path),
            remedy="give a .gguf file, or a folder with config.json and *.safetensors",
        )
    return [path]


def content_sha256(path: Path, *, records: Path | None = None, fresh: bool = False) -> str:
    """The hash of a local model: of a `.gguf` file its sha256.

    Of a folder, what `sha256sum FILES | sha256sum` prints there for the files of
    `local_model_files` in the order of their names.

    Args:
        path: as in `local_model_files`.
        records: folder for the records of `recorded_sha256`; without it all files are read.
        fresh: read all files in any case.

    Raises:
        ModelError: as `local_model_files`, or a file cannot be read.
    """
    lines: list[str] = []
    for file in sorted(local_model_files(path), key=lambda file: file.name):
        try:
            if records is None:
                digest = sha256_of(file)
            else:
                label = hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:32]
                digest = recorded_sha256(file, records / f"{label}.json", fresh=fresh)
        except OSError as exc:
            raise unreadable(file, exc) from exc
        if not path.is_dir():
            return digest
        lines.append(f"{digest}  {file.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hugging_face_files(folder: Path) -> list[Path]:
    files = [folder / "config.json", folder / "tokenizer.json"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = _json_object(index).get("weight_map")
        shards = set(weight_map.values()) if isinstance(weight_map, dict) else set()
        if not shards or any(PurePosixPath(str(s)).name != s for s in shards):
            raise ModelError(
                "`weight_map` must map tensors to names of files in the same folder",
                field=str(index),
                remedy="copy the folder again from where it came",
            )
        files += [index, *(folder / str(shard) for shard in sorted(shards))]
    elif (folder / "model.safetensors").is_file():
        files.append(folder / "model.safetensors")
    else:
        files += sorted(folder.glob("*.safetensors")) or [folder / "model.safetensors"]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        pickled = any(folder.glob("*.bin")) and "model.safetensors" in missing
        raise ModelError(
            f"the folder lacks {', '.join(missing)}",
            field=str(folder),
            remedy="convert its *.bin weights to safetensors (pickle files are never loaded)"
            if pickled
            else "copy the missing files from where the model came",
        )
    _json_object(folder / "config.json")
    # These hold the chat template, which engines keep too.
    optional = (folder / name for name in ("chat_template.jinja", "tokenizer_config.json"))
    return [*files, *(file for file in optional if file.is_file())]


def _json_object(file: Path) -> dict[str, object]:
    try:
        value = json.loads(file.read_bytes())
    except ValueError as exc:
        value = exc
    if not isinstance(value, dict):
        raise ModelError(
            "the file holds no JSON object",
            field=str(file),
            remedy="copy it again from where the model came",
        )
    return value


def unreadable(path: Path, exc: Exception) -> ModelError:
    """The error for a model file that is missing, may not be read, or was cut off."""
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
    return ModelError(
        f"cannot be read: {reason}",
        field=str(path),
        remedy="check the path, and that the file was copied whole",
    )
