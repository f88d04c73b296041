"""Folders of new packs: made aside, given their name when they are whole, never over another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import ConfigError
from .files import cache_error, partial_name, sync_folder


def check_target(folder: Path, kind: str = "pack") -> None:
    """Refuse a folder that would be written over.

    Args:
        folder: of the new pack.
        kind: what it is, for the message.

    Raises:
        ConfigError: something is there.
    """
    if folder.exists() or folder.is_symlink():
        raise ConfigError(
            "something is there already, and packs are never written over",
            field=str(folder),
            remedy=f"name a new folder for the {kind}",
        )


@contextmanager
def new_pack(folder: Path, kind: str = "pack") -> Iterator[Path]:
    """A folder to fill and check; at the end of the block it gets its name.

    Args:
        folder: of the new pack; absent until then, and for good where the block fails.
        kind: see `check_target`.

    Raises:
        ConfigError: something is there.
        CacheError: the disk is full, or the folder cannot be written.
    """
    check_target(folder, kind)
    aside = folder.parent / partial_name(folder.name)
    try:
        aside.mkdir(parents=True)
        yield aside
        check_target(folder, kind)
        aside.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise cache_error(error, folder) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(aside)
