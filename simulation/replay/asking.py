"""Which questions are asked at which moment of a drive, and how the runtime comes to hold them.

Heads depend on the words of a question alone. So the questions of the next keyframe are handed
over before its frames are there, and those that two keyframes share keep their heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...runtime.frames import SensorFrame
from ...runtime.plans import Answer
from ...runtime.questions import Question
from ..questions.items import QaItem


class Answerer(Protocol):
    """What a player needs of a `Runtime`."""

    max_age_ms: float

    @property
    def late_frames(self) -> dict[str, int]: ...

    @property
    def bad_frames(self) -> dict[str, int]: ...

    def watch(self, question: Question) -> int: ...

    def unwatch(self, key: int) -> None: ...

    def push(self, frame: SensorFrame) -> bool: ...

    def step(self) -> list[Answer]: ...

    def forget_frames(self) -> None: ...


@dataclass(frozen=True)
class PlannedQuestion:
    """A question that is to be asked at a moment.

    Attributes:
        question: as the runtime gets it.
        item: the record of a question file, with the right answer; None of a standing question.
        guesses: what each baseline answers, by its name.
    """

    question: Question
    item: QaItem | None = None
    guesses: Mapping[str, str] = field(default_factory=dict)

    @property
    def expected(self) -> str | None:
        """The right answer, None where nobody knows it."""
        return None if self.item is None else self.item.answer


@dataclass(frozen=True)
class QuestionPlan:
    """All questions of a replay.

    Attributes:
        standing: asked at every moment.
        by_sample: asked at the keyframe of this token.
    """

    standing: Sequence[PlannedQuestion] = ()
    by_sample: Mapping[str, Sequence[PlannedQuestion]] = field(default_factory=dict)

    def at(self, sample_token: str | None) -> list[PlannedQuestion]:
        """What is asked at a moment; None is a moment that is no keyframe."""
        own = () if sample_token is None else self.by_sample.get(sample_token, ())
        return [*self.standing, *own]


class WatchList:
    """Keeps the standing questions of a runtime equal to those of one moment."""

    def __init__(self, runtime: Answerer) -> None:
        self._runtime = runtime
        # Ordered like the runtime's own: new ones at the end.
        self._keys: dict[Question, int] = {}

    def unknown(self, planned: Sequence[PlannedQuestion]) -> int:
        """How many heads `switch_to` would have to run."""
        return len({one.question for one in planned} - self._keys.keys())

    def switch_to(self, planned: Sequence[PlannedQuestion]) -> None:
        """Hold these questions and no others; heads of new ones run now.

        Raises:
            ConfigError: a question is too long for the model.
        """
        wanted = dict.fromkeys(one.question for one in planned)
        for question in [question for question in self._keys if question not in wanted]:
            self._runtime.unwatch(self._keys.pop(question))
        for question in wanted:
            if question not in self._keys:
                self._keys[question] = self._runtime.watch(question)

    def step(self) -> dict[Question, Answer]:
        """The answers to the questions held, from the newest frames."""
        return dict(zip(self._keys, self._runtime.step(), strict=True))
