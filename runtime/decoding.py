"""Turns the states behind a tail pass into answers: one of a list, or free text as a stream.

Constrained answers score only the tokens that may still come; free text takes the likeliest token
until the model ends. How states are computed is the language model's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .language_model import Float, LanguageModel, TailResult
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


def choose_answer(
    model: LanguageModel, result: TailResult, question: int, trie: AnswerTrie
) -> Choice:
    """Walk the tree of allowed answers, taking the likeliest token wherever there is a choice.

    Args:
        model: that made `result`.
        result: of a tail call.
        question: its index in that call.
        trie: the allowed answers.
    """
    node, confidence, passes, scored = trie.root, 1.0, 0, 0
    final: Float = result.final[question : question + 1]
    pending: list[int] = []
    cache: TextCache | None = None
    while node.answer is None:
        tokens = np.fromiter(node.children, dtype=np.int64)
        best = 0
        if len(tokens) > 1:
            if pending:
                cache = cache or TextCache(model, result, question, room=_depth(trie.root))
                for token in pending:
                    final = cache.extend(token)
                    passes += 1
                pending = []
            probabilities = softmax(model.score(final, tokens)[0])
            scored += len(tokens)
            best = int(probabilities.argmax())
            confidence *= float(probabilities[best])
        pending.append(int(tokens[best]))
        node = node.children[int(tokens[best])]
    return Choice(node.answer, confidence, passes, scored)


def _depth(node: TrieNode) -> int:
    return 1 + max((_depth(child) for child in node.children.values()), default=0)


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
