"""Turns the states behind a tail pass into answers: one of a list, or free text as a stream.

Constrained answers score only the tokens that may still come; free text takes the likeliest token
until the model ends. How states are computed is the language model's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .head_state import Float
from .language_model import LanguageModel, TailResult
from .packed_cache import PackedCache
from .questions import AnswerTrie, TrieNode
from .text_cache import TextCache


@dataclass(frozen=True)
class Choice:
    """An answer taken from the allowed ones.

    Attributes:
        text: the answer.
        confidence: its probability, renormalised over the allowed answers: at each point where
            allowed answers part, over the tokens with which they go on.
        passes: extra token passes that answers of several tokens needed.
        scored: vocabulary entries that were scored.
    """

    text: str
    confidence: float
    passes: int
    scored: int


@dataclass(frozen=True)
class TextPiece:
    """A piece of a streamed answer.

    Attributes:
        text: what this piece adds; may be empty while a character is incomplete.
        probability: of the token behind it, over the whole vocabulary.
        last: whether the answer ends here.
    """

    text: str
    probability: float
    last: bool


@dataclass
class _Walk:
    """How far one question has got in its tree of answers."""

    node: TrieNode
    final: Float
    pending: list[int]
    confidence: float = 1.0
    passes: int = 0
    scored: int = 0

    def advance(self, model: LanguageModel) -> None:
        """Go on until the answer is known, or tokens must pass through the model first."""
        while self.node.answer is None:
            tokens = np.fromiter(self.node.children, dtype=np.int64)
            best = 0
            if len(tokens) > 1:
                if self.pending:
                    return
                probabilities = softmax(model.score(self.final, tokens)[0])
                best = int(probabilities.argmax())
                self.confidence *= float(probabilities[best])
                self.scored += len(tokens)
            self.pending.append(int(tokens[best]))
            self.node = self.node.children[int(tokens[best])]


def choose_answers(
    model: LanguageModel, result: TailResult, tries: Mapping[int, AnswerTrie]
) -> dict[int, Choice]:
    """Walk trees of allowed answers, taking the likeliest token wherever there is a choice.

    Questions walk in step: tokens that several of them need go through the model in one pass.

    Args:
        model: that made `result`.
        result: of a tail call.
        tries: allowed answers, by the question's index in that call.
    """
    walks = {q: _Walk(trie.root, result.final[q : q + 1], []) for q, trie in tries.items()}
    cache: PackedCache | None = None
    while True:
        for walk in walks.values():
            walk.advance(model)
        waiting = [q for q, walk in walks.items() if walk.node.answer is None]
        if not waiting:
            break
        cache = cache or PackedCache(model, result)
        finals = cache.extend(waiting, [walks[q].pending.pop(0) for q in waiting])
        for row, q in enumerate(waiting):
            walks[q].final = finals[row : row + 1]
            walks[q].passes += 1
    return {
        q: Choice(walk.node.answer or "", walk.confidence, walk.passes, walk.scored)
        for q, walk in walks.items()
    }


def stream_answer(
    model: LanguageModel, result: TailResult, question: int, max_new_tokens: int
) -> Iterator[TextPiece]:
    """Yield a free-text answer token by token, always the likeliest.

    Args:
        model: that made `result`.
        result: of a tail call.
        question: its index in that call.
        max_new_tokens: most tokens to yield.

    Yields:
        At least one piece; exactly the final one has `last` set.
    """
    final: Float = result.final[question : question + 1]
    cache: TextCache | None = None
    tokens: list[int] = []
    shown = ""
    ends = set(model.config.eos_token_ids)
    for count in range(1, max_new_tokens + 1):
        probabilities = softmax(model.logits(final)[0])
        token = int(probabilities.argmax())
        probability = float(probabilities[token])
        if token in ends:
            rest = model.tokenizer.decode(tokens)[len(shown) :]
            yield TextPiece(rest, probability, last=True)
            return
        tokens.append(token)
        text = model.tokenizer.decode(tokens)
        last = count == max_new_tokens
        # A character of several bytes decodes to U+FFFD until its last token is there.
        piece = text[len(shown) :] if last or not text.endswith("�") else ""
        shown += piece
        yield TextPiece(piece, probability, last)
        if not last:
            cache = cache or TextCache(model, result, question, room=max_new_tokens)
            final = cache.extend(token)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities of a vector of logits."""
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    return shifted / shifted.sum()
