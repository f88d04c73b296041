"""One answer of a replay as a line of its results file."""

from __future__ import annotations

from collections.abc import Iterator

from ...runtime.plans import Answer
from .player import PlayedStep


class ReplayedAnswer(Answer):
    """An answer, and what was asked of which moment.

    Attributes:
        drive: title of the drive.
        sample_token: of the keyframe, None where the drive has none.
        moment_ns: sensor time that was asked about.
        expected: the right answer, None where nobody knows it.
        right: whether the answer is the expected one; None likewise.
        template_type: of the question, empty without one.
        num_hop: of the question, None without one.
        guesses: answers of the baselines, by name.
        step_ms: of the whole moment, for all its answers together.
        lag_ms: how long after the moment it was asked.
    """

    drive: str
    sample_token: str | None
    moment_ns: int
    expected: str | None
    right: bool | None
    template_type: str
    num_hop: int | None
    guesses: dict[str, str]
    step_ms: float
    lag_ms: float


def records_of(drive: str, step: PlayedStep) -> Iterator[ReplayedAnswer]:
    """The answers of a moment, in the order of its questions."""
    for planned, answer in zip(step.planned, step.answers, strict=True):
        yield ReplayedAnswer(
            **{name: getattr(answer, name) for name in Answer.model_fields},
            drive=drive,
            sample_token=step.moment.sample_token,
            moment_ns=step.moment.stamp_ns,
            expected=planned.expected,
            right=None if planned.expected is None else answer.text == planned.expected,
            template_type="" if planned.item is None else planned.item.template_type,
            num_hop=None if planned.item is None else planned.item.num_hop,
            guesses=dict(planned.guesses),
            step_ms=step.step_ms,
            lag_ms=step.lag_ms,
        )
