"""Compiles a C source of this folder with the machine's own compiler and loads it.

A machine without a compiler is no error: callers have another way and are told why. Libraries are
kept; their name covers the source, the compiler and the machine that they were made for.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_COMPILERS = ("cc", "gcc", "clang")

_COMMON = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-pthread", "-fno-math-errno")

#: Sums may be reordered so that they vectorise. Not `-ffast-math`, which would change how the whole
#: process treats denormal numbers.
REORDERED = (*_COMMON, "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math")

#: Every operation is rounded as IEEE 754 says and none is fused with another, so that results are
#: the same bits on every machine.
EXACT = (*_COMMON, "-fno-trapping-math", "-ffp-contract=off")

#: Tried in turn: some compilers do not know the processor that they run on.
_TUNINGS = (("-march=native",), ("-mcpu=native",), ())

_TIMEOUT_S = 120

#: Kinds of arguments.
ADDRESS, COUNT, FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32

#: Arguments and result, by the name of a C function; None for a function without one.
Signatures = Mapping[str, tuple[Sequence[type], type | None]]


def sources(*names: str) -> tuple[Path, ...]:
    """Files of this folder: the one to compile, then those that it includes."""
    return tuple(Path(__file__).with_name(name) for name in names)


def load_native(
    sources: Sequence[Path], folder: Path, machine: str, flags: Sequence[str] = REORDERED
) -> tuple[ctypes.CDLL | None, str]:
    """Load the library that `sources` compile to.

    Args:
        sources: the file to compile, then those that it includes.
        folder: where libraries are kept; made if missing.
        machine: what the machine code depends on, see `runtime/engine_key.py`.
        flags: `REORDERED` or `EXACT`.

    Returns:
        The library and how it was made, or None and why there is none.
    """
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        return None, f"no C compiler ({', '.join(_COMPILERS)}) was found"
    try:
        key = _key(compiler, sources, machine, flags)
        path = folder / f"{sources[0].stem}-{key}.so"
        if not _is_whole(path):
            reason = _compile(compiler, sources[0], path, flags)
            if reason:
                return None, reason
        return ctypes.CDLL(str(path)), f"compiled with {compiler}"
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"{compiler} gave no library: {error}"


def declare(library: ctypes.CDLL, signatures: Signatures) -> None:
    """Tell ctypes what the functions of a library take and give.

    Raises:
        AttributeError: the library lacks one.
    """
    for name, (arguments, result) in signatures.items():
        function = getattr(library, name)
        function.argtypes = list(arguments)
        function.restype = result


def _key(compiler: str, sources: Sequence[Path], machine: str, flags: Sequence[str]) -> str:
    version = _run([compiler, "--version"]).stdout
    digest = hashlib.sha256("\n".join([machine, compiler, version, *flags]).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _is_whole(path: Path) -> bool:
    # A library that is cut off would end the process instead of failing to load.
    try:
        return _digest_file(path).read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, UnicodeDecodeError):
        return False


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _compile(compiler: str, source: Path, path: Path, flags: Sequence[str]) -> str:
    """Compile `source` to `path`; returns what went wrong, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".partial-{os.getpid()}-{path.name}")
    message = ""
    try:
        for tuning in _TUNINGS:
            command = [compiler, *flags, *tuning, str(source), "-o", str(made), "-lm"]
            done = _run(command)
            if done.returncode == 0:
                digest = hashlib.sha256(made.read_bytes()).hexdigest()
                made.replace(path)
                _digest_file(path).write_text(digest)
                return ""
            message = message or (done.stderr.strip().splitlines() or ["no message"])[0]
    finally:
        made.unlink(missing_ok=True)
    return f"{compiler} failed: {message}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
    )
