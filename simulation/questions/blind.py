"""Answers from the words of a question alone: what a model scores that sees nothing.

A multinomial logistic regression over hashed word n-grams, in numpy, trained by mini-batches. It
is deterministic: no hash of Python and no clock is involved.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BUCKETS = 1 << 13
_LONGEST_GRAM = 3
_EPOCHS = 8
_BATCH = 256
_LEARNING_RATE = 0.5
_DECAY = 1e-4
_EPSILON = 1e-8
#: More questions hardly help words that are few, and training time grows with them.
_MAX_TRAINED_ON = 120_000
_WORD = re.compile(r"[a-z0-9]+")


class WordRegression:
    """Predicts the answer from word n-grams."""

    def __init__(self, questions: Sequence[str], answers: Sequence[str], seed: int = 0) -> None:
        """Train.

        Args:
            questions: texts, at least one.
            answers: the right one of each.
            seed: of the order of training.
        """
        self._grams: dict[str, NDArray[np.int64]] = {}
        self._classes = sorted(set(answers))
        place = {answer: number for number, answer in enumerate(self._classes)}
        labels = np.array([place[answer] for answer in answers])
        self._weights = np.zeros((_BUCKETS, len(self._classes)), np.float32)
        squares = np.full_like(self._weights, _EPSILON)
        rng = np.random.default_rng(seed)
        for _ in range(_EPOCHS):
            order = rng.permutation(len(labels))[:_MAX_TRAINED_ON]
            for first in range(0, len(order), _BATCH):
                batch = order[first : first + _BATCH]
                texts = [questions[int(row)] for row in batch]
                self._step(texts, labels[batch], squares)

    def predict(self, questions: Sequence[str]) -> list[str]:
        """The likeliest answer to each question."""
        found: list[str] = []
        for first in range(0, len(questions), _BATCH):
            grams, owners = self._features(questions[first : first + _BATCH])
            count = min(_BATCH, len(questions) - first)
            best = self._scores(grams, owners, count).argmax(axis=1)
            found += [self._classes[row] for row in best.tolist()]
        return found

    def _step(
        self, questions: Sequence[str], labels: NDArray[np.int64], squares: NDArray[np.float32]
    ) -> None:
        """One step of AdaGrad, on the weights of the n-grams in the batch only."""
        grams, owners = self._features(questions)
        scores = self._scores(grams, owners, len(labels))
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        error = odds / odds.sum(axis=1, keepdims=True)
        error[np.arange(len(labels)), labels] -= 1
        error /= len(labels)
        buckets, where = np.unique(grams, return_inverse=True)
        presence = np.zeros((len(buckets), len(labels)), np.float32)
        presence[where, owners] = 1
        slope = presence @ error + _DECAY * self._weights[buckets]
        squares[buckets] += slope**2
        self._weights[buckets] -= _LEARNING_RATE * slope / np.sqrt(squares[buckets])

    def _scores(
        self, grams: NDArray[np.int64], owners: NDArray[np.int64], count: int
    ) -> NDArray[np.float32]:
        starts = np.searchsorted(owners, np.arange(count))
        return np.add.reduceat(self._weights[grams], starts, axis=0)

    def _features(self, questions: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Buckets of the n-grams of all questions, and the question of each, in order."""
        found = [self._buckets(question) for question in questions]
        owners = np.repeat(np.arange(len(found)), [len(buckets) for buckets in found])
        return np.concatenate(found), owners

    def _buckets(self, question: str) -> NDArray[np.int64]:
        if question not in self._grams:
            words = ["<", *_WORD.findall(question.lower()), ">"]
            grams = {
                " ".join(words[first : first + length])
                for length in range(1, _LONGEST_GRAM + 1)
                for first in range(len(words) - length + 1)
            }
            buckets = sorted({zlib.crc32(gram.encode()) % _BUCKETS for gram in grams})
            self._grams[question] = np.array(buckets, np.int64)
        return self._grams[question]
