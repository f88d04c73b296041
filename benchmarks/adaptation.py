"""The experiment of mPnP-LLM (2312.07886) on our drives: learn by day, switch sensors at night.

Connections in front of tails of several depths beside three ways to train an input-level model:
same questions, same sensor tokens, same batches, same counting of operations. What the rows come
to is in `adaptation_figures.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from ..export.checkpoint import Checkpoint
from ..export.starter_pack import initial_connection
from ..export.tail_weights import tail_weights
from ..runtime.adaptation.connection_model import ConnectionModel
from ..runtime.adaptation.request import SensorChange
from ..runtime.adaptation.samples import HeadTexts
from ..runtime.adaptation.tail_model import TailModel
from ..runtime.adaptation.trainer import Trainer
from ..runtime.adaptation.training_config import TrainingConfig, TrainingError
from ..runtime.connections import ConnectionSpec, weight_shapes
from ..runtime.errors import ConfigError
from ..training.device_heads import device_head_texts
from .adaptation_data import BenchData, DeviceData, Exam
from .adaptation_learners import (
    HeadBlocks,
    InputLearner,
    Learner,
    TailLearner,
    Weights,
    layout_of,
    switched_names,
    switched_weights,
)
from .adaptation_plan import CHANGES, TIMED_STEPS, BenchSettings, Task, tasks_of
from .adaptation_record import BenchRecord, Row
from .adaptation_runs import (
    PeakMemory,
    RunSettings,
    connection_flops,
    examine,
    learn,
    step_seconds,
)
from .input_level_methods import METHODS
from .input_level_model import InputLevelModel


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
            progress: told what is done.

        Raises:
            ConfigError: a depth does not fit, or a condition has too little data.
        """
        blocks = checkpoint.config.num_blocks
        for depth in (*settings.depths, settings.ships):
            if not 0 < depth <= blocks:
                raise ConfigError(
                    f"a tail of {depth} blocks does not fit {blocks}",
                    field="--depths",
                    remedy=f"give 1 to {blocks}",
                )
        data.check(("day", *settings.conditions), settings.batch)
        self._data, self._checkpoint = data, checkpoint
        self._weights = tail_weights(checkpoint, blocks)
        self._embedding = checkpoint.embedding().dense()
        self._settings, self._device, self._record = settings, device, record
        self._base, self._start, self._tell = tuple(base), start, progress
        order = list(data.modalities)
        both = tuple(s for s in order if s in (*base, *coming))
        self._after = {"C->C+L": both, "C->L": tuple(coming), "C": self._base}
        self._dtype = getattr(torch, settings.precision)
        self._on_device = DeviceData(data, device)
        self._exams: dict[str, Exam] = {
            condition: data.exam(condition, settings.questions, settings.seed)
            for condition in ("day", *settings.conditions)
        }
        self._heads: dict[int, HeadTexts] = {}
        self._heads_seconds = 0.0
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
        row["by_condition"] = {
            condition: examine(learner, self._on_device, one, self._base, 1024)
            for condition, one in self._exams.items()
        }
        row["accuracy"] = row["by_condition"]["day"]
        self._day[method] = weights
        self._record.save_weights(method, weights)
        return row

    def _trained_by_day(self, method: str, memory: PeakMemory) -> tuple[Learner, Weights, Row]:
        settings = self._settings
        if method not in METHODS:
            memory.begin()
            weights, row, config = self._train_connection(_depth(method))
            memory.pause()
            row["peak_bytes"] = memory.peak_bytes
            learner = self._tail_learner(self._spec(_depth(method)), weights, None)
            samples = self._data.learned("day")
            row |= connection_flops(learner, self._on_device, samples, self._base, config)
            return learner, weights, row
        learner = self._input_learner(method, self._base)
        run = RunSettings(settings.steps, settings.batch, settings.seed)
        samples, exam = self._data.learned("day"), self._exams["day"]
        row = learn(learner, self._on_device, samples, self._base, exam, run, memory, self._looked)
        state = learner.model.trained_state()
        return learner, {name: tensor.float().numpy() for name, tensor in state.items()}, row

    def _train_connection(self, depth: int) -> tuple[Weights, Row, TrainingConfig]:
        """By the recipe of `tailwire train connections`."""
        settings, spec = self._settings, self._spec(depth)
        data = self._data.training_data(self._states(depth), "day")
        staged = spec.kind == "conditioned"
        config = TrainingConfig(
            steps=settings.steps,
            batch=settings.batch,
            learning_rate=settings.rates["tail"][0],
            warmup=max(1, settings.steps // 12),
            summary_steps=settings.summary_steps if staged else 0,
            readout_steps=settings.readout_steps if staged else 0,
            row_weight=settings.row_weight,
            subsets=(self._base,),
            seed=settings.seed,
            evaluate_every=settings.steps,
            evaluate_on=256,
        )
        weights = self._start(spec) or self._fresh(spec)
        trainer = Trainer(self._connection(spec, weights), self._tail(depth), data, config)
        begun = time.perf_counter()
        trainer.run()
        seconds = time.perf_counter() - begun
        row = {"seconds": seconds, "mean_loss": trainer.history.loss[-1]}
        return trainer.model.weights(), row, config

    # After it.

    def _switch(self, method: str, condition: str, change: str) -> Row:
        settings, after = self._settings, self._after[change]
        day = self._day_weights(method)
        run = RunSettings(settings.switch_steps, settings.batch, settings.seed)
        samples, exam = self._data.learned(condition), self._exams[condition]
        with PeakMemory(self._device) as memory:
            if method in METHODS:
                learner = self._input_learner(method, after, day)
            else:
                learner = self._switching_learner(_depth(method), day, change)
            row = learn(learner, self._on_device, samples, after, exam, run, memory, self._looked)
        return {"sensors": list(after), **row}

    def _time(self, method: str, condition: str, change: str) -> Row:
        """Steps with cached heads, and with the head's blocks computed in each."""
        settings, depth, after = self._settings, _depth(method), self._after[change]
        run = RunSettings(TIMED_STEPS, settings.batch, settings.seed)
        samples, day = self._data.learned(condition), self._day_weights(method)
        seconds: dict[str, float] = {}
        for name, head in (("cached", None), ("recomputed", self._head(depth))):
            learner = self._switching_learner(depth, day, change, head)
            seconds[name] = step_seconds(learner, self._on_device, samples, after, run)
        per_epoch = len(samples) / settings.batch
        return {
            "step_seconds": seconds,
            "epoch_seconds": {name: one * per_epoch for name, one in seconds.items()},
            "cached_is_faster": seconds["recomputed"] / seconds["cached"],
            "samples_per_second": settings.batch / seconds["cached"],
            "texts": len(self._data.prepared.texts),
            "heads_seconds_all_depths": self._heads_seconds or None,
        }

    def _day_weights(self, method: str) -> Weights:
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

    # What is trained.

    def _input_learner(
        self, method: str, sensors: Sequence[str], day: Weights | None = None
    ) -> InputLearner:
        model = InputLevelModel(
            self._weights,
            self._embedding,
            layout_of(self._data),
            next(one for one in METHODS if one == method),
            dtype=self._dtype,
            device=self._device,
            seed=self._settings.seed,
        )
        if day is not None:
            model.load_trained_state({n: torch.from_numpy(array) for n, array in day.items()})
            of = self._data.modalities
            serving = of[self._base[0]]
            for modality in {of[s] for s in sensors} - {of[s] for s in self._base}:
                model.begin_modality(modality, serving)
        return InputLearner(model, self._on_device, sensors, self._settings.rates[method])

    def _switching_learner(
        self, depth: int, day: Weights, change: str, head: HeadBlocks | None = None
    ) -> TailLearner:
        settings = self._settings
        spec = self._spec(depth).model_copy(update={"lora_rank": settings.lora_rank})
        sensors = SensorChange(self._base, self._after[change])
        weights = switched_weights(
            day, self._data, spec, self._weights.config, sensors, settings.seed
        )
        names = None
        if settings.switch_trains == "needed":
            names = switched_names(weights, self._data, sensors, CHANGES[change])
        return self._tail_learner(spec, weights, names, head)

    def _tail_learner(
        self,
        spec: ConnectionSpec,
        weights: Weights,
        trained: frozenset[str] | None,
        head: HeadBlocks | None = None,
    ) -> TailLearner:
        depth = spec.tail_blocks
        return TailLearner(
            self._connection(spec, weights),
            self._tail(depth),
            self._on_device,
            self._states(depth),
            trained=trained,
            rate=self._settings.rates["tail"][0],
            head=head,
        )

    def _connection(self, spec: ConnectionSpec, weights: Weights) -> ConnectionModel:
        data = self._data
        sizes, of = data.sizes, data.modalities
        # All tokens are objects, in no order.
        return ConnectionModel(spec, self._weights.config, sizes, of, weights, sizes)

    def _tail(self, depth: int) -> TailModel:
        blocks = self._weights.blocks[-depth:]
        return TailModel(replace(self._weights, blocks=blocks), self._dtype, self._device)

    def _head(self, depth: int) -> HeadBlocks:
        whole = TailModel(self._weights, self._dtype, self._device)
        return HeadBlocks(whole, self._on_device.here(self._embedding), depth)

    def _spec(self, depth: int) -> ConnectionSpec:
        s = self._settings
        return ConnectionSpec.model_validate(
            {
                "kind": "conditioned" if s.kind == "conditioned" else "plain",
                "per_block": s.kind == "per-block",
                "tail_blocks": depth,
                "width": s.width,
                "layers": s.layers,
                "heads": s.heads,
            }
        )

    def _fresh(self, spec: ConnectionSpec) -> Weights:
        data = self._data
        shapes = weight_shapes(spec, self._weights.config, data.sizes, data.modalities)
        weights = initial_connection(shapes, self._settings.seed)
        for name in weights:
            if name.startswith("sensor."):
                weights[name][:] = 0
        return weights

    def _states(self, depth: int) -> HeadTexts:
        if not self._heads:
            self._tell("head states of all texts")
            begun = time.perf_counter()
            depths = sorted({*self._settings.depths, self._settings.ships})
            texts = self._data.prepared.texts
            self._heads = device_head_texts(self._checkpoint, texts, depths, self._device)
            self._heads_seconds = time.perf_counter() - begun
        return self._heads[depth]

    def _looked(self, step: int, steps: int) -> None:
        self._tell(f"step {step} of {steps}")


def _depth(method: str) -> int:
    return int(method.removeprefix("tail-"))
