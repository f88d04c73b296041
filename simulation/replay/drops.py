"""Windows of a drive in which a sensor is taken away: `cam_front@5s..8s`.

What is left of the drive, and what the runtime makes of it, is the player's matter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...runtime.errors import ConfigError, SensorError

_NUMBER = r"(?:\d+(?:\.\d+)?|\.\d+)"
_WINDOW = re.compile(rf"(?:(?P<begin>{_NUMBER})s?)?\.\.(?:(?P<end>{_NUMBER})s?)?")
_FORM = "write SENSOR@5s..8s, SENSOR@5s.., SENSOR@..8s or SENSOR alone"


@dataclass(frozen=True)
class DropWindow:
    """A sensor that is away for a while.

    Attributes:
        sensor: its name.
        begin_s: since the start of the drive; belongs to the window.
        end_s: since the start of the drive; does not belong to it.
    """

    sensor: str
    begin_s: float = 0.0
    end_s: float = math.inf

    def covers(self, sensor: str, time_s: float) -> bool:
        """Whether frames of a sensor are withheld at a time since the start of the drive."""
        return sensor == self.sensor and self.begin_s <= time_s < self.end_s

    def __str__(self) -> str:
        if self.begin_s == 0 and self.end_s == math.inf:
            return self.sensor
        end = "" if self.end_s == math.inf else f"{self.end_s:g}s"
        return f"{self.sensor}@{self.begin_s:g}s..{end}"


def parse_drop(text: str, option: str = "--drop") -> DropWindow:
    """Read a window as it is typed.

    Args:
        text: e.g. `cam_front@5s..8s`.
        option: named in the error.

    Raises:
        ConfigError: it has another form, or its end is not behind its beginning.
    """
    sensor, at, window = text.strip().partition("@")
    if sensor and not at:
        return DropWindow(sensor)
    match = _WINDOW.fullmatch(window.replace(" ", ""))
    if not sensor or match is None or (match["begin"] is None and match["end"] is None):
        raise ConfigError(f"'{text}' is no window of a sensor", field=option, remedy=_FORM)
    begin = float(match["begin"] or 0)
    end = math.inf if match["end"] is None else float(match["end"])
    if not begin < end:
        raise ConfigError(
            f"'{text}' ends before it begins", field=option, remedy="give the earlier second first"
        )
    return DropWindow(sensor, begin, end)


def check_drops(
    drops: Sequence[DropWindow], sensors: Sequence[str], option: str = "--drop"
) -> None:
    """Refuse windows of sensors that do not take part: a typing error would drop nothing.

    Raises:
        SensorError: a sensor is none of `sensors`.
    """
    for drop in drops:
        if drop.sensor not in sensors:
            raise SensorError(
                f"there is no sensor '{drop.sensor}' to drop",
                field=option,
                remedy=f"use some of {', '.join(sensors)}",
            )
