"""One training run of the adaptation benchmark: the same loop and batches for every method."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from ..runtime.adaptation.batch_order import ORDER_OF_TRAINER, BatchOrder
from ..runtime.adaptation.meters import MEMORY_METHOD, MemoryWatch
from ..runtime.adaptation.samples import Samples
from ..runtime.adaptation.training_config import TrainingConfig
from .adaptation_data import DeviceData, Exam
from .adaptation_learners import Learner, TailLearner
from .adaptation_plan import LOOKS

CUDA_MEMORY_METHOD = (
    "torch.cuda.max_memory_allocated while training, above what was allocated before the method's "
    "weights and head states were there; looks at held-out questions are left out"
)
_CLIP = 1.0
_WEIGHT_DECAY = 0.01
_WARMUP = 0.08


@dataclass(frozen=True)
class RunSettings:
    """Of one run.

    Attributes:
        steps: of the optimiser.
        batch: decisions of a step.
        seed: of the order of decisions.
        exam_batch: decisions of one pass when held-out questions are looked at.
        looks: where that is done behind the start, as shares of the steps; always at the end.
    """

    steps: int
    batch: int
    seed: int
    exam_batch: int = 1024
    looks: Sequence[float] = LOOKS


class PeakMemory:
    """The highest memory of training; a `with` block begun before anything of a method is there."""

    def __init__(self, device: torch.device) -> None:
        """Note what is there already."""
        self._device, self._peak = device, 0
        self._on_gpu = device.type == "cuda"
        if self._on_gpu:
            gc.collect()
            torch.cuda.empty_cache()
            self._base, self._watch = torch.cuda.memory_allocated(device), None
        else:
            _give_back()
            self._watch = MemoryWatch()

    def __enter__(self) -> PeakMemory:
        if self._watch is not None:
            self._watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.__exit__()

    @property
    def method(self) -> str:
        """How it is measured."""
        return CUDA_MEMORY_METHOD if self._on_gpu else MEMORY_METHOD

    def begin(self) -> None:
        """Training goes on."""
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)

    def pause(self) -> None:
        """Something else than training follows."""
        if self._on_gpu:
            highest = torch.cuda.max_memory_allocated(self._device) - self._base
            self._peak = max(self._peak, highest)

    @property
    def peak_bytes(self) -> int | None:
        """The highest until now, None where the system does not tell."""
        return self._peak if self._watch is None else self._watch.peak_bytes


def learn(
    learner: Learner,
    data: DeviceData,
    samples: Samples,
    sensors: Sequence[str],
    exam: Exam,
    settings: RunSettings,
    memory: PeakMemory,
    progress: Callable[[int, int], None] = lambda step, steps: None,
) -> dict[str, Any]:
    """Train, and look at held-out questions on the way.

    Args:
        learner: is trained in place.
        data: on the device.
        samples: to learn.
        sensors: the active ones.
        exam: of the same condition.
        settings: of the run.
        memory: begun before the learner was made.
        progress: told steps done and steps in all.

    Returns:
        `accuracy_before`, `accuracy`, `points` (step, samples, FLOPs so far, seconds of training,
        and what `Exam.seen` tells; the first one before any training), costs, and `diverged`.
    """
    optimizer = _optimizer(learner)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    order = BatchOrder(_sizes(data, samples, sensors), settings.batch, (settings.seed,))
    looks = {max(1, round(share * settings.steps)) for share in (*settings.looks, 1)}
    before = exam.seen(examine(learner, data, exam, sensors, settings.exam_batch))
    flops = head_flops = 0
    seconds = 0.0
    points = [{"step": 0, "samples": 0, "flops": 0, "seconds": 0.0, **before}]
    losses = torch.zeros((), device=data.device)
    begun = _now(data.device)
    memory.begin()
    for step in range(settings.steps):
        batch = samples.take(order(step))
        flops += learner.step_flops(batch, sensors)
        head_flops += learner.preparing_flops(batch)
        _set_rates(optimizer, step, settings.steps)
        losses += _take_step(learner, data, optimizer, parameters, batch, sensors)
        progress(step + 1, settings.steps)
        if step + 1 in looks:
            seconds += _now(data.device) - begun
            memory.pause()
            right = examine(learner, data, exam, sensors, settings.exam_batch)
            points.append(
                {
                    "step": step + 1,
                    "samples": (step + 1) * settings.batch,
                    "flops": flops + head_flops,
                    "seconds": seconds,
                    **exam.seen(right),
                }
            )
            if not math.isfinite(float(losses)):
                break
            begun = _now(data.device)
            memory.begin()
    done = points[-1]["step"]
    return {
        "accuracy_before": before["accuracy"],
        "accuracy": points[-1]["accuracy"],
        "standard_error": points[-1]["standard_error"],
        "points": points,
        "diverged": not math.isfinite(float(losses)),
        "mean_loss": float(losses) / done if math.isfinite(float(losses)) else None,
        "decisions": len(samples),
        "questions": exam.questions,
        "flops": flops + head_flops,
        "head_flops": head_flops,
        "flops_per_epoch": round(flops / done * len(samples) / settings.batch),
        "peak_bytes": memory.peak_bytes,
        "memory_method": memory.method,
        "trained_weights": sum(p.numel() for p in parameters),
        "seconds": seconds,
        "samples_per_second": done * settings.batch / seconds,
        "epoch_seconds": seconds * len(samples) / (done * settings.batch),
    }


def connection_flops(
    learner: TailLearner,
    data: DeviceData,
    samples: Samples,
    sensors: Sequence[str],
    config: TrainingConfig,
) -> dict[str, int]:
    """What a training of `Trainer` took, by formula.

    Args:
        learner: of the same connection, with all weights that were trained.
        data: on the device.
        samples: that were learned.
        sensors: the active ones.
        config: of the training.

    Returns:
        `samples`, `flops` (of steps and of the head states of their texts, each text once) and
        `head_flops`.
    """
    everything = list(data.data.modalities)
    order = BatchOrder(
        _sizes(data, samples, everything), config.batch, (config.seed, ORDER_OF_TRAINER)
    )
    flops = head_flops = 0
    for step in range(config.steps):
        batch = samples.take(order(step))
        through_tail = step >= config.summary_steps
        flops += learner.step_flops(batch, sensors, through_tail=through_tail)
        head_flops += learner.preparing_flops(batch)
    drawn = config.steps * min(config.batch, len(samples))
    return {"samples": drawn, "flops": flops + head_flops, "head_flops": head_flops}


def step_seconds(
    learner: Learner,
    data: DeviceData,
    samples: Samples,
    sensors: Sequence[str],
    settings: RunSettings,
) -> float:
    """Median wall-clock seconds of a step, after some that are not counted.

    Arguments as those of `timed_steps`.
    """
    return float(np.median(timed_steps(learner, data, samples, sensors, settings, warm_up=3)))


def timed_steps(
    learner: Learner,
    data: DeviceData,
    samples: Samples,
    sensors: Sequence[str],
    settings: RunSettings,
    *,
    warm_up: int,
) -> list[float]:
    """Wall-clock seconds of steps.

    Args:
        learner: is trained in place.
        data: on the device.
        samples: to learn.
        sensors: the active ones.
        settings: steps are the counted ones.
        warm_up: steps before that are not counted.
    """
    optimizer = _optimizer(learner)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    order = BatchOrder(_sizes(data, samples, sensors), settings.batch, (settings.seed,))
    _set_rates(optimizer, 0, settings.steps)
    times: list[float] = []
    for step in range(warm_up + settings.steps):
        batch = samples.take(order(step))
        begun = _now(data.device)
        _take_step(learner, data, optimizer, parameters, batch, sensors)
        times.append(_now(data.device) - begun)
    return times[warm_up:]


@torch.no_grad()
def examine(
    learner: Learner, data: DeviceData, exam: Exam, sensors: Sequence[str], batch: int
) -> NDArray[np.bool_]:
    """Which held-out questions are answered right."""
    decisions = exam.decisions
    order = np.argsort(_sizes(data, decisions, sensors), kind="stable")
    found = []
    for start in range(0, len(order), batch):
        part = decisions.take(order[start : start + batch])
        scores = data.masked(learner.scores(part, sensors), part)
        found.append(scores.argmax(-1) == data.wanted(part))
    right = np.zeros(len(order), np.bool_)
    right[order] = torch.cat(found).cpu().numpy()
    return exam.questions_right(right)


def _take_step(
    learner: Learner,
    data: DeviceData,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    batch: Samples,
    sensors: Sequence[str],
) -> torch.Tensor:
    scores = data.masked(learner.scores(batch, sensors), batch)
    loss = functional.cross_entropy(scores, data.wanted(batch))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, _CLIP)
    optimizer.step()
    return loss.detach()


def _optimizer(learner: Learner) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = []
    for parameters, rate in learner.rates:
        for matrices in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) is matrices]
            decay = _WEIGHT_DECAY if matrices else 0.0
            if chosen:
                groups.append({"params": chosen, "weight_decay": decay, "lr": rate, "peak": rate})
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _set_rates(optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Up over the first steps, then down like a cosine."""
    warmup = max(1, round(_WARMUP * steps))
    share = (step + 1) / warmup
    if step >= warmup:
        done = (step - warmup) / max(1, steps - warmup)
        share = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def _sizes(data: DeviceData, samples: Samples, sensors: Sequence[str]) -> NDArray[np.int64]:
    return data.present(samples.moment, sensors) + data.text_lengths[samples.text]


def _give_back() -> None:
    """Let the C library give freed memory back, so that the next run's growth is its own."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
