"""Settings of a training run, what it tells while it runs, and its curve."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from ..errors import TailwireError


class TrainingError(TailwireError):
    """Training went wrong; the weights of its last good step are kept."""


class TrainingConfig(BaseModel):
    """How connections are trained.

    Attributes:
        steps: optimiser steps of the whole run.
        batch: samples of a step.
        learning_rate: its peak, reached after `warmup` steps; then it falls like a cosine.
        warmup: steps.
        summary_steps: steps at the start in which only the summary row is supervised, by a linear
            layer of its own: cheap, as the tail does not run.
        readout_steps: steps after these in which keys, values and gates alone are trained, from
            what `readout.write_readout` makes of the summary's layer.
        readout_rate: peak of the learning rate of these steps.
        summary_weight: of that loss later on, beside the one through the tail.
        row_weight: of the loss on which objects a question is about, where the data knows.
        weight_decay: of AdamW, on matrices.
        clip: largest norm of the gradient.
        subsets: sets of sensors that batches are made with, drawn evenly; empty for all sensors.
        mirror: whether every other batch is seen in a mirror, where the data know left and right.
        trained: beginnings of the names of the weights that are trained; None for all.
        seed: of the order of samples and of dropout.
        evaluate_every: steps between two looks at the held-out samples.
        evaluate_on: held-out samples per look.
        label_smoothing: of the cross entropy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0)
    batch: int = Field(default=64, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: int = Field(default=100, ge=0)
    summary_steps: int = Field(default=0, ge=0)
    readout_steps: int = Field(default=0, ge=0)
    readout_rate: float = Field(default=1e-3, gt=0)
    summary_weight: float = Field(default=0.3, ge=0)
    row_weight: float = Field(default=1.0, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)
    subsets: tuple[tuple[str, ...], ...] = ()
    mirror: bool = False
    trained: tuple[str, ...] | None = None
    seed: int = 0
    evaluate_every: int = Field(default=500, gt=0)
    evaluate_on: int = Field(default=2000, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


@dataclass
class Progress:
    """What a running training tells.

    Attributes:
        step: finished ones.
        steps: of the run.
        samples: seen so far.
        loss: running mean.
        accuracy: running mean on training batches.
        samples_per_s: since the start or the resumption.
        left_s: expected.
        held_out: the newest accuracy on held-out samples, None before the first look.
    """

    step: int
    steps: int
    samples: int
    loss: float
    accuracy: float
    samples_per_s: float
    left_s: float
    held_out: float | None


@dataclass
class History:
    """The curve of a run: one entry per look at the held-out samples."""

    step: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    by_group: list[dict[str, float]] = field(default_factory=list)
