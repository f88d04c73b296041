"""The experiment of mPnP-LLM (2312.07886) on our drives: learn by day, switch sensors at night.

Connections in front of tails of several depths beside three ways to train an input-level model and
two to train the whole model behind the same connection: same questions, same sensor tokens, same
batches, same counting of operations. What the rows come to is in `adaptation_figures.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch

from ..export.checkpoint import Checkpoint
from ..runtime.adaptation.trainer import Trainer
from ..runtime.adaptation.training_config import Progress, TrainingConfig, TrainingError
from ..runtime.connections import ConnectionSpec
from ..runtime.errors import ConfigError
from ..training.device_heads import HeadFiles
from .adaptation_data import BenchData, DeviceData, Exam
from .adaptation_learners import Learner, Weights
from .adaptation_methods import BenchMethods, depth_of
from .adaptation_plan import TIMED_STEPS, BenchSettings, Task, tasks_of
from .adaptation_record import BenchRecord, Row
from .adaptation_runs import (
    PeakMemory,
    RunSettings,
    connection_flops,
    examine,
    learn,
    step_seconds,
)
from .input_level_methods import BASELINES, METHODS, PREFIX_METHODS

#: Decisions of one pass when held-out questions are looked at, on a GPU.
_EXAM_BATCH = 1024


class AdaptationBench:
    """Makes the rows that a record lacks, the most telling ones first."""

    def __init__(
        self,
        data: BenchData,
        checkpoint: Checkpoint,
        settings: BenchSettings,
        device: torch.device,
        record: BenchRecord,
        *,
        base: Sequence[str],
        coming: Sequence[str],
        start: Callable[[ConnectionSpec], Weights | None] = lambda spec: None,
        start_blocks: int | None = None,
        heads: HeadFiles | None = None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Get ready.

        Args:
            data: to learn and to ask.
            checkpoint: of the language model.
            settings: of the rows.
            device: that learns.
            record: of finished rows.
            base: sensors by day.
            coming: sensors that come.
            start: weights that the day begins with, for a shape of connection; None for fresh ones.
            start_blocks: depth of the tail that these were trained for.
            heads: files that keep head states, so that they are computed once; None for none.
            progress: told what is done.

        Raises:
            ConfigError: a depth does not fit, a condition has too little data, or a method has no
                start though nothing is learned by day.
        """
        blocks = checkpoint.config.num_blocks
        for depth in (*settings.depths, settings.ships):
            if not 0 < depth <= blocks:
                raise ConfigError(
                    f"a tail of {depth} blocks does not fit {blocks}",
                    field="--depths",
                    remedy=f"give 1 to {blocks}",
                )
        settings.check_start()
        data.check(("day", *settings.conditions), settings.batch)
        self._data = data
        self._settings, self._device, self._record = settings, device, record
        self._base, self._start, self._tell = tuple(base), start, progress
        order = list(data.modalities)
        both = tuple(s for s in order if s in (*base, *coming))
        self._after = {"C->C+L": both, "C->L": tuple(coming), "C": self._base}
        # The peak of a process is that of looks, too: on a CPU these shall take less than a step.
        self._exam_batch = _EXAM_BATCH if device.type == "cuda" else settings.batch
        self._on_device = DeviceData(data, device)
        self._methods = BenchMethods(
            *(data, checkpoint, settings, self._on_device, base, self._after, progress),
            *(start_blocks, heads),
        )
        if not settings.steps and self._start(self._methods.spec(settings.ships)) is None:
            raise ConfigError(
                "with no steps by day the day is the start, and there is none",
                field="--from",
                remedy="name a pack or a folder of `train connections`, or give --steps",
            )
        self._exams: dict[str, Exam] = {
            condition: data.exam(condition, settings.questions, settings.seed)
            for condition in ("day", *settings.conditions)
        }
        self._day: dict[str, Weights] = {}

    @property
    def exams(self) -> Mapping[str, Exam]:
        """By condition."""
        return self._exams

    def run(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        only: Sequence[str] | None = None,
    ) -> bool:
        """Make the rows.

        Args:
            should_stop: asked before each row.
            only: methods whose rows are made now, None for all; several processes may share the
                folder of the record so.

        Returns:
            Whether all rows are there.
        """
        tasks, whole = list(tasks_of(self._settings)), True
        for number, task in enumerate(tasks):
            known = {name: value for name, value in task._asdict().items() if value is not None}
            if self._record.find(**known) is not None:
                continue
            if only is not None and task.method not in only:
                whole = False
                continue
            if should_stop():
                return False
            self._tell(f"row {number + 1} of {len(tasks)}: {' '.join(known.values())}")
            try:
                row = self._make(task)
            except TrainingError as error:
                row = {"failed": str(error)}
            except torch.cuda.OutOfMemoryError as error:
                raise ConfigError(
                    "the device has too little memory for a step",
                    field="--batch",
                    remedy="give a smaller one; finished rows are kept",
                ) from error
            self._record.add({**known, "device": self._device_name, **row})
        return whole

    @property
    def _device_name(self) -> str:
        on_gpu = self._device.type == "cuda"
        return torch.cuda.get_device_name(self._device) if on_gpu else "cpu"

    def _make(self, task: Task) -> Row:
        if task.phase == "day":
            return self._learn_day(task.method)
        assert task.condition is not None and task.change is not None
        if task.phase == "timing":
            return self._time(task.method, task.condition, task.change)
        return self._switch(task.method, task.condition, task.change)

    # By day.

    def _learn_day(self, method: str) -> Row:
        with PeakMemory(self._device) as memory:
            learner, weights, row = self._trained_by_day(method, memory)
        row["looks"] = {
            condition: exam.seen(
                examine(learner, self._on_device, exam, self._base, self._exam_batch),
            )
            for condition, exam in self._exams.items()
        }
        row["by_condition"] = {name: look["accuracy"] for name, look in row["looks"].items()}
        row |= {key: row["looks"]["day"][key] for key in ("accuracy", "standard_error")}
        self._day[method] = weights
        if method not in PREFIX_METHODS:
            self._record.save_weights(method, weights)
        return row

    def _trained_by_day(self, method: str, memory: PeakMemory) -> tuple[Learner, Weights, Row]:
        settings, methods = self._settings, self._methods
        nothing = {"samples": 0, "flops": 0, "head_flops": 0, "seconds": 0.0, "peak_bytes": None}
        if method in PREFIX_METHODS:
            weights = self._day_weights(method)
            learner = methods.by_day(method, weights)
            return learner, weights, {**nothing, "day_of": f"tail-{settings.ships}"}
        if method not in METHODS:
            depth = depth_of(method)
            weights, about = self._first_weights(methods.spec(depth))
            if not settings.steps:
                return methods.by_day(method, weights), weights, {**nothing, **about}
            memory.begin()
            weights, row, config = self._train_connection(depth, weights)
            memory.pause()
            row |= about
            row["peak_bytes"] = memory.peak_bytes
            learner = methods.tail_learner(methods.spec(depth), weights, None)
            samples = self._data.learned("day")
            row |= connection_flops(learner, self._on_device, samples, self._base, config)
            return learner, weights, row
        learner = methods.input_level(method, self._base)
        run = self._run_of(settings.steps)
        samples, exam = self._data.learned("day"), self._exams["day"]
        row = learn(learner, self._on_device, samples, self._base, exam, run, memory, self._stepped)
        state = learner.model.trained_state()
        return learner, {name: tensor.float().numpy() for name, tensor in state.items()}, row

    def _first_weights(self, spec: ConnectionSpec) -> tuple[Weights, Row]:
        """Where the day begins, and what a row tells of it."""
        weights = self._start(spec)
        if weights is None:
            return self._methods.fresh(spec), {}
        return self._methods.moved(spec, weights)

    def _train_connection(self, depth: int, first: Weights) -> tuple[Weights, Row, TrainingConfig]:
        """By the recipe of `tailwire train connections`."""
        settings, methods, spec = self._settings, self._methods, self._methods.spec(depth)
        data = self._data.training_data(methods.states(depth), "day")
        staged, steps = spec.kind == "conditioned", settings.steps * settings.day_times
        config = TrainingConfig(
            steps=steps,
            batch=settings.batch,
            learning_rate=settings.rates["tail"][0],
            warmup=max(1, steps // 12),
            summary_steps=settings.summary_steps if staged else 0,
            readout_steps=settings.readout_steps if staged else 0,
            row_weight=settings.row_weight,
            subsets=(self._base,),
            seed=settings.seed,
            evaluate_every=steps,
            evaluate_on=256,
        )
        connection = methods.connection(spec, first)
        trainer = Trainer(connection, methods.tail(depth), data, config)
        begun = time.perf_counter()
        trainer.run(self._trained)
        seconds = time.perf_counter() - begun
        row = {"seconds": seconds, "mean_loss": trainer.history.loss[-1]}
        return trainer.model.weights(), row, config

    # After it.

    def _switch(self, method: str, condition: str, change: str) -> Row:
        settings, after = self._settings, self._after[change]
        day = self._day_weights(method)
        times = 1 if method in BASELINES else settings.tail_times
        run = self._run_of(times * settings.switch_steps)
        samples, exam = self._data.learned(condition), self._exams[condition]
        with PeakMemory(self._device) as memory:
            learner = self._methods.switching(method, change, day)
            row = learn(learner, self._on_device, samples, after, exam, run, memory, self._stepped)
        return {"sensors": list(after), **row}

    def _time(self, method: str, condition: str, change: str) -> Row:
        """Steps with cached heads, and with the head's blocks computed in each."""
        settings, methods, after = self._settings, self._methods, self._after[change]
        run = RunSettings(TIMED_STEPS, settings.batch, settings.seed)
        samples, day = self._data.learned(condition), self._day_weights(method)
        seconds: dict[str, float] = {}
        for name, head in (("cached", None), ("recomputed", methods.head(depth_of(method)))):
            learner = methods.switching(method, change, day, head)
            seconds[name] = step_seconds(learner, self._on_device, samples, after, run)
        per_epoch = len(samples) / settings.batch
        return {
            "step_seconds": seconds,
            "epoch_seconds": {name: one * per_epoch for name, one in seconds.items()},
            "cached_is_faster": seconds["recomputed"] / seconds["cached"],
            "samples_per_second": settings.batch / seconds["cached"],
            "texts": len(self._data.prepared.texts),
            "heads_seconds_all_depths": methods.heads_seconds,
        }

    def _day_weights(self, method: str) -> Weights:
        if method in PREFIX_METHODS:
            # They are trained from the weights of the tail that ships.
            method = f"tail-{self._settings.ships}"
        if method not in self._day:
            by_day = self._record.find(phase="day", method=method) or {}
            if "failed" in by_day:
                raise TrainingError(
                    f"the day of {method} failed",
                    field="day",
                    remedy="train it with a smaller learning rate (--rates)",
                )
            found = self._record.load_weights(method)
            if found is None:
                self._tell(f"{method} by day again: its weights are not in the folder")
                self._learn_day(method)
                found = self._day[method]
            self._day[method] = found
        return self._day[method]

    def _run_of(self, steps: int) -> RunSettings:
        settings = self._settings
        return RunSettings(
            steps, settings.batch, settings.seed, self._exam_batch, looks=settings.looks
        )

    def _stepped(self, step: int, steps: int) -> None:
        self._tell(f"step {step} of {steps}")

    def _trained(self, done: Progress) -> None:
        self._tell(
            f"step {done.step} of {done.steps}, {done.accuracy:.0%} right, "
            f"{done.samples_per_s:.0f} samples/s, {done.left_s / 60:.0f} min left"
        )
