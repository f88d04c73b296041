"""A drive that can be played: what nuScenes scenes and bags have in common for a player."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..runtime.errors import SensorError
from ..runtime.frames import SensorFrame


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A moment that questions may be asked about.

    Attributes:
        sample_token: of nuScenes; what a file of questions names.
        stamp_ns: nanoseconds since the epoch.
    """

    sample_token: str
    stamp_ns: int


class DriveSource(Protocol):
    """One scene, from a data set or a bag."""

    @property
    def title(self) -> str:
        """What to call it in front of the user."""
        ...

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of its cameras and LiDARs, e.g. `cam_front`; and `objects`, if it can give them."""
        ...

    @property
    def keyframes(self) -> tuple[Keyframe, ...]:
        """In stamp order; none in a bag that was not made from nuScenes."""
        ...

    def frames(
        self,
        sensors: Sequence[str] | None = None,
        on_drop: Callable[[str, int, SensorError], None] | None = None,
    ) -> Iterator[SensorFrame]:
        """Its frames in stamp order, sweeps too, one read a step.

        Args:
            sensors: names; None takes all cameras and LiDARs, and no ground truth.
            on_drop: told sensor, stamp in ns and reason of a frame that cannot be read, and the
                drive goes on; None raises instead.

        Raises:
            SensorError: a sensor is unknown, or a frame is bad and there is no `on_drop`.
        """
        ...
