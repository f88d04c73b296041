"""Whether every sensor that answers lack is reported: answers held against diagnostics.

Knows nothing of rclpy. Two things are counted: sensors that the benchmark withheld, each of which
must be warned of as silent; and sensors that answers lacked for whatever reason, each of which must
have a warning soon after.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Diagnostics without a warning, sent behind an answer, after which a lacking sensor counts as not
#: reported: the first may have been made before.
_DIAGNOSTICS_WITHOUT = 3
#: Diagnostics that are remembered, for answers that are heard later than they were sent.
_REMEMBERED = 200
#: A sensor that is withheld and not warned of for so long counts as not reported.
_LONGEST_WITHHELD_S = 30.0
_LONGEST_RETURN_S = 30.0
_TICK_S = 0.02


@dataclass(frozen=True)
class _Told:
    """Diagnostics: when they were sent, the sensors that they speak of and those under warning."""

    sent_s: float
    sensors: frozenset[str]
    warned: frozenset[str]


class SilenceWatch:
    """Holds the sensors that answers lack against the warnings about them.

    Attributes:
        lacked: by sensor, how often answers began to lack it.
        unreported: how often no warning followed.
        warned: sensors under warning now, with the words.
    """

    def __init__(self) -> None:
        self.lacked: dict[str, int] = {}
        self.unreported: dict[str, int] = {}
        self.warned: Mapping[str, str] = {}
        self._told: deque[_Told] = deque(maxlen=_REMEMBERED)
        #: By sensor, when an answer was sent that lacks it and that no warning has followed yet.
        self._open: dict[str, float] = {}
        self._lacking: frozenset[str] = frozenset()

    def answered(self, lacking: Iterable[str], sent_s: float) -> None:
        """An answer came that these sensors are missing from.

        Args:
            lacking: names.
            sent_s: when it was sent, by the clock of `diagnosed`.
        """
        now = frozenset(lacking)
        for sensor in now - self._lacking:
            self.lacked[sensor] = self.lacked.get(sensor, 0) + 1
            self._open.setdefault(sensor, sent_s)
        self._lacking = now
        self._settle()

    def diagnosed(self, told: Collection[str], warned: Mapping[str, str], sent_s: float) -> None:
        """Diagnostics came.

        Args:
            told: sensors that they speak of.
            warned: those of them under warning, with the words.
            sent_s: when they were sent.
        """
        self.warned = dict(warned)
        self._told.append(_Told(sent_s, frozenset(told), frozenset(warned)))
        self._settle()

    def _settle(self) -> None:
        """Messages of two topics come in any order; when they were sent decides."""
        for sensor, since_s in list(self._open.items()):
            behind = [one for one in self._told if one.sent_s > since_s and sensor in one.sensors]
            if any(sensor in one.warned for one in behind):
                del self._open[sensor]
            elif len(behind) >= _DIAGNOSTICS_WITHOUT:
                self.unreported[sensor] = self.unreported.get(sensor, 0) + 1
                del self._open[sensor]


@dataclass
class Withheld:
    """Silences that were made on purpose.

    Attributes:
        number: how many.
        reported: how many were warned of as silent.
        ended: how many warnings ended when the sensor was back.
        longest_ms: from withholding to the warning, of the slowest.
    """

    number: int = 0
    reported: int = 0
    ended: int = 0
    longest_ms: float = 0.0

    def one(
        self,
        sensor: str,
        watch: SilenceWatch,
        withhold: Callable[[Sequence[str]], None],
        over: threading.Event,
    ) -> None:
        """Withhold a sensor until it is warned of, and give it back.

        Args:
            sensor: its name.
            watch: is told of diagnostics meanwhile.
            withhold: lets the replay withhold exactly these sensors.
            over: ends it early, uncounted.
        """

        def warned() -> bool:
            return "silent" in watch.warned.get(sensor, "")

        begun_s = time.monotonic()
        withhold([sensor])
        told = _until(warned, _LONGEST_WITHHELD_S, over)
        took_ms = 1e3 * (time.monotonic() - begun_s)
        withhold([])
        if over.is_set():
            return
        self.number += 1
        self.reported += told
        if told:
            self.longest_ms = max(self.longest_ms, took_ms)
            self.ended += _until(lambda: sensor not in watch.warned, _LONGEST_RETURN_S, over)

    def summary(self, watch: SilenceWatch) -> dict[str, Any]:
        """For the figures."""
        return {
            "withheld": self.number,
            "withheld_reported": self.reported,
            "withheld_returned": self.ended,
            "withheld_longest_ms": round(self.longest_ms, 1) if self.reported else None,
            "lacked": sum(watch.lacked.values()),
            "lacked_unreported": sum(watch.unreported.values()),
        }


def _until(check: Callable[[], bool], limit_s: float, over: threading.Event) -> bool:
    end_s = time.monotonic() + limit_s
    while not check():
        if over.wait(_TICK_S) or time.monotonic() > end_s:
            return False
    return True
