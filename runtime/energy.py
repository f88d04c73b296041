"""Energy of the whole machine between two moments, where the platform lets it be read.

Sources are files of sysfs: the power rails of Jetson boards (INA3221), then RAPL counters of x86
processors. Where neither can be read that is said with a reason, and never a number put in its
place. All other programs on the machine draw from the same rails; nothing here is per process.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .errors import ConfigError

#: Rails that feed the whole module, so that others are parts of them (Xavier NX, Orin NX and Nano,
#: TX2; Nano). Boards without one, such as AGX Orin, are summed over their rails: one that another
#: feeds is then counted in both.
INPUT_RAILS = ("VDD_IN", "POM_5V_IN")
#: Powers read further apart than this say nothing of the energy between them.
MOST_SECONDS_APART = 1.0
#: No processor draws more; a counter left alone for longer than this takes to go round once may
#: have gone round twice.
MOST_WATTS = 500.0


@dataclass(frozen=True)
class EnergyReading:
    """One reading of a meter.

    Attributes:
        stamp_s: when, on the clock of the meter.
        joules: since the meter was opened, without what was lost at breaks.
        breaks: how often energy has been lost up to here.
        problem: what the last break was; empty without one.
    """

    stamp_s: float
    joules: float
    breaks: int
    problem: str


@dataclass(frozen=True)
class EnergyUse:
    """Energy between two readings.

    Attributes:
        joules: of the whole machine, or None where it cannot be told.
        seconds: between the readings.
        method: how it was measured, to be printed beside the figure.
        reason: why `joules` is None; empty otherwise.
    """

    joules: float | None
    seconds: float
    method: str
    reason: str


@dataclass(frozen=True)
class EnergyAbsent:
    """This machine has no meter that can be read.

    Attributes:
        reason: what was looked for and why it cannot be read.
    """

    reason: str


class EnergyMeter:
    """Adds up energy from one reading to the next; any thread may call it.

    Counters (RAPL) hold the energy between any two readings. Rails say the power of a moment, so
    their energy is the sum of trapezoids between readings, and readings at the same point of every
    frame would see that point only: keep `sampling` on while rails are measured.
    """

    def __init__(self, source: _Source, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._last: EnergyReading | None = None

    @property
    def method(self) -> str:
        """How this meter measures, to be printed beside every figure."""
        return self._source.method

    def read(self) -> EnergyReading:
        """Read now. A source that fails is a break in the readings, never an error."""
        with self._lock:
            now = self._clock()
            before = self._last or EnergyReading(now, 0.0, 0, "")
            try:
                joules = self._source.advance(now)
                reading = EnergyReading(now, before.joules + joules, before.breaks, before.problem)
            except _BreakError as error:
                reading = EnergyReading(now, before.joules, before.breaks + 1, str(error))
            self._last = reading
            return reading

    def between(self, first: EnergyReading, second: EnergyReading) -> EnergyUse:
        """Energy from `first` to `second`, both readings of this meter."""
        seconds = second.stamp_s - first.stamp_s
        if second.breaks != first.breaks:
            return EnergyUse(None, seconds, self.method, second.problem)
        return EnergyUse(second.joules - first.joules, seconds, self.method, "")

    @contextmanager
    def sampling(self, period_s: float = 0.02) -> Iterator[None]:
        """Read every `period_s` seconds from a thread, for as long as the `with` block runs.

        Raises:
            ConfigError: the period is not positive, or too long for trapezoids.
        """
        if not 0 < period_s < MOST_SECONDS_APART:
            raise ConfigError(
                f"{period_s} s is no period to sample power with",
                field="period_s",
                remedy=f"give one above 0 and below {MOST_SECONDS_APART:g} s",
            )
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(period_s):
                self.read()

        thread = threading.Thread(target=sample, name="tailwire-energy", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def open_energy_meter(
    root: Path = Path("/"), clock: Callable[[], float] = time.monotonic
) -> EnergyMeter | EnergyAbsent:
    """The meter of this machine, or why there is none.

    Args:
        root: folder that holds `sys`.
        clock: seconds, never going back.
    """
    reasons: list[str] = []
    for find in (_find_rails, _find_counters):
        try:
            source = find(root)
            source.advance(clock())
        except _BreakError as error:
            reasons.append(str(error))
        else:
            return EnergyMeter(source, clock)
    return EnergyAbsent("; ".join(reasons))


class _BreakError(Exception):
    """A source cannot tell the energy since it was last read; the text says why."""


class _Source(Protocol):
    method: str

    def advance(self, now: float) -> float:
        """Joules since the call before (0 the first time, and after a break).

        Raises:
            _BreakError: they are not known; the next call starts anew.
        """
        ...


@dataclass(frozen=True)
class _Rail:
    """A rail: files whose values are multiplied, and what makes watts of the product."""

    label: str
    files: tuple[Path, ...]
    to_watts: float

    def watts(self) -> float:
        return math.prod(_read_number(file) for file in self.files) * self.to_watts


class _Rails:
    def __init__(self, rails: Sequence[_Rail], interface: str) -> None:
        self._rails = rails
        self._last: tuple[float, float] | None = None
        labels = " + ".join(rail.label for rail in rails)
        noun = "rail" if len(rails) == 1 else "sum of rails"
        self.method = f"INA3221 {noun} {labels} ({interface}, power integrated between readings)"

    def advance(self, now: float) -> float:
        last, self._last = self._last, None
        watts = sum(rail.watts() for rail in self._rails)
        self._last = (now, watts)
        if last is None:
            return 0.0
        seconds = now - last[0]
        if seconds > MOST_SECONDS_APART:
            raise _BreakError(
                f"power was not read for {seconds:.1f} s (at most {MOST_SECONDS_APART:g} s)"
            )
        return (last[1] + watts) / 2 * seconds


@dataclass(frozen=True)
class _Counter:
    """A RAPL domain: microjoules that start again at 0 above `most`."""

    label: str
    file: Path
    most: float

    def joules(self, before: float, after: float, seconds: float) -> float:
        if after >= before:
            return (after - before) / 1e6
        used = (after - before + self.most) / 1e6
        if used > MOST_WATTS * seconds:
            raise _BreakError(f"the counter of {self.label} was set back")
        return used


class _Counters:
    def __init__(self, counters: Sequence[_Counter]) -> None:
        self._counters = counters
        self._last: tuple[float, list[float]] | None = None
        labels = " + ".join(counter.label for counter in counters)
        self.method = f"RAPL {labels} (powercap energy_uj)"
        self._most_seconds = min(counter.most for counter in counters) / 1e6 / MOST_WATTS

    def advance(self, now: float) -> float:
        last, self._last = self._last, None
        values = [_read_number(counter.file) for counter in self._counters]
        self._last = (now, values)
        if last is None:
            return 0.0
        seconds = now - last[0]
        if seconds > self._most_seconds:
            raise _BreakError(
                f"counters were not read for {seconds:.0f} s and may have gone round"
                f" more than once (at most {self._most_seconds:.0f} s)"
            )
        return sum(
            counter.joules(before, after, seconds)
            for counter, before, after in zip(self._counters, last[1], values, strict=True)
        )


def _find_rails(root: Path) -> _Rails:
    for interface, rails in (("hwmon", _hwmon_rails(root)), ("iio", _iio_rails(root))):
        if rails:
            inputs = [rail for rail in rails if rail.label in INPUT_RAILS]
            return _Rails(inputs[:1] or rails, interface)
    raise _BreakError("no INA3221 rails in sys/class/hwmon or sys/bus/i2c/drivers/ina3221x")


def _hwmon_rails(root: Path) -> list[_Rail]:
    """Rails of kernels since 5.x (JetPack 5 and later): mV and mA, or microwatts."""
    rails: list[_Rail] = []
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if not (folder / "name").is_file() or _read_text(folder / "name") != "ina3221":
            continue
        for label_file in sorted(folder.glob("in*_label")):
            channel = label_file.name.removeprefix("in").removesuffix("_label")
            enable = folder / f"in{channel}_enable"
            if enable.is_file() and _read_text(enable) == "0":
                continue
            power = (folder / f"power{channel}_input",)
            product = (folder / f"in{channel}_input", folder / f"curr{channel}_input")
            rails += _rail(label_file, (power, 1e-6), (product, 1e-6))
    return rails


def _iio_rails(root: Path) -> list[_Rail]:
    """Rails of NVIDIA's 4.x kernels (JetPack 4): milliwatts, or mV and mA."""
    rails: list[_Rail] = []
    for folder in sorted(root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*")):
        for label_file in sorted(folder.glob("rail_name_*")):
            channel = label_file.name.removeprefix("rail_name_")
            power = (folder / f"in_power{channel}_input",)
            product = (folder / f"in_voltage{channel}_input", folder / f"in_current{channel}_input")
            rails += _rail(label_file, (power, 1e-3), (product, 1e-6))
    return rails


def _rail(label_file: Path, *ways: tuple[tuple[Path, ...], float]) -> list[_Rail]:
    """The rail of a label, by the first way whose files are there; none if it is not connected."""
    label = _read_text(label_file)
    if label.upper() in ("", "NC"):
        return []
    for files, to_watts in ways:
        if all(file.is_file() for file in files):
            return [_Rail(label, files, to_watts)]
    return []


def _find_counters(root: Path) -> _Counters:
    """Domains of whole packages, and of memory, which Intel counts beside its package."""
    counters: list[_Counter] = []
    for folder in sorted(root.glob("sys/class/powercap/intel-rapl:*")):
        if not (folder / "name").is_file():
            continue
        name = _read_text(folder / "name")
        domain = re.fullmatch(r"intel-rapl:(\d+)(:\d+)?", folder.name)
        if domain is None:
            continue
        is_part = domain.group(2) is not None
        if not (name == "dram" if is_part else name.startswith("package")):
            continue
        most = _read_number(folder / "max_energy_range_uj")
        if most <= 0:
            raise _BreakError(f"{folder / 'max_energy_range_uj'} is not positive")
        label = f"{name}-{domain.group(1)}" if is_part else name
        counters.append(_Counter(label, folder / "energy_uj", most))
    if not counters:
        raise _BreakError("no RAPL packages in sys/class/powercap")
    return _Counters(counters)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except PermissionError as error:
        raise _BreakError(
            f"{file} may not be read by this user (an administrator can allow it: chmod a+r)"
        ) from error
    except OSError as error:
        raise _BreakError(f"{file} cannot be read ({error.strerror})") from error


def _read_number(file: Path) -> float:
    text = _read_text(file)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _BreakError(f"{file} holds no number but {text[:40]!r}")
    return value
