"""What an adaptation tells, while it runs and when it is over, and what lets a swap pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from .request import Mode

Phase = Literal["preparing", "measuring", "heads", "training", "checking", "over"]
Outcome = Literal["swapped", "accepted", "refused", "cancelled"]
Stop = Literal["finished", "time", "flops", "asked", "cancelled", "diverged"]


@dataclass(frozen=True)
class AdaptationProgress:
    """What a running adaptation does.

    Attributes:
        phase: of its work.
        step: of training.
        steps: of training; 0 until they are known.
        samples_per_s: decisions learned per second, 0 until known.
        loss: running mean, None before training.
        held_out: newest accuracy on held-out decisions, None before the first look.
        elapsed_s: since the request.
        left_s: of training, None until known.
        flops: so far.
    """

    phase: Phase
    step: int = 0
    steps: int = 0
    samples_per_s: float = 0.0
    loss: float | None = None
    held_out: float | None = None
    elapsed_s: float = 0.0
    left_s: float | None = None
    flops: int = 0


class Accuracies(BaseModel):
    """Shares of held-out questions that are answered right.

    Attributes:
        old_before: weights and sensors of before: what was served.
        old_after: new weights with the sensors of before.
        new_before: weights of before with the new sensors.
        new_after: new weights and sensors: what would be served.
        kept: of the questions that were right as served, those that stay right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    old_before: float
    old_after: float
    new_before: float
    new_after: float
    kept: float


class AdaptationResult(BaseModel):
    """How an adaptation ended.

    Attributes:
        outcome: `accepted` is a swap that was not asked for.
        reason: in a sentence, with the figures that decided.
        stopped: what ended training; `asked` is `Adaptation.finish`.
        mode: of the request.
        old_sensors: that served.
        new_sensors: learned with.
        tail_blocks: depth N.
        lora_rank: of the LoRA.
        choice: why these two.
        trained_weights: how many numbers were trained.
        accuracy: on held-out questions; None where it ended before they were asked.
        train_questions: learned from.
        held_out_questions: examined.
        held_out_blocks: their scenes or time blocks.
        steps: of training.
        epochs: passes over the training questions.
        samples_per_s: decisions learned per second of training.
        training_flops: forward and backward, by formula from the shapes of all batches.
        examining_flops: of looks at held-out questions.
        head_flops: of the texts.
        memory_estimate_bytes: before it began.
        memory_bytes: measured.
        memory_method: how.
        training_s: of the steps and looks.
        wall_s: from the request on.
        pack: name and version of the adapted pack.
        folder: where it was written, None if nowhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Outcome
    reason: str
    stopped: Stop
    mode: Mode
    old_sensors: tuple[str, ...]
    new_sensors: tuple[str, ...]
    tail_blocks: int
    lora_rank: int
    choice: str
    trained_weights: int
    accuracy: Accuracies | None
    train_questions: int
    held_out_questions: int
    held_out_blocks: tuple[str, ...]
    steps: int
    epochs: float
    samples_per_s: float
    training_flops: int
    examining_flops: int
    head_flops: int
    memory_estimate_bytes: int
    memory_bytes: int | None
    memory_method: str
    training_s: float
    wall_s: float
    pack: str
    folder: Path | None


def judge(accuracy: Accuracies, mode: Mode, tolerance: float) -> tuple[bool, str]:
    """Whether a swap may pass, and why.

    With the sensors of before, new weights may be worse by the tolerance only. With the new
    sensors they must be better than what was served; where a sensor is dropped, better than the
    old weights without it.
    """
    floor = accuracy.old_before - tolerance
    if accuracy.old_after < floor:
        return False, (
            f"with the sensors of before, {accuracy.old_after:.1%} of the held-out questions would "
            f"be right, {accuracy.old_before:.1%} are now (tolerance {tolerance:.1%})"
        )
    reference = accuracy.new_before if mode == "drop" else accuracy.old_before
    before = "with the old weights" if mode == "drop" else "as it serves now"
    told = f"{accuracy.new_after:.1%} of the held-out questions are right, {reference:.1%} {before}"
    if accuracy.new_after <= reference:
        return False, f"it is no better: {told}"
    return True, told
