"""Training of the detectors: one loop for both, with checkpoints, resumption and a curve."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..runtime.adaptation.training_config import TrainingError
from .detectors import DenseMaps
from .losses import TargetBatch, detection_loss


class Examples(Protocol):
    """What a detector learns from, example by example."""

    def __len__(self) -> int: ...

    def batch(
        self, rows: Sequence[int], rng: np.random.Generator | None
    ) -> tuple[tuple[Tensor, ...], TargetBatch]:
        """Inputs of the detector and targets; changed at random if there is a generator."""
        ...


@dataclass(frozen=True)
class EncoderTrainingConfig:
    """How a detector is trained.

    Attributes:
        epochs: passes through the examples.
        batch: examples of a step.
        learning_rate: its peak; it rises over the first twentieth of the steps and then falls like
            a cosine.
        weight_decay: of AdamW.
        seed: of order and changes.
        evaluate_on: held-out examples looked at after each epoch.
    """

    epochs: int
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    seed: int = 0
    evaluate_on: int = 400


@dataclass
class EncoderProgress:
    """What a running training tells.

    Attributes:
        step: finished ones.
        steps: of the run.
        losses: running means, by name.
        examples_per_s: since the start or resumption.
        left_s: expected.
        held_out: losses on held-out examples after the newest epoch.
    """

    step: int
    steps: int
    losses: dict[str, float]
    examples_per_s: float
    left_s: float
    held_out: dict[str, float]


@dataclass
class EncoderHistory:
    """The curve of a run: one entry per epoch."""

    epoch: list[int] = field(default_factory=list)
    loss: list[dict[str, float]] = field(default_factory=list)
    held_out: list[dict[str, float]] = field(default_factory=list)


class EncoderTrainer:
    """One run of one detector."""

    def __init__(
        self,
        model: nn.Module,
        train: Examples,
        held_out: Examples,
        config: EncoderTrainingConfig,
        checkpoint: Path | None = None,
    ) -> None:
        """Get ready, and take up the checkpoint if there is one.

        Raises:
            TrainingError: the checkpoint is of another run.
        """
        self.model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._train, self._held_out, self.config = train, held_out, config
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._path = checkpoint
        self.history = EncoderHistory()
        self.step = 0
        self._means: dict[str, float] = {}
        self._per_epoch = max(1, len(train) // config.batch)
        self.steps = self._per_epoch * config.epochs
        if checkpoint is not None and checkpoint.is_file():
            self._resume(checkpoint)

    def run(
        self,
        on_progress: Callable[[EncoderProgress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> EncoderHistory:
        """Train to the end, or until told to stop.

        Raises:
            TrainingError: the loss is not finite; the checkpoint holds the last whole epoch.
        """
        begun, first, means = time.monotonic(), self.step, self._means
        while self.step < self.steps and not (should_stop is not None and should_stop()):
            losses = self._take_step()
            age = self.step - first
            for name, value in losses.items():
                before = means.get(name, value)
                means[name] = before + max(0.01, 1 / self.step) * (value - before)
            if self.step % self._per_epoch == 0:
                self.history.epoch.append(self.step // self._per_epoch)
                self.history.loss.append(dict(means))
                self.history.held_out.append(self.evaluate())
                self._keep()
            if on_progress is not None:
                taken = time.monotonic() - begun
                on_progress(
                    EncoderProgress(
                        self.step,
                        self.steps,
                        dict(means),
                        age * self.config.batch / taken,
                        taken / age * (self.steps - self.step),
                        self.history.held_out[-1] if self.history.held_out else {},
                    )
                )
        if self.step < self.steps:
            self._keep()
        return self.history

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Losses on held-out examples, by name."""
        self.model.eval()
        count = min(self.config.evaluate_on, len(self._held_out))
        rows = np.random.default_rng(self.config.seed).permutation(len(self._held_out))[:count]
        total: dict[str, float] = {}
        for start in range(0, count, self.config.batch):
            part = rows[start : start + self.config.batch].tolist()
            inputs, targets = self._held_out.batch(part, None)
            for name, value in detection_loss(self._maps(inputs), targets).items():
                total[name] = total.get(name, 0.0) + float(value) * len(part)
        self.model.train()
        return {name: value / max(1, count) for name, value in total.items()}

    def _take_step(self) -> dict[str, float]:
        config = self.config
        epoch, place = divmod(self.step, self._per_epoch)
        order = np.random.default_rng([config.seed, epoch]).permutation(len(self._train))
        rows = order[place * config.batch : (place + 1) * config.batch].tolist()
        rng = np.random.default_rng([config.seed, 1, self.step])
        inputs, targets = self._train.batch(rows, rng)
        for group in self._optimizer.param_groups:
            group["lr"] = config.learning_rate * self._schedule()
        losses = detection_loss(self._maps(inputs), targets)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {float(loss.detach())} at step {self.step}",
                field="learning_rate",
                remedy="train with a smaller learning rate; the last whole epoch is kept",
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self._optimizer.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}

    def _maps(self, inputs: tuple[Tensor, ...]) -> DenseMaps:
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(*inputs)

    def _schedule(self) -> float:
        done = self.step / self.steps
        return min(1.0, (self.step + 1) / (0.05 * self.steps + 1)) * (
            0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
        )

    def _keep(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".partial")
        torch.save(
            {
                "config": self._identity(),
                "step": self.step,
                "model": self.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "history": self.history.__dict__,
                "means": self._means,
            },
            aside,
        )
        aside.replace(self._path)

    def _identity(self) -> str:
        return f"{self.config} {len(self._train)} examples"

    def _resume(self, path: Path) -> None:
        # Only tensors and plain values are read: a checkpoint may come from anywhere.
        state: Mapping[str, Any] = torch.load(path, weights_only=True)
        if state["config"] != self._identity():
            raise TrainingError(
                "the checkpoint belongs to a run with other settings or drives",
                field=str(path),
                remedy="use the same ones, or another folder",
            )
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.history = EncoderHistory(**state["history"])
        self.step = int(state["step"])
        self._means = dict(state.get("means", {}))
