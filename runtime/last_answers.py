"""Answers of earlier frames, given again where a frame has no time or no budget for a question.

An answer is given again only while the moment that it tells of is no older than frames may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .model_config import Precision
from .plans import Answer, Plan, SensorUse
from .questions import Question

#: Questions whose last answer is kept; those answered longest ago go first.
_MOST = 1024


class Mean(Protocol):
    """An expected value with whatever else is known of it."""

    @property
    def mean(self) -> float: ...


@runtime_checkable
class HeldModel(Protocol):
    """Knows how often answers that are given again are right; see `utility.UtilityModel.held`."""

    def held(
        self,
        key: str,
        condition: str | None,
        ages_ms: Mapping[str, float],
        held_ms: float,
        depth: int,
        precision: Precision,
    ) -> Mean: ...


@dataclass(frozen=True)
class FrameFacts:
    """What all answers of a frame have in common.

    Attributes:
        newest_ns: stamp of the newest frame of all sensors.
        plan: what was decided.
        dropped: wanted sensors whose newest frame is not used, with the reason.
        timings_ms: milliseconds per stage.
        flops: counted operations.
        cut: why the frame was cut short, None if it was not.
        late_ms: by how much it missed its deadline, None if it did not.
        pack: name and version.
        pack_trained: whether its connections know anything.
    """

    newest_ns: int
    plan: Plan
    dropped: Mapping[str, str]
    timings_ms: Mapping[str, float]
    flops: int
    cut: str | None
    late_ms: float | None
    pack: str
    pack_trained: bool

    def answer(
        self,
        question: Question,
        text: str,
        confidence: float,
        sensors: Mapping[str, SensorUse],
        *,
        held: bool = False,
        cut: str | None = None,
    ) -> Answer:
        """An answer of this frame.

        Args:
            question: that is answered.
            text: the answer.
            confidence: of it.
            sensors: behind it.
            held: whether it is given again.
            cut: why, beside what holds for the whole frame.
        """
        return Answer(
            question=question.text,
            text=text,
            confidence=confidence,
            stamp_ns=min((use.stamp_ns for use in sensors.values()), default=None),
            sensors=dict(sensors),
            dropped=dict(self.dropped),
            plan=self.plan,
            timings_ms=dict(self.timings_ms),
            flops=self.flops,
            pack=self.pack,
            pack_trained=self.pack_trained,
            held=held,
            cut="; ".join(filter(None, (self.cut, cut))) or None,
            late_ms=self.late_ms,
        )


@dataclass(frozen=True)
class _Given:
    text: str
    confidence: float
    sensors: Mapping[str, SensorUse]
    oldest_ns: int
    newest_ns: int
    depth: int
    precision: Precision


class LastAnswers:
    """The newest answer to each question."""

    def __init__(self) -> None:
        self._given: dict[Question, _Given] = {}

    def note(self, question: Question, answer: Answer, newest_ns: int) -> None:
        """Keep an answer of the frame of now.

        Args:
            question: that was answered.
            answer: the answer.
            newest_ns: stamp of the newest frame of all sensors, the age of answers without any.
        """
        self._given.pop(question, None)
        moments = [newest_ns if u.carried else u.stamp_ns for u in answer.sensors.values()]
        oldest_ns = min(moments, default=newest_ns)
        self._given[question] = _Given(
            answer.text,
            answer.confidence,
            answer.sensors,
            oldest_ns,
            newest_ns,
            answer.plan.tail_blocks,
            answer.plan.precision,
        )
        while len(self._given) > _MOST:
            del self._given[next(iter(self._given))]

    def age_ms(self, question: Question, newest_ns: int, max_age_ms: float) -> float | None:
        """How long ago it was as a question's answer says; None if there is none to give again.

        That is the age of the oldest frame behind it; a frame whose objects were carried forward
        tells of the moment that they were carried to.

        Args:
            question: that is asked.
            newest_ns: stamp of the newest frame of all sensors.
            max_age_ms: older ones are not given again.
        """
        given = self._given.get(question)
        if given is None:
            return None
        age_ms = (newest_ns - given.oldest_ns) / 1e6
        return age_ms if 0 <= age_ms <= max_age_ms else None

    def share(
        self, question: Question, key: str, condition: str | None, newest_ns: int, model: object
    ) -> float | None:
        """Expected share of right answers if the last one is given again.

        Args:
            question: that was answered.
            key: of its topic.
            condition: of light and weather.
            newest_ns: stamp of the newest frame of all sensors.
            model: None is returned for one that is no `HeldModel`.
        """
        given = self._given.get(question)
        if given is None or not isinstance(model, HeldModel):
            return None
        then_ns = given.newest_ns
        ages_ms = {name: (then_ns - use.stamp_ns) / 1e6 for name, use in given.sensors.items()}
        held_ms = (newest_ns - then_ns) / 1e6
        depth, precision = given.depth, given.precision
        return model.held(key, condition, ages_ms, held_ms, depth, precision).mean

    def again(self, question: Question, frame: FrameFacts, max_age_ms: float) -> Answer:
        """The last answer as one of this frame, or an empty one where there is none."""
        if self.age_ms(question, frame.newest_ns, max_age_ms) is None:
            return frame.answer(
                question, "", 0.0, {}, cut="not answered: no answer to give again is young enough"
            )
        given = self._given[question]
        aged = {
            sensor: SensorUse(
                stamp_ns=use.stamp_ns,
                age_ms=(frame.newest_ns - use.stamp_ns) / 1e6,
                reused=True,
                carried=use.carried,
            )
            for sensor, use in given.sensors.items()
        }
        return frame.answer(question, given.text, given.confidence, aged, held=True)

    def forget(self) -> None:
        """Drop all of them."""
        self._given.clear()
