"""What the adaptation benchmark learns and is asked: day and other conditions, on the device.

Tokens, texts and right answers are the same for every method; only what a method makes of a text
(cached head states, or token ids) differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.adaptation.batches import last_filled, padded_rows
from ..runtime.adaptation.samples import HeadTexts, Samples, TrainingData
from ..runtime.errors import ConfigError
from ..simulation.questions.baselines import MAJORITY_PER_TEMPLATE
from ..training.prepared_data import PreparedData
from .adaptation_errors import standard_error

#: A condition with fewer held-out questions says nothing.
LEAST_HELD_OUT = 20


@dataclass(frozen=True)
class BenchData:
    """All that is learned and asked.

    Attributes:
        prepared: tokens, texts, decisions and answers.
        modalities: encoder name by sensor that can be active, in the pack's order.
    """

    prepared: PreparedData
    modalities: Mapping[str, str]

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Tokens and width, by modality."""
        tokens = self.prepared.tokens
        return {
            modality: (tokens[sensor].shape[1], tokens[sensor].shape[2])
            for sensor, modality in self.modalities.items()
        }

    def training_data(self, heads: HeadTexts, condition: str) -> TrainingData:
        """What `Trainer` takes, of one condition.

        Args:
            heads: of all texts.
            condition: whose decisions are learned and held out.
        """
        held_out = self.prepared.held_out
        return replace(
            self.prepared.with_heads(heads, lambda sensor: sensor in self.modalities),
            train=self.learned(condition),
            held_out=held_out.take(np.flatnonzero(self._are(held_out, condition))),
        )

    def learned(self, condition: str) -> Samples:
        """Decisions to learn of one condition."""
        train = self.prepared.train
        return train.take(np.flatnonzero(self._are(train, condition)))

    def check(self, conditions: Sequence[str], batch: int) -> None:
        """Refuse data that is too little for one of the conditions.

        Raises:
            ConfigError: naming the condition.
        """
        for condition in conditions:
            learned = len(self.learned(condition))
            if learned < batch:
                raise ConfigError(
                    f"there are {learned} decisions to learn by {condition}, fewer than a batch "
                    f"of {batch}",
                    field=condition,
                    remedy="give more drives of it, a smaller --batch, or leave it out of "
                    "--conditions",
                )
            asked = list(self.prepared.known.conditions).count(condition)
            if asked < LEAST_HELD_OUT:
                raise ConfigError(
                    f"there are {asked} held-out questions by {condition}, fewer than "
                    f"{LEAST_HELD_OUT}",
                    field=condition,
                    remedy="give more scenes of it, or leave it out of --conditions",
                )

    def exam(self, condition: str, most: int, seed: int) -> Exam:
        """A fixed choice of held-out questions.

        Args:
            condition: of light and weather.
            most: questions.
            seed: of the choice.
        """
        known = self.prepared.known
        of_condition = np.flatnonzero(np.asarray(known.conditions) == condition)
        order = np.random.default_rng([seed, 5]).permutation(of_condition)
        chosen = np.sort(order[:most])
        place = np.full(len(known.questions), -1, np.int64)
        place[chosen] = np.arange(len(chosen))
        decisions = np.flatnonzero(place[known.question] >= 0)
        truth = [known.questions[number].answer for number in chosen]
        blocks = known.scenes or [item.sample_token for item in known.questions]
        _, block = np.unique([blocks[number] for number in chosen], return_inverse=True)
        guessed = {
            name: float(np.mean([answers[n] == t for n, t in zip(chosen, truth, strict=True)]))
            for name, answers in known.guesses.items()
        }
        return Exam(
            self.prepared.held_out.take(decisions),
            place[known.question[decisions]],
            len(chosen),
            max(guessed.values()),
            guessed[MAJORITY_PER_TEMPLATE],
            block,
            "scene" if known.scenes else "keyframe",
        )

    def _are(self, samples: Samples, condition: str) -> NDArray[np.bool_]:
        return (np.asarray(self.prepared.conditions) == condition)[samples.moment]


@dataclass(frozen=True)
class Exam:
    """Held-out questions of one condition.

    Attributes:
        decisions: on the way to their answers.
        owner: int64 `[decisions]`, the question of each.
        questions: how many.
        blind: accuracy of the best guess that sees no sensor, on these very questions.
        majority: accuracy of the majority per template.
        block: int64 `[questions]`, scene of each, or its keyframe where scenes are not known;
            questions of one are alike, so errors are those of blocks.
        blocks_are: `scene` or `keyframe`.
    """

    decisions: Samples
    owner: NDArray[np.int64]
    questions: int
    blind: float
    majority: float
    block: NDArray[np.int64]
    blocks_are: str

    def questions_right(self, decisions: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Questions whose decisions are all right, of `[decisions]`."""
        whole = np.ones(self.questions, np.bool_)
        np.logical_and.at(whole, self.owner, decisions)
        return whole

    def seen(self, right: NDArray[np.bool_]) -> dict[str, Any]:
        """What a row keeps of a look: `accuracy`, its `standard_error`, and `right`, packed."""
        return {
            "accuracy": float(right.mean()),
            "standard_error": standard_error(right.astype(np.float64), self.block),
            "right": np.packbits(right).tobytes().hex(),
        }


class DeviceData:
    """Tokens, texts and answers where a method learns."""

    def __init__(self, data: BenchData, device: torch.device) -> None:
        """Copy everything to the device."""
        self.data, self.device = data, device
        prepared = data.prepared
        tokens = {sensor: np.asarray(prepared.tokens[sensor]) for sensor in data.modalities}
        self._tokens = {sensor: self.here(rows) for sensor, rows in tokens.items()}
        filled = {sensor: np.any(rows != 0, axis=-1) for sensor, rows in tokens.items()}
        self._filled = {sensor: there.sum(1) for sensor, there in filled.items()}
        self._stops = {sensor: last_filled(there) for sensor, there in filled.items()}
        lengths = np.array([len(text) for text in prepared.texts], np.int64)
        self.text_lengths = lengths
        self.text_offsets = np.concatenate([[0], np.cumsum(lengths)])
        ids = np.concatenate([np.asarray(text, np.int64) for text in prepared.texts])
        self._ids = self.here(ids)
        #: All tokens that are ever allowed: one layer of scores serves every decision.
        self.answers = sorted({token for choice in prepared.choices for token in choice})
        columns = {token: column for column, token in enumerate(self.answers)}
        largest = max(map(len, prepared.choices))
        self._columns = np.full((len(prepared.choices), largest), -1, np.int64)
        allowed = np.zeros((len(prepared.choices), len(self.answers)), np.bool_)
        for number, choice in enumerate(prepared.choices):
            self._columns[number, : len(choice)] = [columns[token] for token in choice]
            allowed[number, self._columns[number, : len(choice)]] = True
        self._barred = self.here(np.where(allowed, 0, -np.inf).astype(np.float32))

    def here(self, array: NDArray[np.generic]) -> Tensor:
        """On the device; the host does not wait for it."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def tokens(self, moments: NDArray[np.integer], sensors: Sequence[str]) -> dict[str, Tensor]:
        """By sensor float32 `[n, rows, width]`, without rows that no moment of these fills."""
        at = self.here(moments.astype(np.int64))
        rows = self.rows(moments, sensors)
        return {s: self._tokens[s][at, :stop].float() for s, stop in rows.items()}

    def rows(self, moments: NDArray[np.integer], sensors: Sequence[str]) -> dict[str, int]:
        """Rows of `tokens`, by sensor."""
        return {s: max(1, int(self._stops[s][moments].max())) for s in sensors}

    def present(self, moments: NDArray[np.integer], sensors: Sequence[str]) -> NDArray[np.int64]:
        """Tokens that each of these moments has, of all sensors together."""
        return np.sum([self._filled[s][moments] for s in sensors], axis=0)

    def places(self, texts: NDArray[np.integer]) -> tuple[Tensor, Tensor, Tensor]:
        """Where the tokens of texts lie in an array of all.

        Returns:
            Rows int64 `[n, longest]` (the last one again beyond the end), whether they are there,
            and lengths `[n]`.
        """
        first, count = self.here(self.text_offsets[texts]), self.here(self.text_lengths[texts])
        rows, there = padded_rows(first, count, int(self.text_lengths[texts].max()))
        return rows, there, count

    def ids(self, texts: NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        """Token ids padded on the right, int64 `[n, longest]`, and lengths."""
        rows, _, lengths = self.places(texts)
        return self._ids[rows], lengths

    def masked(self, scores: Tensor, samples: Samples) -> Tensor:
        """Scores `[n, answers]` without those of tokens that the decision does not allow."""
        return scores + self._barred[self.here(samples.allowed.astype(np.int64))]

    def wanted(self, samples: Samples) -> Tensor:
        """Columns of the right tokens, int64 `[n]`."""
        return self.here(self._columns[samples.allowed, samples.target])
