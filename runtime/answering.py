"""A question with all that is prepared for it, and the reply that decoding makes."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from .decoding import TextPiece, choose_answers, stream_answer
from .head_state import HeadState
from .language_model import LanguageModel, TailResult
from .questions import AnswerTrie, Question


@dataclass(frozen=True)
class AskedQuestion:
    """A question after its head.

    Attributes:
        question: as asked.
        head: its cached states.
        trie: its allowed answers in tokens, or None for free text.
    """

    question: Question
    head: HeadState
    trie: AnswerTrie | None


@dataclass(frozen=True)
class Reply:
    """What decoding made of a question.

    Attributes:
        text: the answer.
        confidence: see `Answer.confidence`.
        passes: token passes beyond the tail's own.
        scored_full: states that were scored against the whole vocabulary.
        scored_rows: vocabulary entries that were scored one by one.
    """

    text: str
    confidence: float
    passes: int
    scored_full: int
    scored_rows: int


def reply_to_all(
    model: LanguageModel, result: TailResult, asked: Sequence[AskedQuestion]
) -> list[Reply]:
    """Decode the answers of a tail result; `asked` are its questions, in its order."""
    tries = {i: one.trie for i, one in enumerate(asked) if one.trie is not None}
    choices = choose_answers(model, result, tries)
    replies: list[Reply] = []
    for index, one in enumerate(asked):
        choice = choices.get(index)
        if choice is None:
            replies.append(_whole_reply(model, result, index, one))
        else:
            replies.append(Reply(choice.text, choice.confidence, choice.passes, 0, choice.scored))
    return replies


def _whole_reply(
    model: LanguageModel, result: TailResult, index: int, asked: AskedQuestion
) -> Reply:
    stream = stream_reply(model, result, index, asked)
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def stream_reply(
    model: LanguageModel, result: TailResult, index: int, asked: AskedQuestion
) -> Generator[TextPiece, None, Reply]:
    """Yield the pieces of a free-text answer and return the whole reply."""
    text, log_sum, count = "", 0.0, 0
    for piece in stream_answer(model, result, index, asked.question.max_new_tokens):
        text += piece.text
        log_sum += math.log(max(piece.probability, 1e-30))
        count += 1
        yield piece
    return Reply(text.strip(), math.exp(log_sum / count), count - 1, count, 0)
