"""The work of an adaptation: measure, encode texts, examine, train, examine again, swap or not.

Runs in the thread of `adapting.Adaptation`; nothing here touches what serves before the swap.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..connections import Connection
from ..errors import ConfigError
from ..serving import Serving
from .adapted_pack import adapted_manifest, write_adapted_pack
from .adapting import Task
from .choosing import PASSES, choose, explain, least_steps
from .meters import MEMORY_METHOD, FlopMeter, MemoryWatch
from .outcome import (
    Accuracies,
    AdaptationProgress,
    AdaptationResult,
    Outcome,
    Phase,
    Stop,
    judge,
)
from .question_choice import QuestionChoice
from .samples import HeadTexts, Samples
from .tail_weights import TailWeights
from .trainer import Trainer
from .training_config import Progress, TrainingError
from .workbench import Workbench, put_weights

#: Seconds of a trial that measures the speed, at most this share of the time budget.
_TRIAL_S, _TRIAL_SHARE = 3.0, 0.05
#: Shares of the time budget that heads of texts and looks at held-out questions may take.
_HEADS_SHARE, _LOOKS_SHARE = 0.25, 0.3
#: Held-out decisions that are looked at where no budget says fewer.
_MOST_HELD_OUT = 2000

Weights = dict[str, NDArray[np.float32]]


class Cancelled(Exception):
    """Somebody called `cancel`."""


class Learner:
    """One adaptation."""

    def __init__(
        self,
        task: Task,
        report: Callable[[AdaptationProgress], None],
        is_cancelled: Callable[[], bool],
        is_finishing: Callable[[], bool],
        swap: Callable[[Serving], None],
    ) -> None:
        """Get ready.

        Args:
            task: to do.
            report: told what is done now.
            is_cancelled: asked between steps.
            is_finishing: likewise; ends training, and what was learned is examined.
            swap: puts the new weights to work.
        """
        self._task, self._request, self._host = task, task.request, task.host
        self._tell, self._swap = report, swap
        self._is_cancelled, self._is_finishing = is_cancelled, is_finishing
        self._meter = FlopMeter()
        self._progress = AdaptationProgress("preparing")
        self._choice = task.choices[0]
        self._stopped: Stop = "finished"
        self._accuracy: Accuracies | None = None
        self._samples_per_s, self._training_s, self._head_flops = 0.0, 0.0, 0
        self._steps, self._done_steps = 0, 0
        self._questions = QuestionChoice(task.spelled, task.request.seed)
        self._bench = Workbench(task, self._questions)

    def run(self) -> AdaptationResult:
        """Do it all.

        Raises:
            BudgetError: the time is too short for the cheapest choice.
            TailwireError: the adapted pack cannot be written, or does not fit.
        """
        with MemoryWatch() as memory:
            try:
                outcome, reason, serving = self._work()
            except Cancelled:
                self._stopped = "cancelled"
                outcome, reason, serving = "cancelled", "it was cancelled", self._host.serving
            return self._result(outcome, reason, serving, memory.peak_bytes)

    def _work(self) -> tuple[Outcome, str, Serving]:
        weights = self._read_tail()
        flops_per_s = self._measure(weights)
        self._choose(flops_per_s)
        heads = self._heads(flops_per_s)
        old = self._bench.start(self._choice)
        depth, serving_depth = self._choice.tail_blocks, self._host.serving.tail_blocks
        examined: dict[str, NDArray[np.bool_]] = {}
        self._enter("checking")
        if serving_depth != depth:
            serving = self._host.serving.connection
            before = self._trainer(serving, weights, serving_depth, heads, 1)
            examined["old_before"] = self._examine(before, self._task.change.old)
            del before
        trainer = self._trainer(old, weights, depth, heads, self._plan_steps(flops_per_s))
        # The rest of what was read is not needed while training.
        del weights
        if serving_depth == depth:
            examined["old_before"] = self._examine(trainer, self._task.change.old)
        examined["new_before"] = self._examine(trainer, self._task.change.new)
        reason = self._learn(trainer, flops_per_s)
        self._enter("checking")
        examined["new_after"] = self._examine(trainer, self._task.change.new)
        self._take_best(trainer, examined)
        examined["old_after"] = self._examine(trainer, self._task.change.old)
        return self._decide(old, trainer.model.weights(), examined, reason)

    # What is read and measured first.

    def _read_tail(self) -> TailWeights:
        self._enter("preparing")
        deepest = max(self._choice.tail_blocks, self._host.serving.tail_blocks)
        return self._host.tail_weights(deepest)

    def _measure(self, weights: TailWeights) -> float:
        """FLOPs per second of training, tried on a few batches of random texts."""
        self._enter("measuring")
        limit = self._request.budget.time_s
        seconds = _TRIAL_S if limit is None else min(_TRIAL_S, _TRIAL_SHARE * limit)
        size = self._host.model.config.hidden_size
        trial, heads = self._questions.trial(4 * self._task.options.batch, size)
        meter, self._meter = self._meter, FlopMeter()
        depth = self._choice.tail_blocks
        start = self._bench.start(self._choice)
        trainer = self._trainer(start, weights, depth, heads, 10_000, train=trial, look=False)
        begun = [time.monotonic()]

        def warm(progress: Progress) -> None:
            if progress.step == 1:
                # The first step allocates.
                begun[0], self._meter.training = time.monotonic(), 0

        def enough() -> bool:
            taken = time.monotonic() - begun[0]
            return self._is_cancelled() or (trainer.step > 1 and taken >= seconds)

        try:
            trainer.run(warm, enough)
            speed = self._meter.training / (time.monotonic() - begun[0])
        except TrainingError:
            # Real data that diverges at once will say so when it is learned.
            speed = self._meter.total / (time.monotonic() - begun[0])
        tried, self._meter = self._meter, meter
        self._meter.training += tried.training
        self._check_cancelled()
        return max(speed, 1.0)

    def _choose(self, flops_per_s: float) -> None:
        """The deepest tail that the time allows too."""
        left = self._left_s()
        if left is None:
            return
        batch = self._task.options.batch
        self._choice = choose(
            self._task.choices,
            self._request.budget,
            steps=least_steps(len(self._questions.train), batch),
            held_out=min(len(self._questions.held_out), batch),
            head_flops=self._task.head_flops,
            flops_per_s=flops_per_s,
            left_s=left,
        )

    def _left_s(self) -> float | None:
        limit = self._request.budget.time_s
        return None if limit is None else limit - (time.monotonic() - self._task.begun)

    # Heads of texts.

    def _heads(self, flops_per_s: float) -> Mapping[int, HeadTexts]:
        """States by boundary block, of as many texts as there is time for.

        Questions whose texts have none are left out of training and examination.
        """
        self._enter("heads")
        self._limit_questions(flops_per_s)
        spec, last = self._host.serving.connection.spec, self._host.model.config.num_blocks
        depths = {self._choice.tail_blocks, self._host.serving.tail_blocks}
        if spec.kind == "conditioned":
            depths.add(spec.tail_blocks)
        boundaries = sorted(last - depth for depth in depths)
        provider = self._task.data.heads
        if provider is not None:
            return self._questions.take_heads(provider, boundaries)
        limit = self._request.budget.time_s
        deadline = None if limit is None else time.monotonic() + _HEADS_SHARE * limit
        found, tokens = self._questions.encode(
            self._host.model, boundaries, deadline, self._check_cancelled
        )
        every = sum(len(text) for text in self._task.spelled.texts)
        cost = self._task.options.head_flops(max(boundaries))
        self._head_flops = round(cost * tokens / every)
        return found

    def _limit_questions(self, flops_per_s: float) -> None:
        """Keep no more held-out questions than there is time and FLOPs to look at."""
        most = _MOST_HELD_OUT
        look, budget = self._choice.look_flops, self._request.budget
        left = self._left_s()
        if left is not None:
            most = min(most, int(_LOOKS_SHARE * left * flops_per_s / (PASSES * look)))
        if budget.flops is not None:
            most = min(most, int(_LOOKS_SHARE * budget.flops / (PASSES * look)))
        self._questions.limit_held_out(max(most, self._task.options.batch))

    # Training.

    def _trainer(
        self,
        connection: Connection,
        weights: TailWeights,
        depth: int,
        heads: Mapping[int, HeadTexts] | HeadTexts,
        steps: int,
        *,
        train: Samples | None = None,
        look: bool = True,
    ) -> Trainer:
        return self._bench.trainer(
            connection,
            self._choice,
            weights,
            depth,
            heads,
            steps,
            self._meter,
            train=train,
            look=look,
        )

    def _plan_steps(self, flops_per_s: float) -> int:
        """As many as the budget has room for, at most the epochs asked for."""
        choice, budget = self._choice, self._request.budget
        batch = min(self._request.batch, len(self._questions.train))
        steps = math.ceil(self._request.epochs * len(self._questions.train) / batch)
        looks = PASSES * len(self._questions.held_out) * choice.look_flops
        left = self._left_s()
        if left is not None:
            steps = min(steps, int((left * flops_per_s - looks) / choice.step_flops))
        if budget.flops is not None:
            spent = self._head_flops + self._meter.total + looks
            steps = min(steps, int((budget.flops - spent) / choice.step_flops))
        self._steps = max(1, steps)
        return self._steps

    def _learn(self, trainer: Trainer, flops_per_s: float) -> str:
        """Train; returns what went wrong, or nothing."""
        self._enter("training")
        begun, choice, budget = time.monotonic(), self._choice, self._request.budget
        looks_left = 2 * len(self._questions.held_out) * choice.look_flops

        def should_stop() -> bool:
            if self._is_cancelled():
                self._stopped = "cancelled"
                return True
            if self._is_finishing():
                self._stopped = "asked"
                return True
            left = self._left_s()
            if left is not None and left < looks_left / flops_per_s:
                self._stopped = "time"
                return True
            spent = self._head_flops + self._meter.total + looks_left
            if budget.flops is not None and spent + choice.step_flops > budget.flops:
                self._stopped = "flops"
                return True
            return False

        reason = ""
        try:
            trainer.run(self._on_step, should_stop)
        except TrainingError as error:
            self._stopped, reason = "diverged", error.problem
        finally:
            self._training_s = time.monotonic() - begun
            self._done_steps = trainer.step
            self._samples_per_s = trainer.step * trainer.config.batch / self._training_s
        self._check_cancelled()
        return reason

    def _on_step(self, progress: Progress) -> None:
        self._report(
            step=progress.step,
            steps=progress.steps,
            samples_per_s=progress.samples_per_s,
            loss=progress.loss,
            held_out=progress.held_out,
            left_s=progress.left_s,
        )

    # Examination.

    def _examine(self, trainer: Trainer, sensors: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each held-out question is right: all decisions on the way to its answer are."""
        self._check_cancelled()
        return self._questions.right_questions(trainer.evaluate(self._questions.held_out, sensors))

    def _take_best(self, trainer: Trainer, examined: dict[str, NDArray[np.bool_]]) -> None:
        """Go back to the best look, where the last weights are worse."""
        best, looks = trainer.best, trainer.history
        # The newest look is the best one, and nothing was learned since.
        is_newest = looks.step[-1:] == [trainer.step] and looks.accuracy[-1:] == [best and best[0]]
        if best is None or is_newest:
            return
        now = trainer.model.weights()
        put_weights(trainer.model, best[1])
        right = self._examine(trainer, self._task.change.new)
        if right.mean() > examined["new_after"].mean():
            examined["new_after"] = right
        else:
            put_weights(trainer.model, now)

    def _decide(
        self,
        old: Connection,
        trained: Weights,
        examined: Mapping[str, NDArray[np.bool_]],
        trouble: str,
    ) -> tuple[Outcome, str, Serving]:
        request, change, serving = self._request, self._task.change, self._host.serving
        was_right = examined["old_before"]
        kept = float(examined["new_after"][was_right].mean()) if was_right.any() else 1.0
        self._accuracy = Accuracies(
            **{name: float(right.mean()) for name, right in examined.items()}, kept=kept
        )
        passes, reason = judge(self._accuracy, request.mode, request.tolerance)
        if trouble:
            reason = f"training diverged ({trouble}), its last good weights count: {reason}"
        if not passes:
            return "refused", reason, serving
        self._check_cancelled()
        # What was not trained stays what it was, bit for bit.
        weights = {
            name: trained[name] if name in self._choice.trained else array
            for name, array in old.weights.items()
        }
        connection = old.with_weights(weights)
        depth = self._choice.tail_blocks
        suffix = "-".join([request.mode, *(change.coming or request.drop)])
        manifest, content = adapted_manifest(
            serving.pack, connection.spec, connection.weights, depth, suffix
        )
        new = Serving(connection, change.new, depth, manifest)
        if request.out is not None:
            if self._host.pack_folder is None:
                raise ConfigError("the pack lies in no folder", field="out", remedy="leave it out")
            write_adapted_pack(self._host.pack_folder, request.out, manifest, content)
        if not request.swap:
            return "accepted", reason, new
        self._swap(new)
        return "swapped", reason, new

    # What is told.

    def _enter(self, phase: Phase) -> None:
        self._check_cancelled()
        self._report(phase=phase)

    def _report(self, **changes: object) -> None:
        self._progress = replace(self._progress, **changes, flops=self._spent)  # pyright: ignore[reportArgumentType]
        self._tell(self._progress)

    @property
    def _spent(self) -> int:
        return self._head_flops + self._meter.total

    def _check_cancelled(self) -> None:
        if self._is_cancelled():
            raise Cancelled

    def _result(
        self, outcome: Outcome, reason: str, serving: Serving, memory: int | None
    ) -> AdaptationResult:
        request, change, choice, options = (
            self._request,
            self._task.change,
            self._choice,
            self._task.options,
        )
        _, sizes = options.cost(choice.tail_blocks, choice.lora_rank)
        learned = self._done_steps * min(request.batch, len(self._questions.train))
        written = request.out if outcome in ("swapped", "accepted") else None
        return AdaptationResult(
            outcome=outcome,
            reason=reason,
            stopped=self._stopped,
            mode=request.mode,
            old_sensors=change.old,
            new_sensors=change.new,
            tail_blocks=choice.tail_blocks,
            lora_rank=choice.lora_rank,
            choice=explain(
                choice,
                self._task.best_choice,
                serving_rank=self._host.serving.connection.spec.lora_rank,
                asked_blocks=request.tail_blocks,
                asked_rank=request.lora_rank,
            ),
            trained_weights=sum(sizes[name] for name in choice.trained),
            accuracy=self._accuracy,
            train_questions=self._questions.train_questions,
            held_out_questions=self._questions.held_out_questions,
            held_out_blocks=tuple(sorted(self._task.held_out)),
            steps=self._done_steps,
            epochs=learned / max(1, len(self._questions.train)),
            samples_per_s=self._samples_per_s,
            training_flops=self._meter.training,
            examining_flops=self._meter.examining,
            head_flops=self._head_flops,
            memory_estimate_bytes=choice.memory_bytes,
            memory_bytes=memory,
            memory_method=MEMORY_METHOD,
            training_s=self._training_s,
            wall_s=time.monotonic() - self._task.begun,
            pack=f"{serving.pack.name} {serving.pack.version}",
            folder=written,
        )
