"""What the demo remembers of its steps, ready to be shown; nothing here draws."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..runtime.plans import Answer

SensorState = Literal["on", "reused", "dropped", "off"]


@dataclass
class SensorRecord:
    """One sensor over the steps.

    Attributes:
        states: one per step.
        age_ms: of the frame behind the newest answers, or None.
    """

    states: list[SensorState] = field(default_factory=list)
    age_ms: float | None = None


@dataclass
class DemoRecord:
    """All steps so far.

    Attributes:
        sensors: by name.
        answers: of the newest step.
        frame_ms: one total per step, sensors to answers.
        late: frames that came late, of all sensors.
        dropped: frames that could not be used, of all sensors.
        first_answer_s: from the start of the process to the first answer.
    """

    sensors: dict[str, SensorRecord]
    answers: Sequence[Answer] = ()
    frame_ms: list[float] = field(default_factory=list)
    late: int = 0
    dropped: int = 0
    first_answer_s: float | None = None

    def add(
        self, switched_on: Sequence[str], answers: Sequence[Answer], late: Mapping[str, int]
    ) -> None:
        """Note a step.

        Args:
            switched_on: sensors that were on.
            answers: of all standing questions; at least one.
            late: late frames per sensor since the start.
        """
        frame = answers[0]
        for name, sensor in self.sensors.items():
            use = frame.sensors.get(name)
            sensor.age_ms = use.age_ms if use else None
            if use is not None:
                sensor.states.append("reused" if use.reused else "on")
            else:
                sensor.states.append("dropped" if name in switched_on else "off")
        self.answers = answers
        self.frame_ms.append(sum(frame.timings_ms.values()))
        self.late = sum(late.values())
        self.dropped += len(frame.dropped)

    @property
    def steps(self) -> int:
        """How many steps were noted."""
        return len(self.frame_ms)

    @property
    def median_ms(self) -> float:
        """Half of the frames took no longer."""
        return statistics.median(self.frame_ms)

    def count(self, state: SensorState) -> int:
        """How many sensors are in a state now."""
        return sum(sensor.states[-1:] == [state] for sensor in self.sensors.values())
