"""Remembers what a robot was taught: the tokens of that moment, the question, the right answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..pack import PackManifest
from ..perception import SensorTokens
from ..questions import NUSCENES_QA_ANSWERS, Question
from .data import AdaptationData, KnownQuestion

#: Seconds of a drive that are held out or learned from together.
BLOCK_S = 20
#: Moments that are kept; older ones are forgotten.
MOST_MOMENTS = 4096


@dataclass
class _Moment:
    seen: dict[str, SensorTokens]
    block: str
    tokens: Mapping[str, NDArray[np.float16]]
    questions: list[tuple[Question, str]] = field(default_factory=list)


class Lessons:
    """What was taught so far; the caller sees to it that one thread comes at a time."""

    def __init__(self, most_moments: int = MOST_MOMENTS) -> None:
        self._moments: deque[_Moment] = deque(maxlen=most_moments)

    def __len__(self) -> int:
        """Questions that are kept."""
        return sum(len(moment.questions) for moment in self._moments)

    def forget(self) -> None:
        """Keep nothing."""
        self._moments.clear()

    def add(
        self,
        question: Question,
        answer: str,
        tokens: Mapping[str, SensorTokens],
        block: str,
    ) -> None:
        """Keep a question about a moment.

        Args:
            question: with its allowed answers.
            answer: the right one.
            tokens: by sensor, of those that have some; questions about the same ones share them.
            block: scene or time block of the moment.
        """
        if not self._moments or not _are_same(self._moments[-1].seen, tokens):
            kept = {sensor: one.tokens.astype(np.float16) for sensor, one in tokens.items()}
            if self._moments:
                # Frames are large, and only the newest moment is ever compared.
                self._moments[-1].seen = {}
            self._moments.append(_Moment(dict(tokens), block, kept))
        self._moments[-1].questions.append((question, answer))

    def copy(self) -> Lessons:
        """What is kept now; quick, so that no frame waits while columns are made of the copy."""
        copied = Lessons(self._moments.maxlen or MOST_MOMENTS)
        copied._moments.extend(
            replace(moment, questions=list(moment.questions)) for moment in self._moments
        )
        return copied

    def data(self, pack: PackManifest) -> AdaptationData:
        """All of it, as columns; sensors without tokens at a moment have zeros there."""
        tokens: dict[str, NDArray[np.floating]] = {}
        for sensor, name in pack.sensor_encoders.items():
            if not any(sensor in moment.tokens for moment in self._moments):
                continue
            spec = pack.encoders[name]
            column = np.zeros((len(self._moments), spec.tokens, spec.width), np.float16)
            for number, moment in enumerate(self._moments):
                if sensor in moment.tokens:
                    column[number] = moment.tokens[sensor]
            tokens[sensor] = column
        questions = [
            KnownQuestion(number, question.text, answer, question.answers or (answer,))
            for number, moment in enumerate(self._moments)
            for question, answer in moment.questions
        ]
        return AdaptationData(tokens, [moment.block for moment in self._moments], questions)


def _are_same(seen: Mapping[str, SensorTokens], tokens: Mapping[str, SensorTokens]) -> bool:
    return seen.keys() == tokens.keys() and all(seen[name] is one for name, one in tokens.items())


def taught_question(question: Question, answer: str, known: Sequence[Question]) -> Question:
    """The question with its allowed answers.

    Those of the question itself, else those of a standing question of the same text, else those
    of NuScenes-QA.

    Raises:
        ConfigError: the answer is not among them.
    """
    answers = question.answers
    if answers is None:
        standing = [one.answers for one in known if one.text == question.text and one.answers]
        answers = standing[0] if standing else NUSCENES_QA_ANSWERS
    if answer not in answers:
        raise ConfigError(
            f"the answer '{answer}' is not among the allowed ones: {', '.join(answers[:12])}"
            f"{', ...' if len(answers) > 12 else ''}",
            field="answer",
            remedy="give one of them, or the allowed answers beside the question",
        )
    return Question(question.text, answers)


def block_of(stamp_ns: int) -> str:
    """Time block of a moment."""
    return f"{stamp_ns // (BLOCK_S * 1_000_000_000)}"
