"""The training loop of connections: batches, losses, schedules, checkpoints; no files of drives.

Everything is decided by the seed and the step number, so a run that was cut off goes on where its
last checkpoint stands.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError
from .batch_order import ORDER_OF_TRAINER, BatchOrder
from .batches import Batches
from .connection_model import ConnectionModel, SensorTokens
from .readout import READOUT, token_scores, write_readout
from .samples import ROLES, Samples, TrainingData
from .tail_model import TailModel, without_first
from .training_config import History, Progress, TrainingConfig, TrainingError

#: Few rows are meant by a question; these count more.
_ROW_BALANCE = 3.0
_ROWS_PER_QUESTION = 8.0
#: Texts whose mean query the readout answers to.
_TEXTS_OF_QUERIES = 256


class Trainer:
    """One training run of one connection in front of one tail."""

    def __init__(
        self,
        model: ConnectionModel,
        tail: TailModel,
        data: TrainingData,
        config: TrainingConfig,
        *,
        checkpoint: Path | None = None,
        look_with: Sequence[str] | None = None,
    ) -> None:
        """Get ready, and take up the checkpoint if there is one.

        Args:
            model: is trained in place, on the device where the tail lies.
            tail: as deep as the connection, or shallower; then `data.heads` has what enters it.
            data: to learn from.
            config: of the run.
            checkpoint: file to keep the state in; None keeps none.
            look_with: sensors of looks at the held-out samples, None for all.

        Raises:
            ConfigError: there are no samples, or the depths do not fit.
            TrainingError: the checkpoint is of another run.
        """
        if not len(data.train):
            raise ConfigError(
                "there is no sample to learn from", field="data", remedy="give more questions"
            )
        skipped = model.spec.tail_blocks - tail.num_blocks
        reads_text = model.spec.kind == "conditioned"
        if skipped < 0 or (skipped and reads_text and data.heads.entering is None):
            raise ConfigError(
                f"a tail of {tail.num_blocks} blocks before a connection of "
                f"{model.spec.tail_blocks}",
                field="tail",
                remedy="load the tail as deep as the connection",
            )
        self._look_with = None if look_with is None else list(look_with)
        self.model, self.tail, self.data, self.config = model, tail, data, config
        self.model.to(tail.device)
        self._batches = Batches(data, tail.device)
        self._rows = [tail.rows_of(choice) for choice in data.choices]
        self._path = checkpoint
        width = model.spec.width
        largest = max(len(choice) for choice in data.choices)
        torch.manual_seed(config.seed)
        # Each set of allowed tokens has its own part of one matrix; it is thrown away afterwards.
        shapes = ((len(data.choices), width, largest), (width + 1, ROLES))
        self._summary, self._roles = (
            nn.Parameter(torch.zeros(shape, device=tail.device)) for shape in shapes
        )
        self._reading = False
        self._train_weights(config.trained)
        self.history = History()
        self.step = 0
        self._order: BatchOrder | None = None
        self.best: tuple[float, dict[str, NDArray[np.float32]]] | None = None
        if checkpoint is not None and checkpoint.is_file():
            self._resume(checkpoint)

    def run(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> History:
        """Train until the last step, or until told to stop.

        Args:
            on_progress: told after each step.
            should_stop: asked before each step; True ends the run, which can be resumed.

        Raises:
            TrainingError: the loss is not finite; `best` holds the last good weights.
        """
        config, begun, first = self.config, time.monotonic(), self.step
        loss_mean = accuracy_mean = 0.0
        while self.step < config.steps and not (should_stop is not None and should_stop()):
            loss, accuracy = self._take_step()
            age = self.step - first
            blend = max(0.01, 1 / age)
            loss_mean += blend * (loss - loss_mean)
            accuracy_mean += blend * (accuracy - accuracy_mean)
            if self.step % config.evaluate_every == 0 or self.step == config.steps:
                self._look(loss_mean, accuracy_mean, time.monotonic() - begun)
                self._keep()
            if on_progress is not None:
                taken = time.monotonic() - begun
                rate = age * config.batch / taken
                on_progress(
                    Progress(
                        self.step,
                        config.steps,
                        self.step * config.batch,
                        loss_mean,
                        accuracy_mean,
                        rate,
                        taken / age * (config.steps - self.step),
                        self.history.accuracy[-1] if self.history.accuracy else None,
                    )
                )
        self._keep()
        return self.history

    def logits(
        self, samples: Samples, sensors: Sequence[str], *, low_rank: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """States behind the texts `[n, hidden_size]`, and the connection's rows."""
        tokens = self._batches.tokens(samples.moment, sensors)
        return self._forward(samples, tokens, through_tail=True, low_rank=low_rank)

    @torch.no_grad()
    def evaluate(
        self, samples: Samples, sensors: Sequence[str] | None = None, batch: int = 256
    ) -> NDArray[np.bool_]:
        """Whether each decision is right; by the summary alone while only that is trained.

        Args:
            samples: decisions.
            sensors: the active ones, None for all.
            batch: samples at a time.
        """
        self.model.eval()
        active = list(self.data.tokens) if sensors is None else list(sensors)
        only_summary = self.config.summary_steps > 0 and self.step <= self.config.summary_steps
        through_tail = not only_summary or self.model.spec.kind == "plain"
        right = np.zeros(len(samples), np.bool_)
        order = np.argsort(samples.allowed, kind="stable")
        for allowed in np.unique(samples.allowed):
            rows = order[samples.allowed[order] == allowed]
            for start in range(0, len(rows), batch):
                part = rows[start : start + batch]
                taken = samples.take(part)
                tokens = self._batches.tokens(taken.moment, active)
                final, made = self._forward(taken, tokens, through_tail=through_tail)
                if through_tail or made is None:
                    scores = final @ self._rows[int(allowed)].T
                else:
                    scores = self._guesses(made[:, 0], int(allowed))
                right[part] = scores.argmax(-1).cpu().numpy() == taken.target
        self.model.train()
        return right

    def _train_weights(self, names: Sequence[str] | None) -> None:
        """Have an optimiser for the weights whose names begin so, None for all."""
        self._parameters = self.model.trained(names)
        groups = [
            {
                "params": [p for p in self._parameters if p.ndim > 1],
                "weight_decay": self.config.weight_decay,
            },
            {"params": [p for p in self._parameters if p.ndim == 1], "weight_decay": 0.0},
            {"params": [self._summary, self._roles], "weight_decay": 0.0},
        ]
        # On a GPU one kernel for all weights, where many small ones would wait for each other.
        fused = True if self.tail.device.type == "cuda" else None
        self._optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.98), fused=fused)

    @property
    def _is_readout(self) -> bool:
        place = self.step - self.config.summary_steps
        return 0 <= place < self.config.readout_steps and self.model.spec.kind == "conditioned"

    def _change_stage(self) -> None:
        """Begin or end the readout stage where the step says so."""
        if self._is_readout and not self._reading:
            self.write_readout()
            self._train_weights(READOUT)
        elif self._reading and not self._is_readout:
            self._train_weights(self.config.trained)
        self._reading = self._is_readout

    def write_readout(self) -> None:
        """Let the tail read what the summary's layer of training reads, see `readout.py`."""
        rng = np.random.default_rng(self.config.seed)
        texts = np.unique(self.data.train.text)
        texts = np.sort(rng.permutation(texts)[:_TEXTS_OF_QUERIES])
        queries = self.tail.mean_queries(*self._batches.texts(texts, entering=True))
        tokens, scores = token_scores(self._summary.detach(), self.data.choices)
        write_readout(self.model, self.tail, tokens, scores, queries)

    def _take_step(self) -> tuple[float, float]:
        config = self.config
        self._change_stage()
        rng = np.random.default_rng([config.seed, self.step])
        samples = self._draw()
        sensors = self._sensors(rng)
        mirror = self.data.mirror if config.mirror and rng.random() < 0.5 else None
        if mirror is not None:
            samples = replace(samples, text=mirror.texts[samples.text])
        mirrored = mirror is not None
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        through_tail = self.step >= config.summary_steps
        tokens = self._batches.tokens(samples.moment, sensors, mirrored=mirrored)
        final, rows = self._forward(samples, tokens, through_tail=through_tail)
        summary = None if rows is None or self._reading else rows[:, 0]
        loss, right = self._loss(samples, final, summary)
        if rows is not None and config.row_weight and not self._reading:
            targets = self._batches.row_targets(samples, tokens, mirrored=mirrored)
            if targets is not None:
                loss = loss + config.row_weight * self._row_loss(rows[:, 1:], *targets)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(
            [*self._parameters, self._summary, self._roles], config.clip
        )
        # One look for all three: each makes the host wait for the device.
        value, length, correct = torch.stack([loss.detach(), norm, right]).tolist()
        if not math.isfinite(value) or not math.isfinite(length):
            self._diverged(value if not math.isfinite(value) else length)
        self._optimizer.step()
        self.step += 1
        return value, correct / len(samples)

    def _draw(self) -> Samples:
        """The batch of this step."""
        train = self.data.train
        if self._order is None:
            lengths = np.diff(self.data.heads.offsets)
            size = self._batches.rows(train.moment) + lengths[train.text]
            self._order = BatchOrder(size, self.config.batch, (self.config.seed, ORDER_OF_TRAINER))
        return train.take(self._order(self.step))

    def _sensors(self, rng: np.random.Generator) -> list[str]:
        subsets = self.config.subsets
        if not subsets:
            return list(self.data.tokens)
        chosen = set(subsets[int(rng.integers(len(subsets)))])
        return [sensor for sensor in self.data.tokens if sensor in chosen]

    def _learning_rate(self) -> float:
        """Rises over the warm-up, then falls like a cosine; the readout has a course of its own."""
        config = self.config
        if self._reading:
            first, count = config.summary_steps, config.readout_steps
            peak, warmup = config.readout_rate, min(config.warmup, count // 10)
        else:
            first, count = 0, config.steps
            peak, warmup = config.learning_rate, config.warmup
        step = self.step - first
        if step < warmup:
            return peak * (step + 1) / warmup
        done = (step - warmup) / max(1, count - warmup)
        return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def _forward(
        self,
        samples: Samples,
        tokens: SensorTokens,
        *,
        through_tail: bool,
        low_rank: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        residual, long = self._batches.texts(samples.text)
        prefix, rows = None, None
        # Without any sensor there is no prefix, as in the runtime.
        if tokens:
            device, reduced = self.tail.device.type, self.tail.dtype == torch.bfloat16
            with torch.autocast(device, torch.bfloat16, enabled=reduced):
                prefix, rows = self.model(tokens, residual, long)
        if not through_tail:
            return residual.new_zeros(0), rows
        if self.data.heads.entering is not None:
            residual = self._batches.texts(samples.text, entering=True)[0]
        depth = self.tail.num_blocks
        branches = self.model.low_rank() if low_rank else None
        if branches is not None:
            branches = without_first(branches, self.model.spec.tail_blocks - depth)
        last = None if prefix is None else prefix.last(depth)
        return self.tail(residual, long, last, branches), rows

    def _loss(
        self, samples: Samples, final: Tensor, summary: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The loss, and how many answers are right; one number each, on the device."""
        config = self.config
        total, right = torch.zeros(2, device=self.tail.device).unbind()
        target = self._batches.here(samples.target.astype(np.int64))
        for allowed in np.unique(samples.allowed):
            rows = self._batches.here(np.flatnonzero(samples.allowed == allowed))
            share = len(rows) / len(samples)
            wanted = target[rows]
            scores = None
            if len(final):
                scores = final[rows] @ self._rows[int(allowed)].T
                total = total + share * functional.cross_entropy(
                    scores, wanted, label_smoothing=config.label_smoothing
                )
            weight = config.summary_weight if len(final) else 1.0
            if summary is not None and weight:
                guesses = self._guesses(summary[rows], int(allowed))
                total = total + weight * share * functional.cross_entropy(guesses, wanted)
                scores = guesses if scores is None else scores
            if scores is not None:
                right = right + (scores.argmax(-1) == wanted).sum()
        return total, right

    def _guesses(self, summary: Tensor, allowed: int) -> Tensor:
        """What the summary row says by itself, scores of a set of allowed tokens."""
        return summary.float() @ self._summary[allowed][:, : len(self.data.choices[allowed])]

    def _row_loss(self, rows: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
        """Whether each row stands for an object that the question is about, in each role."""
        scores = (rows.float() @ self._roles[:-1] + self._roles[-1]).mT
        balance = torch.full((), _ROW_BALANCE, device=rows.device)
        loss = functional.binary_cross_entropy_with_logits(
            scores, wanted, weight=weight, reduction="sum", pos_weight=balance
        )
        # Per question, so that many rows do not drown the answer.
        return loss / len(rows) / _ROWS_PER_QUESTION

    def _diverged(self, value: float) -> None:
        raise TrainingError(
            f"the loss or its gradient is {value} at step {self.step}",
            field="learning_rate",
            remedy="train with a smaller learning rate; the last good weights are kept",
        )

    def _look(self, loss: float, accuracy: float, seconds: float) -> None:
        held_out, history = self.data.held_out, self.history
        if not len(held_out):
            return
        count = min(self.config.evaluate_on, len(held_out))
        rows = np.random.default_rng(self.config.seed).permutation(len(held_out))[:count]
        samples = held_out.take(rows)
        right = self.evaluate(samples, self._look_with)
        history.step.append(self.step)
        history.samples.append(self.step * self.config.batch)
        history.seconds.append(seconds)
        history.loss.append(loss)
        history.train_accuracy.append(accuracy)
        history.accuracy.append(float(right.mean()))
        history.by_group.append(
            {
                name: float(right[samples.group == number].mean())
                for number, name in enumerate(self.data.groups)
                if (samples.group == number).any()
            }
        )
        if self.best is None or history.accuracy[-1] >= self.best[0]:
            self.best = (history.accuracy[-1], self.model.weights())

    def _keep(self) -> None:
        if self._path is None:
            return
        state: dict[str, Any] = {
            "config": self.config.model_dump_json(),
            "step": self.step,
            "reading": self._reading,
            "weights": {name: torch.from_numpy(w) for name, w in self.model.weights().items()},
            "summary": self._summary.detach(),
            "roles": self._roles.detach(),
            "optimizer": self._optimizer.state_dict(),
            "history": self.history.__dict__,
            "best": None
            if self.best is None
            else (self.best[0], {n: torch.from_numpy(w) for n, w in self.best[1].items()}),
        }
        aside = self._path.with_suffix(".partial")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, aside)
        aside.replace(self._path)

    def _resume(self, path: Path) -> None:
        # Only tensors and plain values are read: a checkpoint may come from anywhere.
        state: Mapping[str, Any] = torch.load(
            path, map_location=self.tail.device, weights_only=True
        )
        if state["config"] != self.config.model_dump_json():
            raise TrainingError(
                "the checkpoint belongs to a run with other settings",
                field=str(path),
                remedy="use the same settings, or another file",
            )
        with torch.no_grad():
            for name, weight in state["weights"].items():
                parameter = self.model[name]
                parameter.copy_(weight[: len(parameter)] if parameter.ndim else weight)
            self._summary.copy_(state["summary"])
            self._roles.copy_(state["roles"])
        self.history = History(**state["history"])
        self.step = int(state["step"])
        if state["reading"]:
            self._reading = True
            self._train_weights(READOUT)
        self._optimizer.load_state_dict(state["optimizer"])
        if state["best"] is not None:
            score, weights = state["best"]
            self.best = (float(score), {name: w.cpu().numpy() for name, w in weights.items()})
