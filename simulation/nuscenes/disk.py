"""Files and folders written so that a crash leaves either the whole under its name or none.

Nothing here knows of nuScenes.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...runtime.errors import DataError
from ...runtime.files import sync_folder

__all__ = ["begin_partial", "cannot_write", "partial_of", "sync_folder", "write_synced"]


def partial_of(out: Path) -> Path:
    """The folder in which `out` is written until all of it is there.

    Raises:
        DataError: `out` is there already.
    """
    if out.exists():
        raise DataError(
            "this is there already", field=str(out), remedy="remove it, or write elsewhere"
        )
    return out.with_name(f"{out.name}.partial")


def begin_partial(partial: Path) -> None:
    """Make the folder to write into; nobody else may have it.

    Raises:
        DataError: it is there already or cannot be made.
    """
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(error, partial) from error
    try:
        partial.mkdir()
    except FileExistsError as error:
        raise DataError(
            "an earlier write was cut off here, or another is at work",
            field=str(partial),
            remedy="remove it if nothing else writes there",
        ) from error
    except OSError as error:
        raise cannot_write(error, partial) from error


def cannot_write(error: OSError, path: Path) -> DataError:
    """What to say when the disk refuses."""
    return DataError(
        f"this cannot be written: {error.strerror or error}",
        field=str(path),
        remedy="name a folder that can be written, on a disk with enough space",
    )


def write_synced(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it and give it its name.

    Args:
        path: the file; its folders are made.
        content: all of its bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)
