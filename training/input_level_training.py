"""Trains packs in the form as published: connectors and low-rank branches of a frozen model.

Each step takes a few views and asks several questions about each, so that a view's tokens run once.
Everything is decided by the seed and the step, so a run that was cut off goes on where its last
checkpoint stands.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from ..kernels.direction_tokens import DIRECTIONS, PRESENCE
from ..runtime.adaptation.training_config import TrainingError
from .decoupled_model import DecoupledModel
from .sense_examples import Examples, Tokens, Views, sense_of

Pieces = list[tuple[str, Tensor]]


class InputLevelConfig(BaseModel):
    """How they are trained.

    Attributes:
        steps: of the optimiser.
        views: of a step.
        questions: about each view, at most.
        learning_rate: its peak, reached after `warmup` steps; then it falls like a cosine.
        warmup: steps.
        clip: largest norm of the gradient.
        seed: of the order.
        keep_every: steps between two checkpoints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0)
    views: int = Field(default=8, gt=0)
    questions: int = Field(default=8, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: int = Field(default=10, ge=0)
    clip: float = Field(default=1.0, gt=0)
    seed: int = 0
    keep_every: int = Field(default=20, gt=0)


@dataclass(frozen=True)
class InputLevelProgress:
    """What a running training tells: finished steps, running means, and seconds a step."""

    step: int
    steps: int
    loss: float
    accuracy: float
    step_s: float


def pieces_of(views: Views, view: int) -> Pieces:
    """What a model is given of a view: each input that is there, as `rows_of` has it."""
    found: Pieces = []
    for name, tokens in views.tokens.items():
        if tokens[view].any():
            found.append((sense_of(name), rows_of(tokens[view])))
    return found


def rows_of(tokens: Tokens) -> Tensor:
    """Direction tokens in the order of their directions, float32 `[6, 64]`; missing ones are 0."""
    rows = tokens.astype(np.float32)
    rows = rows[rows.any(axis=1)]
    ordered = np.zeros((DIRECTIONS, rows.shape[1]), np.float32)
    ordered[rows[:, PRESENCE + 1 :].argmax(axis=1)] = rows
    return torch.from_numpy(ordered)


def margins_of(
    model: DecoupledModel,
    batch: Sequence[Pieces],
    asked: Sequence[Sequence[int]],
    texts: Sequence[Tensor],
    answers: tuple[int, int],
) -> Tensor:
    """How far yes is above no, in logits, for questions about some inputs.

    Args:
        model: that is asked.
        batch: inputs, see `pieces_of`.
        asked: for each, numbers of texts.
        texts: token ids or states of all questions.
        answers: tokens of yes and no.

    Returns:
        float32 `[all questions]`, input by input.
    """
    final = model.answers_each(
        batch, [[texts[number] for number in some] for some in asked], side_by_side=True
    )
    scores = final @ model.rows_of(answers).T
    return scores[:, 0] - scores[:, 1]


class InputLevelTrainer:
    """One training run."""

    def __init__(
        self,
        model: DecoupledModel,
        examples: Examples,
        texts: Sequence[Tensor],
        answers: tuple[int, int],
        config: InputLevelConfig,
        checkpoint: Path | None = None,
    ) -> None:
        """Get ready, and take up the checkpoint if there is one.

        Args:
            model: is trained in place.
            examples: to learn from.
            texts: token ids or states of the questions, by number of the concept.
            answers: tokens of yes and no.
            config: of the run.
            checkpoint: file to keep the state in; None keeps none.

        Raises:
            TrainingError: the checkpoint is of another run.
        """
        self.model, self.config = model, config
        self._views, questions = examples
        self._texts = list(texts)
        self._answers = answers
        self._by_view = _by_view(questions)
        self._numbers = np.array(sorted(self._by_view))
        self._trained = [one for one in model.parameters() if one.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, config.learning_rate, weight_decay=0.0)
        self._path = checkpoint
        self.step = 0
        if checkpoint is not None and checkpoint.is_file():
            self._resume(checkpoint)

    def run(
        self,
        on_progress: Callable[[InputLevelProgress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Train until the last step, or until told to stop.

        Raises:
            TrainingError: the loss is not finite.
        """
        config, first, begun = self.config, self.step, time.monotonic()
        loss_mean = right_mean = 0.0
        while self.step < config.steps and not (should_stop is not None and should_stop()):
            loss, right = self._take_step()
            blend = max(0.05, 1 / (self.step - first))
            loss_mean += blend * (loss - loss_mean)
            right_mean += blend * (right - right_mean)
            if self.step % config.keep_every == 0 or self.step == config.steps:
                self._keep()
            if on_progress is not None:
                seconds = (time.monotonic() - begun) / (self.step - first)
                on_progress(
                    InputLevelProgress(self.step, config.steps, loss_mean, right_mean, seconds)
                )
        self._keep()

    @torch.no_grad()
    def evaluate(self, examples: Examples, views: int, at_once: int = 8) -> NDArray[np.bool_]:
        """Which questions about some drawn views are answered right.

        Args:
            examples: other ones than those that are learned from.
            views: how many, at most.
            at_once: views of a pass.
        """
        by_view = _by_view(examples[1])
        rng = np.random.default_rng(self.config.seed)
        chosen = rng.permutation(sorted(by_view))[:views]
        right: list[NDArray[np.bool_]] = []
        for first in range(0, len(chosen), at_once):
            numbers = [int(view) for view in chosen[first : first + at_once]]
            margins, wanted = self._asked(examples[0], numbers, by_view, rng)
            right.append(((margins > 0) == (wanted > 0)).numpy())
        return np.concatenate(right)

    def _asked(
        self,
        views: Views,
        numbers: Sequence[int],
        by_view: dict[int, NDArray[np.int32]],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Margins of drawn questions about views, and what holds."""
        drawn = [rng.permutation(by_view[view])[: self.config.questions] for view in numbers]
        margins = margins_of(
            self.model,
            [pieces_of(views, view) for view in numbers],
            [some[:, 0].tolist() for some in drawn],
            self._texts,
            self._answers,
        )
        return margins, torch.from_numpy(np.concatenate(drawn)[:, 1].astype(np.float32))

    def _take_step(self) -> tuple[float, float]:
        config = self.config
        rng = np.random.default_rng([config.seed, self.step])
        numbers = rng.choice(self._numbers, config.views).tolist()
        margins, wanted = self._asked(self._views, numbers, self._by_view, rng)
        loss = functional.binary_cross_entropy_with_logits(margins, wanted)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {float(loss)} at step {self.step}",
                field="learning_rate",
                remedy="train with a smaller learning rate",
            )
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained, config.clip)
        self._optimizer.step()
        self.step += 1
        return float(loss.detach()), float(((margins > 0) == (wanted > 0)).float().mean())

    def _rate(self) -> float:
        config = self.config
        if self.step < config.warmup:
            return config.learning_rate * (self.step + 1) / config.warmup
        done = (self.step - config.warmup) / max(1, config.steps - config.warmup)
        return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    def _keep(self) -> None:
        if self._path is None:
            return
        state = {
            "config": self.config.model_dump_json(),
            "step": self.step,
            "trained": [one.detach() for one in self._trained],
            "optimizer": self._optimizer.state_dict(),
        }
        aside = self._path.with_suffix(".partial")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, aside)
        aside.replace(self._path)

    def _resume(self, path: Path) -> None:
        # Only tensors and plain values are read: a checkpoint may come from anywhere.
        state = torch.load(path, weights_only=True)
        if state["config"] != self.config.model_dump_json():
            raise TrainingError(
                "the checkpoint belongs to a run with other settings",
                field=str(path),
                remedy="use the same settings, or another file",
            )
        with torch.no_grad():
            for parameter, value in zip(self._trained, state["trained"], strict=True):
                parameter.copy_(value)
        self.step = int(state["step"])
        self._optimizer.load_state_dict(state["optimizer"])


def _by_view(questions: NDArray[np.int32]) -> dict[int, NDArray[np.int32]]:
    """Concept and answer `[n, 2]` of the questions about each view."""
    order = np.argsort(questions[:, 0], kind="stable")
    views, starts = np.unique(questions[order, 0], return_index=True)
    parts = np.split(questions[order, 1:], starts[1:])
    return {int(view): part for view, part in zip(views, parts, strict=True)}
