"""The cache of built engines: one folder per engine, complete or absent, never half.

An engine is found by everything that it was made from and made for (`EngineKey`). How an engine
is built and loaded is the business of `export/` and `runtime/backends/`.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from .engine_key import EngineKey
from .errors import CacheError, EngineError
from .files import (
    PARTIAL_PREFIX,
    Progress,
    cache_error,
    folder_lock,
    free_bytes,
    inside,
    is_disk_full,
    partial_name,
    readable_bytes,
    sha256_of,
    sync_folder,
    write_atomic,
)

MANIFEST = "manifest.json"

_LOCKS = ".locks"
_ENTRY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*-[0-9a-f]{16}")
_NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class FileRecord(BaseModel):
    """Size and hash of one file of an engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    sha256: str


class Manifest(BaseModel):
    """What `manifest.json` says; it is written last, so an engine that has one is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: EngineKey
    files: Mapping[str, FileRecord]
    created: str
    tailwire_version: str

    @property
    def size_bytes(self) -> int:
        """Bytes of all files of the engine."""
        return sum(record.size_bytes for record in self.files.values())


@dataclass(frozen=True)
class StoredEngine:
    """One complete engine in the store."""

    path: Path
    manifest: Manifest
    last_used_ns: int


class EngineStore:
    """Engines below one folder, shared by all processes that use it.

    Args:
        root: made when the first engine is built; may be read-only when all engines are there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def get(
        self,
        key: EngineKey,
        build: Callable[[Path], None],
        *,
        expected_bytes: int = 0,
        progress: Progress | None = None,
    ) -> Path:
        """The folder of the engine, built now if it is not there.

        The check of an engine that is there reads file sizes, not contents; see `verify`.

        Args:
            key: which engine.
            build: writes the engine's files into the empty folder that it is given. Only one
                process builds an engine; the others wait for it.
            expected_bytes: about how large the engine will be, if known: a disk that is too
                full is then refused before the work is done.
            progress: told when a build starts or has to be waited for.

        Raises:
            CacheError: the cache cannot be written, or its disk is full. What was there stays.
            EngineError: the build left no file, or something that is no regular file.
            Exception: whatever `build` raises, unchanged, after its folder was removed.
        """
        entry = self.root / key.folder_name
        if self._is_usable(entry, key):
            return entry
        told = progress or _silent
        waiting = f"waiting for another process that is building {entry.name}"
        with self._locked(entry.name, on_wait=lambda _: told(waiting)):
            if self._is_usable(entry, key):
                return entry
            self._discard(entry)
            self._remove_leftovers(locked=entry.name)
            self._check_space(expected_bytes)
            told(f"building {entry.name}")
            self._build(entry, key, build, expected_bytes)
        return entry

    def verify(self, entry: Path) -> bool:
        """Hash every file of an engine that `get` returned.

        Returns:
            True for an intact engine. False for one that was not: it has been removed, and the
            next `get` builds it anew.

        Raises:
            CacheError: `entry` is not in this store, or a broken one cannot be removed.
        """
        if entry.parent.resolve() != self.root.resolve():
            raise CacheError(
                f"this engine is not in the store {self.root}",
                field=str(entry),
                remedy="give a folder that EngineStore.get returned",
            )
        if _is_intact(entry):
            return True
        with self._locked(entry.name):
            # Somebody else may have replaced it while the lock was waited for.
            if not _is_intact(entry):
                self._discard(entry)
        return False

    def entries(self) -> list[StoredEngine]:
        """All complete engines, of this machine and of others, least recently used first."""
        found: list[StoredEngine] = []
        for path in self._folders():
            manifest = _complete_manifest(path)
            if manifest is not None:
                with suppress(FileNotFoundError):  # pruned by another process just now
                    used = (path / MANIFEST).stat().st_mtime_ns
                    found.append(StoredEngine(path=path, manifest=manifest, last_used_ns=used))
        return sorted(found, key=lambda engine: (engine.last_used_ns, engine.path.name))

    def size_bytes(self) -> int:
        """Bytes of all files below the root, unfinished and broken engines included."""
        return _tree_bytes(self.root)

    def prune(self, max_bytes: int) -> list[Path]:
        """Remove leftovers, then the least recently used engines until the rest fits.

        An engine that another process is building stays. One that is already loaded keeps
        working, because its files live until they are closed.

        Returns:
            The folders of the complete engines that were removed.

        Raises:
            CacheError: the cache cannot be written.
        """
        self._remove_leftovers()
        engines = self.entries()
        kept_bytes = sum(_tree_bytes(engine.path) for engine in engines)
        removed: list[Path] = []
        for engine in engines:
            if kept_bytes <= max_bytes:
                break
            with self._locked(engine.path.name, wait=False) as held:
                if held:
                    kept_bytes -= _tree_bytes(engine.path)
                    self._discard(engine.path)
                    removed.append(engine.path)
        return removed

    def _folders(self) -> list[Path]:
        try:
            return [path for path in self.root.iterdir() if _ENTRY_NAME.fullmatch(path.name)]
        except OSError:
            return []

    def _locked(
        self, name: str, *, wait: bool = True, on_wait: Progress | None = None
    ) -> AbstractContextManager[bool]:
        return folder_lock(self.root / _LOCKS, name=f"{name}.lock", wait=wait, on_wait=on_wait)

    def _is_usable(self, entry: Path, key: EngineKey) -> bool:
        manifest = _complete_manifest(entry)
        if manifest is None or manifest.key != key:
            return False
        # The use is noted for `prune`. A read-only cache cannot be pruned either.
        with suppress(OSError):
            os.utime(entry / MANIFEST)
        return True

    def _check_space(self, expected_bytes: int) -> None:
        if expected_bytes > free_bytes(self.root):
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            needed = f"about {readable_bytes(expected_bytes)}"
            raise cache_error(full, self.root, needed=needed)

    def _build(
        self, entry: Path, key: EngineKey, build: Callable[[Path], None], expected_bytes: int
    ) -> None:
        partial = self.root / partial_name(entry.name)
        in_build = False
        try:
            partial.mkdir()
            in_build = True
            build(partial)
            in_build = False
            _seal(partial, key)
            partial.rename(entry)
            sync_folder(self.root)
        except OSError as exc:
            written = _tree_bytes(partial)
            _remove(partial)
            if in_build and not _concerns(exc, partial):
                raise
            needed = (
                f"about {readable_bytes(expected_bytes)}"
                if expected_bytes > written
                else f"more than {readable_bytes(written)}"
            )
            raise cache_error(exc, self.root, needed=needed) from exc
        except BaseException:
            _remove(partial)
            raise

    def _discard(self, entry: Path) -> None:
        """Remove an engine; to others it is gone at once. The caller holds its lock."""
        doomed = self.root / partial_name(entry.name)
        try:
            entry.rename(doomed)
        except FileNotFoundError:
            return
        except OSError as exc:
            raise cache_error(exc, self.root) from exc
        _remove(doomed)

    def _remove_leftovers(self, *, locked: str = "") -> None:
        """Remove builds that died and engines that are not complete.

        Whether a builder lives is told by the engine's lock. Process ids would not tell:
        containers that share a cache each count their own.

        Args:
            locked: the engine whose lock the caller holds already.
        """
        for partial in self.root.glob(f"{PARTIAL_PREFIX}*"):
            name = partial.name.removeprefix(PARTIAL_PREFIX).split("-", 2)[-1]
            if name == locked:
                _remove(partial)
            elif _ENTRY_NAME.fullmatch(name):
                with self._locked(name, wait=False) as held:
                    if held:
                        _remove(partial)
        for entry in self._folders():
            if entry.name == locked or _complete_manifest(entry) is not None:
                continue
            with self._locked(entry.name, wait=False) as held:
                if held and _complete_manifest(entry) is None:
                    self._discard(entry)


def _silent(_: str) -> None:
    """The progress callback of callers that want none."""


def _complete_manifest(entry: Path) -> Manifest | None:
    """The manifest, if there is one and all its files are there in the sizes that it names."""
    try:
        manifest = Manifest.model_validate_json((entry / MANIFEST).read_bytes())
        for name, record in manifest.files.items():
            status = inside(entry, name, error=EngineError).lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != record.size_bytes:
                return None
    except (OSError, ValidationError, EngineError):
        return None
    return manifest


def _is_intact(entry: Path) -> bool:
    manifest = _complete_manifest(entry)
    if manifest is None:
        return False
    try:
        return all(sha256_of(entry / name) == r.sha256 for name, r in manifest.files.items())
    except OSError:
        return False


def _seal(folder: Path, key: EngineKey) -> None:
    """Bring a built engine safely onto the disk, its manifest last."""
    files: dict[str, FileRecord] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            sync_folder(path)
            continue
        if not stat.S_ISREG(mode) or name == MANIFEST:
            raise EngineError(
                "the build left something that is not a file of an engine",
                field=name,
                remedy=f"let it write regular files only, none of them called {MANIFEST}",
            )
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[name] = FileRecord(size_bytes=path.stat().st_size, sha256=sha256_of(path))
    if not files:
        raise EngineError(
            "the build wrote no file",
            field=key.folder_name,
            remedy="let it write the engine into the folder that it is given",
        )
    manifest = Manifest(
        key=key,
        files=files,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tailwire_version=_version(),
    )
    write_atomic(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def _concerns(exc: OSError, folder: Path) -> bool:
    """Whether an OSError of a build comes from writing into `folder`.

    A failed write names no file, so a full disk without a name is taken for the folder's.
    """
    named = isinstance(exc.filename, (str, bytes, os.PathLike))
    if named and not Path(os.fsdecode(exc.filename)).is_relative_to(folder):
        return False
    return is_disk_full(exc) or (named and exc.errno in _NOT_WRITABLE)


def _remove(path: Path) -> None:
    """Remove a folder or file as far as it can be; what stays is a leftover, never an engine."""
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def _tree_bytes(folder: Path) -> int:
    """Bytes of all files below the folder; what vanishes meanwhile counts nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
    return total


def _version() -> str:
    try:
        return importlib.metadata.version("tailwire")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
