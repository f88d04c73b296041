"""Which questions come first where not all can be answered in a frame.

Those that have no last answer to give again come first; of the others those that have the highest
priority, then those whose last answer is oldest, then in the order asked. One at least is answered
in each frame; what then has neither a new answer nor a last one is given an empty one, marked, and
comes first in the next frame. A question that needs a sensor which has nothing to give keeps its
last answer; if it has none, or if nothing else is asked, it is answered without that sensor.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from .scheduler import PlanRequest, QuestionDemand


@dataclass(frozen=True)
class QuestionQueue:
    """The questions of a request that may be answered now.

    Attributes:
        order: their indices, those first that come first.
        must: how many of these must be answered; 1 if there are any.
        lacking: sensors that are needed and have nothing to give.
    """

    order: tuple[int, ...]
    must: int
    lacking: tuple[str, ...]

    def first(self, count: int) -> tuple[int, ...]:
        """The first ones, in the order in which they were asked."""
        return tuple(sorted(self.order[:count]))


def queue_of(request: PlanRequest, usable: Container[str]) -> QuestionQueue:
    """Put the questions of a request in order.

    Args:
        request: what is asked.
        usable: sensors that have something to give.
    """
    asked = request.questions
    every = range(len(asked))
    lacking = tuple(s for s in needed_sensors(asked, every) if s not in usable)
    able = [i for i in every if not (lacking and _waits(asked[i], lacking))] or list(every)
    # Python's sort keeps the order of equals.
    order = sorted(able, key=lambda i: (-asked[i].priority, -(asked[i].held_age_ms or 0.0)))
    unanswered = [i for i in order if asked[i].held_age_ms is None]
    rest = [i for i in order if asked[i].held_age_ms is not None]
    return QuestionQueue((*unanswered, *rest), min(1, len(order)), lacking)


def _waits(question: QuestionDemand, lacking: Sequence[str]) -> bool:
    """Whether a question keeps its last answer, as a sensor that it needs has nothing to give."""
    return question.held_age_ms is not None and any(s in lacking for s in question.sensors)


def needed_sensors(questions: Sequence[QuestionDemand], asked: Sequence[int]) -> tuple[str, ...]:
    """Sensors that some questions need, each once."""
    return tuple(dict.fromkeys([sensor for i in asked for sensor in questions[i].sensors]))


def weights_of(questions: Sequence[QuestionDemand], asked: Sequence[int]) -> dict[str, float]:
    """Kinds of some questions, with the sum of their priorities."""
    weights: dict[str, float] = {}
    for i in asked:
        question = questions[i]
        weights[question.kind] = weights.get(question.kind, 0.0) + question.priority
    return weights
