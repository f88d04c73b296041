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


class JudgedAnswer(Answer):
    """An answer beside the right one.

    Attributes:
        sample_token: of the keyframe.
        expected: what the annotations say is right; None where they leave it open.
        right: whether the answer is the expected one; None likewise.
    """

    sample_token: str
    expected: str | None
    right: bool | None

    @classmethod
    def of(cls, answer: Answer, sample_token: str, expected: str | None) -> JudgedAnswer:
        """Judge an answer."""
        return cls(
            **{name: getattr(answer, name) for name in Answer.model_fields},
            sample_token=sample_token,
            expected=expected,
            right=None if expected is None else answer.text == expected,
        )


@dataclass
class Tally:
    """How often a question was answered right.

    Attributes:
        majority: its most frequent right answer over the whole drive; None if it has none.
        known: steps at which there is a right answer.
        right: of these, those that were answered so.
        blind: of these, those at which the majority is right: what nobody needs to look for.
    """

    majority: str | None
    known: int = 0
    right: int = 0
    blind: int = 0

    def add(self, answer: JudgedAnswer) -> None:
        """Count an answer."""
        if answer.expected is not None:
            self.known += 1
            self.right += answer.right is True
            self.blind += answer.expected == self.majority


@dataclass
class DemoRecord:
    """All steps so far.

    Attributes:
        sensors: by name.
        tallies: one per question.
        answers: of the newest step.
        condition: light and weather of the newest step.
        frame_ms: one total per step, sensors to answers.
        late: frames that came late, of all sensors.
        dropped: frames that could not be used, of all sensors.
        first_answer_s: from the start of the process to the first answer.
    """

    sensors: dict[str, SensorRecord]
    tallies: Sequence[Tally] = ()
    answers: Sequence[JudgedAnswer] = ()
    condition: str = ""
    frame_ms: list[float] = field(default_factory=list)
    late: int = 0
    dropped: int = 0
    first_answer_s: float | None = None

    def add(
        self,
        switched_on: Sequence[str],
        answers: Sequence[JudgedAnswer],
        late: Mapping[str, int],
        condition: str,
    ) -> None:
        """Note a step.

        Args:
            switched_on: sensors that were on.
            answers: of all standing questions; at least one.
            late: late frames per sensor since the start.
            condition: light and weather.
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
        self.condition = condition
        for tally, answer in zip(self.tallies, answers, strict=True):
            tally.add(answer)
        self.frame_ms.append(sum(frame.timings_ms.values()))
        self.late = sum(late.values())
        self.dropped += len(frame.dropped)

    @property
    def overall(self) -> Tally:
        """All questions together."""
        total = Tally(None)
        for tally in self.tallies:
            total.known += tally.known
            total.right += tally.right
            total.blind += tally.blind
        return total

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
