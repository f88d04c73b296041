"""What the demo does to the sensors while it runs: switched off, switched on, one breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..runtime.frames import Modality, SensorFrame


@dataclass(frozen=True)
class Phase:
    """A part of the demo.

    Attributes:
        title: for the user.
        sensors: that are switched on.
        broken: a sensor whose frames arrive damaged, or None.
    """

    title: str
    sensors: tuple[str, ...]
    broken: str | None = None


class Script:
    """The phases of a demo, spread evenly over its steps."""

    def __init__(self, modalities: Mapping[str, Modality], steps: int) -> None:
        """Write the script for a set of sensors.

        Args:
            modalities: of each sensor that takes part.
            steps: length of the demo; one of fewer steps than phases leaves the last ones out.
        """
        everything = tuple(modalities)
        cameras = tuple(name for name in everything if modalities[name] == "camera")
        lidars = tuple(name for name in everything if modalities[name] == "lidar")
        phases = [Phase("all sensors", everything)]
        if cameras and lidars:
            phases.append(Phase("LiDAR off", cameras))
        if cameras:
            # While cameras were on just before, so that its last tokens are seen to be reused.
            phases.append(Phase(f"{cameras[0]} breaks", everything, broken=cameras[0]))
        if cameras and lidars:
            phases.append(Phase("only LiDAR", lidars))
        self.phases = (*phases, Phase("all back", everything))
        self._steps = max(steps, len(self.phases))

    def place(self, step: int) -> int:
        """Index of the phase that a step, counted from 0, belongs to."""
        return min(step * len(self.phases) // self._steps, len(self.phases) - 1)


def damaged(frame: SensorFrame) -> SensorFrame:
    """The frame as it arrives over a bad link: cut off in the middle."""
    return replace(frame, payload=frame.payload[: len(frame.payload) // 2])
