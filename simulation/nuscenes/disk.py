"""Files written so that a crash leaves either the whole file under its name or none.

Nothing here knows of nuScenes.
"""

from __future__ import annotations

import os
from pathlib import Path


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


def sync_folder(path: Path) -> None:
    """Make the names in a folder last over a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
