"""The questions that an adaptation has time for, and the head states of their texts; no torch.

Whole questions are kept or left out, and texts are encoded in the order in which a random mix of
training and held-out questions needs them: whenever time is up, what is there is a fair sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import BudgetError
from ..language_model import LanguageModel
from ..passes import split_passes
from .data import SpelledQuestions, TokenIds
from .samples import HeadTexts, Samples
from .text_states import packed_states

#: Tokens of a pass of heads: small, since frames wait for the same cores.
_HEAD_TOKENS = 64


class QuestionChoice:
    """Training and held-out questions, fewer as time demands."""

    def __init__(self, spelled: SpelledQuestions, seed: int) -> None:
        """Begin with all of them.

        Args:
            spelled: the questions.
            seed: of what is drawn.
        """
        self.texts: Sequence[TokenIds] = spelled.texts
        self.train, self.held_out = spelled.train, spelled.held_out
        self._train_question = spelled.train_question
        self._held_question = spelled.held_out_question
        self._seed = seed

    @property
    def train_questions(self) -> int:
        return len(np.unique(self._train_question))

    @property
    def held_out_questions(self) -> int:
        return len(np.unique(self._held_question))

    def trial(self, count: int, hidden_size: int) -> tuple[Samples, HeadTexts]:
        """Some training decisions with random states, for measuring speed without any head."""
        rng = np.random.default_rng(self._seed)
        chosen = self.train.take(rng.permutation(len(self.train))[:count])
        texts, numbers = np.unique(chosen.text, return_inverse=True)
        offsets = np.concatenate([[0], np.cumsum([len(self.texts[text]) for text in texts])])
        states = rng.normal(size=(int(offsets[-1]), hidden_size)).astype(np.float16)
        return replace(chosen, text=numbers.astype(np.int32)), HeadTexts(states, offsets, states)

    def limit_held_out(self, decisions: int) -> None:
        """Keep about so many held-out decisions."""
        numbers = self._held_question
        if len(numbers) <= decisions:
            return
        rng = np.random.default_rng(self._seed)
        order = rng.permutation(numbers.max() + 1)
        counts = np.bincount(numbers, minlength=len(order))
        stop = int(np.searchsorted(np.cumsum(counts[order]), decisions, side="right"))
        self._keep_held_out(np.isin(numbers, order[: max(1, stop)]))

    def right_questions(self, right: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """By held-out question, whether all decisions on the way to its answer are right."""
        numbers, owner = np.unique(self._held_question, return_inverse=True)
        found = np.ones(len(numbers), np.bool_)
        np.logical_and.at(found, owner, right)
        return found

    def encode(
        self,
        model: LanguageModel,
        boundaries: Sequence[int],
        deadline: float | None,
        check: Callable[[], None],
    ) -> tuple[dict[int, HeadTexts], int]:
        """Run heads until a deadline; questions that lack a text are left out.

        Args:
            model: whose head runs, beside frames.
            boundaries: blocks that states are kept in front of.
            deadline: of `time.monotonic()`, None for as long as it takes.
            check: called between passes; may raise.

        Returns:
            States by boundary, and tokens that were encoded.

        Raises:
            BudgetError: there was no time for a single question.
        """
        order = self._text_order()
        texts = [self.texts[at] for at in order]
        parts: dict[int, list[NDArray[np.float16]]] = {boundary: [] for boundary in boundaries}
        done = 0
        for batch in split_passes([len(text) for text in texts], _HEAD_TOKENS):
            check()
            if deadline is not None and time.monotonic() > deadline:
                break
            states = packed_states(model, texts[batch], boundaries, background=True)
            for boundary, rows in zip(boundaries, states, strict=True):
                parts[boundary].append(rows.astype(np.float16))
            done = batch.stop
        self._keep_texts(order[:done])
        offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts[:done]])])
        offsets = offsets.astype(np.int64)
        found = {b: HeadTexts(np.concatenate(rows), offsets) for b, rows in parts.items()}
        return found, int(offsets[-1])

    def take_heads(
        self, provider: Callable[[Sequence[TokenIds], int], HeadTexts], boundaries: Sequence[int]
    ) -> Mapping[int, HeadTexts]:
        """States from somebody who has them, of all texts that are still needed."""
        order = self._text_order()
        texts = [self.texts[at] for at in order]
        found = {boundary: provider(texts, boundary) for boundary in boundaries}
        self._keep_texts(order)
        return found

    def _text_order(self) -> list[int]:
        rng = np.random.default_rng([self._seed, 2])
        needed = np.concatenate([self.train.text, self.held_out.text])
        needed = needed[rng.permutation(len(needed))]
        return list(dict.fromkeys(int(text) for text in needed))

    def _keep_texts(self, texts: Sequence[int]) -> None:
        """Go on with questions all of whose texts have states, and number texts anew."""
        place = np.full(len(self.texts), -1, np.int32)
        place[list(texts)] = np.arange(len(texts), dtype=np.int32)
        for samples, question, keep in (
            (self.train, self._train_question, self._keep_train),
            (self.held_out, self._held_question, self._keep_held_out),
        ):
            lacking = np.unique(question[place[samples.text] < 0])
            keep(~np.isin(question, lacking))
        if not len(self.train) or not len(self.held_out):
            raise BudgetError(
                "no question to learn from or to examine with could be encoded in time",
                field="budget.time_s",
                remedy="raise it, or give fewer distinct questions",
            )
        self.texts = [self.texts[at] for at in texts]
        self.train = replace(self.train, text=place[self.train.text])
        self.held_out = replace(self.held_out, text=place[self.held_out.text])

    def _keep_train(self, rows: NDArray[np.bool_]) -> None:
        kept = np.flatnonzero(rows)
        self.train, self._train_question = self.train.take(kept), self._train_question[kept]

    def _keep_held_out(self, rows: NDArray[np.bool_]) -> None:
        kept = np.flatnonzero(rows)
        self.held_out, self._held_question = self.held_out.take(kept), self._held_question[kept]
