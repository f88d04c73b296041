"""Adaptation in the background: a thread that learns, examines and swaps while the runtime answers.

What can be wrong with a request is found before the thread starts; what the thread does is in
`learning.py`, which is the first to load torch.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, EngineError, TailwireError
from ..language_model import LanguageModel
from ..new_pack import check_target
from ..serving import Serving
from .choosing import RANKS, Choice, Options, choose, least_steps
from .data import AdaptationData, SpelledQuestions, spell
from .outcome import AdaptationProgress, AdaptationResult
from .request import AdaptationRequest, SensorChange, sensor_change
from .tail_weights import TailWeights

if TYPE_CHECKING:
    from .learning import Learner

INSTALL = "pip install 'tailwire[adapt]'"


@dataclass(frozen=True)
class Host:
    """What an adaptation needs of the runtime that it adapts.

    Attributes:
        model: the language model; its head runs beside frames.
        serving: what answers when the adaptation begins.
        known_sensors: of the pack.
        serve: swaps; returns what served before.
        tail_weights: reads the last blocks of the language model.
        pack_folder: where the pack lies, None if nowhere.
    """

    model: LanguageModel
    serving: Serving
    known_sensors: tuple[str, ...]
    serve: Callable[[Serving], Serving]
    tail_weights: Callable[[int], TailWeights]
    pack_folder: Path | None


@dataclass(frozen=True)
class Task:
    """A request that was found to be possible.

    Attributes:
        request: as made.
        host: to adapt.
        change: of sensors.
        data: to learn from.
        spelled: its questions in tokens.
        held_out: blocks that decide.
        options: costs of choices.
        best_choice: of all, whether it fits or not.
        choices: that fit without regard to time, the best first.
        head_flops: of all texts.
        begun: `time.monotonic()` of the request.
    """

    request: AdaptationRequest
    host: Host
    change: SensorChange
    data: AdaptationData
    spelled: SpelledQuestions
    held_out: frozenset[str]
    options: Options
    best_choice: Choice
    choices: tuple[Choice, ...]
    head_flops: int
    begun: float


def check_torch() -> None:
    """Refuse to go on without torch.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("torch") is None:
        raise ConfigError("adaptation needs torch", field="torch", remedy=f"install it: {INSTALL}")


def plan(request: AdaptationRequest, data: AdaptationData, host: Host) -> Task:
    """Check a request, split and spell its questions, and see what fits the budget.

    Raises:
        SensorError: a sensor is unknown.
        PackError: the tokens are not those of the pack.
        ConfigError: the request contradicts what serves, or there is too little data.
        BudgetError: nothing fits; names the cheapest choice and its cost.
    """
    begun = time.monotonic()
    serving = host.serving
    change = sensor_change(request, host.known_sensors, serving.sensors)
    if request.out is not None:
        check_target(request.out, "adapted pack")
        if host.pack_folder is None:
            raise ConfigError(
                "the pack lies in no folder that could be copied",
                field="out",
                remedy="leave it out, and keep the weights of runtime.connection",
            )
    data.check(serving.pack, change.all)
    for sensor in change.coming:
        if not data.tokens[sensor].any():
            raise ConfigError(
                f"all tokens of '{sensor}' are empty",
                field="data",
                remedy="collect moments with frames of this sensor",
            )
    held_out = data.split(request.held_out_share, request.seed)
    spelled = spell(data, held_out, host.model, serving.pack)
    options = Options(
        connection=serving.connection,
        config=host.model.config,
        pack=serving.pack,
        change=change,
        mode=request.mode,
        serving_blocks=serving.tail_blocks,
        data=data,
        spelled=spelled,
        batch=min(request.batch, len(spelled.train)),
        bytes_per=2 if request.precision == "bfloat16" else 4,
    )
    depths = _depths(request.tail_blocks, host)
    all_choices = [options.choice(n, rank) for n in depths for rank in _ranks(request, serving)]
    head_flops = options.head_flops(host.model.config.num_blocks - min(depths))
    # The least that must be looked at; how many really are follows from what is left.
    steps = least_steps(len(spelled.train), options.batch)
    looked = min(len(spelled.held_out), options.batch)
    budget = request.budget
    first = choose(all_choices, budget, steps=steps, held_out=looked, head_flops=head_flops)
    choices = tuple(all_choices[all_choices.index(first) :])
    return Task(
        request,
        host,
        change,
        data,
        spelled,
        held_out,
        options,
        all_choices[0],
        choices,
        head_flops,
        begun,
    )


def _depths(wanted: int | None, host: Host) -> list[int]:
    """Depths to choose from, the deepest first: those at which the model's engines are cut."""
    model, serving = host.model, host.serving
    last = model.config.num_blocks
    deepest = serving.connection.spec.tail_blocks
    cuts = sorted({last - group.start for group, _ in model.groups}, reverse=True)
    fitting = [depth for depth in cuts if depth <= deepest]
    for depth, field in ((serving.tail_blocks, "tail"), (wanted, "tail_blocks")):
        if depth is not None and depth not in fitting:
            raise ConfigError(
                f"training through a tail of {depth} blocks is not possible, the engines are not "
                "cut there" + (f" or the pack ends at {deepest}" if depth > deepest else ""),
                field=field,
                remedy=f"use one of {', '.join(map(str, fitting))}",
            )
    if wanted is not None:
        return [wanted]
    return [depth for depth in fitting if depth <= serving.tail_blocks]


def _ranks(request: AdaptationRequest, serving: Serving) -> tuple[int, ...]:
    rank = serving.connection.spec.lora_rank
    if request.lora_rank is None:
        return (rank,) if rank else RANKS
    if request.lora_rank < rank:
        raise ConfigError(
            f"the connection has a LoRA of rank {rank}, which cannot shrink to {request.lora_rank}",
            field="lora_rank",
            remedy=f"give {rank} or more, or leave it out",
        )
    return (request.lora_rank,)


class Adaptation:
    """A running adaptation; made by `Runtime.adapt`."""

    def __init__(self, task: Task) -> None:
        """Start the thread.

        Args:
            task: made by `plan`.
        """
        self._task = task
        self._lock = threading.Lock()
        self._progress = AdaptationProgress("preparing")
        self._cancelled, self._finishing = threading.Event(), threading.Event()
        self._over = threading.Event()
        self._result: AdaptationResult | None = None
        self._error: BaseException | None = None
        #: `time.monotonic()` around the swap, None as long as there was none.
        self.swapped_at: tuple[float, float] | None = None
        # Frames wait for whoever swaps, so that is no thread of low priority, which others keep
        # from the processor. Threads have the priority of those that start them: it starts here.
        self._swapper = ThreadPoolExecutor(1, thread_name_prefix="tailwire-swap")
        self._swapper.submit(threading.get_native_id).result()
        self._thread = threading.Thread(target=self._run, name="tailwire-adapt", daemon=True)
        self._thread.start()

    @property
    def request(self) -> AdaptationRequest:
        """What was asked for."""
        return self._task.request

    @property
    def is_over(self) -> bool:
        """Whether nothing runs any more."""
        return self._over.is_set()

    def progress(self) -> AdaptationProgress:
        """What it does now."""
        with self._lock:
            progress = self._progress
        if progress.phase == "over":
            return progress
        return replace(progress, elapsed_s=time.monotonic() - self._task.begun)

    def cancel(self) -> None:
        """Stop after the step that runs; nothing is swapped then. Returns at once."""
        self._cancelled.set()

    def finish(self) -> None:
        """End training after the step that runs; what was learned is examined and swapped as ever.

        Returns at once.
        """
        self._finishing.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is over.

        Returns:
            Whether it is.
        """
        return self._over.wait(timeout_s)

    def result(self, timeout_s: float | None = None) -> AdaptationResult:
        """Wait for the result.

        Raises:
            TailwireError: what it broke off with.
            TimeoutError: it is not over yet.
        """
        if not self.wait(timeout_s):
            raise TimeoutError("the adaptation is not over yet")
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise EngineError("the adaptation ended without a result", field="adapt")
        return self._result

    def _run(self) -> None:
        try:
            _lower_priority(self._task.request.nice)
            self._learn()
        except TailwireError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's to see
            # The thread's own end would only print it, and `result` would wait for ever.
            self._error = EngineError(
                f"adaptation failed: {type(error).__name__}: {error}",
                field="adapt",
                remedy="what served before goes on serving",
            )
            self._error.__cause__ = error
        finally:
            self._swapper.shutdown()
            with self._lock:
                elapsed = time.monotonic() - self._task.begun
                self._progress = replace(self._progress, phase="over", elapsed_s=elapsed)
            self._over.set()

    def _learn(self) -> None:
        import torch

        from .learning import Learner

        before = torch.get_num_threads()
        torch.set_num_threads(self._task.request.threads or _default_threads())
        try:
            learner: Learner = Learner(
                self._task,
                self._report,
                self._cancelled.is_set,
                self._finishing.is_set,
                self._swap,
            )
            self._result = learner.run()
        finally:
            # Set for this thread, and for threads that use torch the first time from now on.
            torch.set_num_threads(before)

    def _report(self, progress: AdaptationProgress) -> None:
        with self._lock:
            self._progress = progress

    def _swap(self, serving: Serving) -> None:
        self.swapped_at = self._swapper.submit(self._serve, serving).result()

    def _serve(self, serving: Serving) -> tuple[float, float]:
        begun = time.monotonic()
        self._task.host.serve(serving)
        return begun, time.monotonic()


def _default_threads() -> int:
    """One fewer than the process may use, so that frames have one of their own."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores - 1)


def _lower_priority(nice: int) -> None:
    """Of this thread and those that it starts; only Linux has priorities of threads."""
    if sys.platform != "linux" or not nice:
        return
    with suppress(OSError):
        thread = threading.get_native_id()
        now = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(19, now + nice))
