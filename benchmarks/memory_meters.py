"""Ways to tell how much memory the process has, each with its name, and why others are absent.

No single figure is the memory of a process: resident pages are shared with others or mapped from
files, allocators keep what was freed, and GPUs have memory of their own. So several are read, at
the same moments, and each says what it is.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ..runtime.metrics import resident_memory_bytes

_EVERY_S = 0.02
_CUDA_RUNTIMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")


@dataclass(frozen=True)
class MemoryMeter:
    """One way to read memory.

    Attributes:
        name: short, as a key.
        method: what the figure is and where it comes from.
        read: bytes now.
    """

    name: str
    method: str
    read: Callable[[], int]


def find_meters(
    root: Path = Path("/"), *, gpu: bool = False
) -> tuple[list[MemoryMeter], dict[str, str]]:
    """The meters that this machine has.

    Args:
        root: folder that holds `proc` and `sys`.
        gpu: whether to ask for GPU memory, which makes a CUDA context of some hundred megabytes.

    Returns:
        The meters, and by name why others are absent.
    """
    meters: list[MemoryMeter] = []
    absent: dict[str, str] = {}
    finders: Mapping[str, Callable[[], MemoryMeter]] = {
        "rss": _rss,
        "pss": lambda: _smaps(root, "pss", "Pss", "resident pages, shared ones by their share"),
        "private": lambda: _smaps(
            root, "private", "Private_Dirty", "pages that only this process has and has written"
        ),
        "allocator": _glibc,
        "cgroup": lambda: _cgroup(root),
        "nvmap": lambda: _nvmap(root),
    }
    for name, find in finders.items():
        try:
            meters.append(find())
        except _AbsentError as error:
            absent[name] = str(error)
    if not gpu:
        absent["cuda"] = "no engine of this runtime is on a GPU"
    else:
        try:
            meters.append(_cuda())
        except _AbsentError as error:
            absent["cuda"] = str(error)
    return meters, absent


class _AbsentError(Exception):
    """A meter cannot be had; the text says why."""


def _rss() -> MemoryMeter:
    if resident_memory_bytes() is None:
        raise _AbsentError("/proc/self/statm cannot be read")
    return MemoryMeter(
        "rss",
        "resident pages, shared ones whole (/proc/self/statm)",
        lambda: resident_memory_bytes() or 0,
    )


def _smaps(root: Path, name: str, field: str, what: str) -> MemoryMeter:
    path = root / "proc/self/smaps_rollup"

    def read() -> int:
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise _AbsentError(f"{path} has no {field}")

    _try(read, path)
    return MemoryMeter(name, f"{what} ({field} of /proc/self/smaps_rollup)", read)


def _cgroup(root: Path) -> MemoryMeter:
    path = root / "sys/fs/cgroup/memory.current"
    read = _number(path)
    _try(read, path)
    return MemoryMeter(
        "cgroup", "all processes of the control group, with its file cache (memory.current)", read
    )


def _nvmap(root: Path) -> MemoryMeter:
    path = root / "sys/kernel/debug/nvmap/iovmm/clients"

    def read() -> int:
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            words = line.split()
            if words and words[0] == "total":
                return int(words[-1].rstrip("K")) * 1024
        raise _AbsentError(f"{path} has no total")

    _try(read, path)
    return MemoryMeter("nvmap", "GPU buffers of all processes of a Jetson (nvmap clients)", read)


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _glibc() -> MemoryMeter:
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError, TypeError) as error:
        raise _AbsentError("the C library has no mallinfo2 (glibc 2.33 and later has)") from error
    ask.restype = _Mallinfo

    def read() -> int:
        found = ask()
        return found.uordblks + found.hblkhd

    return MemoryMeter("allocator", "in use in glibc's malloc (mallinfo2: uordblks + hblkhd)", read)


def _cuda() -> MemoryMeter:
    library = None
    for name in _CUDA_RUNTIMES:
        try:
            library = ctypes.CDLL(name)
            break
        except OSError:
            continue
    if library is None:
        raise _AbsentError("there is no CUDA runtime library")
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ask = library.cudaMemGetInfo

    def taken() -> int:
        code = ask(ctypes.byref(free), ctypes.byref(total))
        if code:
            raise _AbsentError(f"cudaMemGetInfo fails with code {code}")
        return total.value - free.value

    before = taken()
    return MemoryMeter(
        "cuda",
        "cudaMemGetInfo, difference to the start, of all processes",
        lambda: taken() - before,
    )


def _number(path: Path) -> Callable[[], int]:
    return lambda: int(path.read_text(encoding="ascii"))


def _try(read: Callable[[], int], path: Path) -> None:
    try:
        read()
    except (OSError, ValueError, IndexError) as error:
        raise _AbsentError(f"{path} cannot be read") from error


class PeakSampler:
    """Reads meters again and again in a thread and keeps the highest values.

    Used in a `with` block; a peak shorter than the period may be missed, which is why the kernel's
    own peaks are read beside it.
    """

    def __init__(self, meters: Sequence[MemoryMeter], every_s: float = _EVERY_S) -> None:
        self._meters, self._every_s = meters, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        #: Highest value of each meter so far, and how often they were read.
        self.peaks: dict[str, int] = {}
        self.samples = 0

    def __enter__(self) -> PeakSampler:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._sample()

    def _sample(self) -> None:
        self.samples += 1
        for name, value in read_all(self._meters).items():
            self.peaks[name] = max(self.peaks.get(name, 0), value)


def read_all(meters: Sequence[MemoryMeter]) -> dict[str, int]:
    """All meters now; one that fails in between is left out."""
    found: dict[str, int] = {}
    for meter in meters:
        try:
            found[meter.name] = meter.read()
        except (OSError, ValueError, _AbsentError):
            continue
    return found


def settle(seconds: float = 0.1) -> None:
    """Give the kernel a moment to account what was just freed."""
    time.sleep(seconds)
