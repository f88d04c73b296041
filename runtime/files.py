"""Files that survive a power cut: atomic writes, content hashes, the cache folder, locks.

The project's other rooms use these helpers wherever a half-written or foreign file would do harm.
What the files mean is not known here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import CacheError, ConfigError, TailwireError

#: Told in one line what is being done or waited for.
Progress = Callable[[str], None]

#: Names that begin so belong to unfinished work; nobody reads them.
PARTIAL_PREFIX = ".partial-"

_CHUNK_BYTES = 1 << 20
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def cache_dir() -> Path:
    """The folder that downloaded models and built engines go to; it may not exist yet.

    `$TAILWIRE_CACHE`, else `$XDG_CACHE_HOME/tailwire`, else `~/.cache/tailwire`.

    Raises:
        CacheError: none of them is set and the user has no home folder.
    """
    own = os.environ.get("TAILWIRE_CACHE", "")
    if own:
        return _home(own).absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path there is to be ignored.
    if shared and Path(shared).is_absolute():
        return Path(shared) / "tailwire"
    return _home("~/.cache/tailwire")


def _home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:
        raise CacheError(
            f"no home folder is known, so {path} has no meaning",
            field="TAILWIRE_CACHE",
            remedy="set TAILWIRE_CACHE to the absolute path of a writable folder",
        ) from exc


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in lower-case hex; the file is streamed, not loaded.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def recorded_sha256(path: Path, record: Path, *, fresh: bool = False) -> str:
    """As `sha256_of`, but the file is read only once as long as it does not change.

    Args:
        path: the file.
        record: a small JSON file that keeps the hash with the size and mtime that it was made
            for. Where it cannot be written the file is read each time.
        fresh: read the file in any case.

    Raises:
        OSError: the file cannot be read.
    """
    # Taken before reading: a file that changes meanwhile does not fit its record.
    status = path.stat()
    if not fresh:
        with suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(record.read_bytes())
            if (known["size_bytes"], known["mtime_ns"]) == (status.st_size, status.st_mtime_ns):
                return str(known["sha256"])
    digest = sha256_of(path)
    with suppress(CacheError):
        write_sha256_record(record, status, digest)
    return digest


def write_sha256_record(record: Path, status: os.stat_result, digest: str) -> None:
    """Note the hash of a file for `recorded_sha256`.

    Raises:
        CacheError: the record cannot be written.
    """
    known = {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest}
    write_atomic(record, json.dumps(known) + "\n")


def partial_name(stem: str) -> str:
    """A fresh name for unfinished work on `stem`: `.partial-<pid>-<random>-<stem>`."""
    return f"{PARTIAL_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{stem}"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data` (text as UTF-8) so that readers see the old or the new content.

    Missing parent folders are made.

    Raises:
        CacheError: see `open_atomic`.
    """
    with open_atomic(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` when the block ends well.

    The content is on the disk (fsync) before the name is, so a power cut leaves the old file or
    the new one. When the block fails the temporary file is removed and `path` is untouched.

    Raises:
        CacheError: the disk is full, or the folder cannot be written. Any OSError of the block
            is taken for one of writing, so read errors are best turned into others there.
    """
    temporary = path.parent / partial_name(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as exc:
        raise cache_error(exc, path) from exc


def sync_folder(folder: Path) -> None:
    """Make the folder's entries (new names, renames) survive a power cut.

    Raises:
        OSError: the folder cannot be opened, or the disk reports an error.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        # Some network and FUSE file systems cannot sync folders: nothing better is to be had.
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def is_disk_full(exc: OSError) -> bool:
    """Whether the error says that the disk or the user's quota is used up."""
    return exc.errno in _DISK_FULL


def free_bytes(folder: Path) -> int:
    """Bytes that this user can still write on the folder's disk; the folder may not exist yet."""
    for candidate in (folder, *folder.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(candidate).free
    return 0


def readable_bytes(count: int) -> str:
    """`98.4 MB`: decimal units, as disks are sold."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def cache_error(exc: OSError, path: Path, *, needed: str = "") -> CacheError:
    """The CacheError for an OSError met while writing `path`.

    Args:
        exc: what the operating system said.
        path: the file or folder that was to be written.
        needed: for a full disk, how much space was needed, in words.
    """
    if is_disk_full(exc):
        space = f"{readable_bytes(free_bytes(path))} free"
        wanted = f", {needed} needed" if needed else ""
        return CacheError(
            f"the disk is full ({space}{wanted})",
            field=str(path),
            remedy="free some space there, or use a folder on a larger disk "
            "(TAILWIRE_CACHE names the cache folder)",
        )
    reason = exc.strerror or str(exc)
    if exc.errno in (errno.EEXIST, errno.ENOTDIR):
        reason = "a file lies where a folder is needed"
    return CacheError(
        f"cannot be written: {reason}",
        field=str(path),
        remedy="make the folder writable, or use another one "
        "(TAILWIRE_CACHE names the cache folder)",
    )


def inside(folder: Path, relative: str, *, error: type[TailwireError] = ConfigError) -> Path:
    """The path of `relative` in `folder`, for names that come from manifests and archives.

    Args:
        folder: the folder that must not be left.
        relative: a path with `/` between its parts.
        error: the kind of error to raise.

    Returns:
        `folder / relative`; nothing needs to exist there.

    Raises:
        TailwireError: of the kind `error`: `relative` is empty, absolute, has a `..`, or passes
            through a symbolic link that leaves the folder.
    """
    remedy = f"name a file below {folder}"
    parts = Path(relative).parts
    if not parts or "\0" in relative:
        raise error("this is not the name of a file", field=repr(relative), remedy=remedy)
    if Path(relative).is_absolute() or ".." in parts:
        raise error("the path leaves its folder", field=relative, remedy=remedy)
    path = folder / relative
    try:
        stays = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as exc:  # a loop of symbolic links
        raise error(f"the path cannot be followed: {exc}", field=relative, remedy=remedy) from exc
    if not stays:
        raise error(
            f"a symbolic link leads out of {folder}, to {path.resolve()}",
            field=relative,
            remedy="put the file itself in the folder",
        )
    return path


@contextmanager
def folder_lock(
    folder: Path, *, name: str = ".lock", wait: bool = True, on_wait: Progress | None = None
) -> Iterator[bool]:
    """Keep other processes (and threads) out of what the lock file `folder / name` stands for.

    The operating system drops the lock when its holder dies, however it dies. The lock file
    stays: to remove it would let two processes lock two files of one name.

    Args:
        folder: made when missing.
        name: of the lock file.
        wait: False gives up at once when somebody else holds the lock.
        on_wait: told once, in one line, when the lock has to be waited for.

    Yields:
        True while the lock is held; False only when `wait` is False and it was not to be had.

    Raises:
        CacheError: the lock file cannot be made, or its file system knows no locks.
    """
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as exc:
        raise cache_error(exc, path) from exc
    try:
        held = _lock(descriptor, path, wait, on_wait)
        try:
            yield held
        finally:
            if held:
                # Explicit, since a forked child may still have the file open.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, wait: bool, on_wait: Progress | None) -> bool:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                return False
            if on_wait is not None:
                on_wait(f"waiting for another process that holds {path}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as exc:
        raise CacheError(
            f"cannot be locked: {exc.strerror or exc}",
            field=str(path),
            remedy="set TAILWIRE_CACHE to a folder on a local disk",
        ) from exc
    return True
