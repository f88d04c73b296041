"""Answers standing questions whenever there is something new, in a thread of its own.

Newest frames win: what comes while answers are made is answered about together, next. A thread
and no timer, for frames shall not wait for a tick, and no callback for answers.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tailwire.runtime.errors import BudgetError, EngineError, TailwireError
from tailwire.runtime.plans import Plan

from .core import Core, StandingAnswer
from .core_waits import CoreWaits

#: Frames in a row that fail for the same kind of reason before the engines count as broken.
MOST_FAILURES = 3
_REMEMBERED = 500
#: Where all threads of the process together waited for a core for less than this, a round had the
#: machine as it wanted it.
_FREE_NS = 300_000


@dataclass(frozen=True)
class Round:
    """One answering of all standing questions.

    Attributes:
        answers: one per question.
        arrived_s: `time.monotonic()` when the message came that started it.
        begun_s: when the runtime was asked.
        waited_ns: for a core, all threads together, since the round before; 0 where not measured.
        ended_s: when it had answered.
    """

    answers: Sequence[StandingAnswer]
    arrived_s: float
    begun_s: float
    ended_s: float
    waited_ns: int = 0


class AnsweringLoop:
    """Waits for frames and answers; made when the node is activated."""

    def __init__(
        self,
        core: Core,
        publish: Callable[[Round], None],
        *,
        on_problem: Callable[[str], None],
        on_broken: Callable[[str], None],
        waits: CoreWaits | None = None,
    ) -> None:
        """Start.

        Args:
            core: answers.
            publish: gets each round in which there were questions.
            on_problem: told why a round was not answered, once per reason.
            on_broken: told why the engines do not answer any more; the loop has ended then.
            waits: tells rounds apart in which no thread waited for a core; reading it counts as no
                overhead.
        """
        self._core, self._publish = core, publish
        self._on_problem, self._on_broken = on_problem, on_broken
        self.trigger, self.max_rate_hz = "", 0.0
        #: Rounds answered, rounds that failed, and questions answered too late or cut short.
        self.rounds = self.failures = self.late = 0
        #: Why the last round was not answered; empty where it was.
        self.problem = ""
        self.answered_s = time.monotonic()
        #: What the last round did, None before it.
        self.plan: Plan | None = None
        #: Milliseconds that the runtime took, and that the node took beside it, of late rounds.
        self.step_ms: deque[float] = deque(maxlen=_REMEMBERED)
        self.overhead_ms: deque[float] = deque(maxlen=_REMEMBERED)
        #: The same of rounds in which no thread of the process waited for a core.
        self.free_overhead_ms: deque[float] = deque(maxlen=_REMEMBERED)
        self._waits = waits
        self._waited_ns = 0 if waits is None else waits()
        #: Rounds that a sensor was missing from though it was wanted, and why it last was.
        self.missed: Counter[str] = Counter()
        self.why_missed: dict[str, str] = {}
        self._told_missed: Counter[str] = Counter()
        #: When messages came that are to be answered about; None ends the thread. No lock of
        #: Python's that who takes messages could hold while it waits for its turn.
        self._arrivals: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tailwire-answer", daemon=True)
        self._thread.start()

    def wake(self, sensor: str, arrived_s: float) -> None:
        """There is a new frame of a sensor, whose message came at `time.monotonic()`."""
        if self.trigger in ("", sensor):
            self._arrivals.put(arrived_s)

    def newly_missed(self) -> Counter[str]:
        """Rounds that each sensor was missing from since this was last called."""
        now = self.missed.copy()
        new, self._told_missed = now - self._told_missed, now
        return new

    def stop(self) -> None:
        """End after the round that runs."""
        self._stopping.set()
        self._arrivals.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        failed, next_s = 0, 0.0
        while (arrived_s := self._wait(next_s)) is not None:
            if not self._core.num_standing:
                continue
            begun_s = time.monotonic()
            waited_ns = 0 if self._waits is None else self._waits() - self._waited_ns
            if self.max_rate_hz > 0:
                next_s = begun_s + 1 / self.max_rate_hz
            try:
                answers = self._core.step()
            except BudgetError as error:
                self._failed(str(error))
                continue
            except TailwireError as error:
                self._failed(str(error))
                failed += isinstance(error, EngineError)
            except Exception as error:  # noqa: BLE001 - the thread must not end unseen
                self._failed(f"{type(error).__name__}: {error}")
                failed += 1
            else:
                failed, self.problem = 0, ""
                ended_s = time.monotonic()
                self._answered(Round(answers, arrived_s, begun_s, ended_s, waited_ns))
                continue
            if failed >= MOST_FAILURES:
                self._on_broken(self.problem)
                return

    def _wait(self, next_s: float) -> float | None:
        """When the message came that is to be answered about; None where all is over."""
        first_s = self._arrivals.get()
        pause_s = next_s - time.monotonic()
        if first_s is None or (pause_s > 0 and self._stopping.wait(pause_s)):
            return None
        # What has come since is answered about together.
        with suppress(queue.Empty):
            while True:
                if self._arrivals.get_nowait() is None:
                    return None
        # What waited for the round before, or was held back, waited for no node.
        return max(first_s, next_s, self.answered_s)

    def _answered(self, done: Round) -> None:
        before_ns = 0 if self._waits is None else self._waits()
        resumed_s = done.ended_s if self._waits is None else time.monotonic()
        self._publish(done)
        published_s = time.monotonic()
        self.rounds += 1
        overhead_ms = 1e3 * (published_s - resumed_s + done.begun_s - done.arrived_s)
        if self._waits is not None:
            self._waited_ns = self._waits()
            if done.waited_ns + self._waited_ns - before_ns < _FREE_NS:
                self.free_overhead_ms.append(overhead_ms)
        self.late += sum(
            one.answer.late_ms is not None or one.answer.cut is not None for one in done.answers
        )
        self.plan = done.answers[0].answer.plan if done.answers else None
        # Behind publishing: who hears of an answer hears of what it lacks afterwards.
        for sensor, reason in done.answers[0].answer.dropped.items() if done.answers else ():
            self.missed[sensor] += 1
            self.why_missed[sensor] = reason
        self.step_ms.append(1e3 * (done.ended_s - done.begun_s))
        self.overhead_ms.append(overhead_ms)
        self.answered_s = published_s if self._waits is None else time.monotonic()

    def _failed(self, reason: str) -> None:
        self.failures += 1
        if reason != self.problem:
            self._on_problem(reason)
        self.problem = reason
