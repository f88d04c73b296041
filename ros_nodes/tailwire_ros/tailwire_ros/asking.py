"""The action `Ask`: one question about the newest frames, streamed, cancelled, in time or not.

The runtime works in a thread per goal, so that a cancel and a deadline are seen at once and not
when the next word is there.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tailwire.runtime.errors import ConfigError, TailwireError
from tailwire.runtime.plans import Answer
from tailwire.runtime.questions import Question

from .conversion import answer_message
from .core import Core
from .settings import texts

#: Between two pieces of feedback, so that a client keeps up with a quick model.
_GAP_S = 0.02
_CANCELLED = "cancelled"
_PATIENCE_S = 5.0
_DEFAULT_TOKENS = 48


@dataclass(frozen=True)
class _Failed:
    reason: str


class AskServer:
    """Executes goals of `Ask`."""

    def __init__(
        self, core: Callable[[], Core | None], now_ns: Callable[[], int], frame_id: str
    ) -> None:
        """Be ready for goals.

        Args:
            core: the one that answers now; None while there is none.
            now_ns: stamps answers without sensors.
            frame_id: of the vehicle.
        """
        self._core, self._now_ns, self._frame_id = core, now_ns, frame_id
        self._closing = threading.Event()
        #: Goals that are worked on.
        self._threads: set[threading.Thread] = set()
        self._idle, self._executing = threading.Condition(), 0

    def open(self) -> None:
        """Take goals from now on."""
        self._closing.clear()

    def close(self) -> None:
        """End all goals and wait for the runtime to let go of them."""
        self._closing.set()
        for thread in list(self._threads):
            thread.join()
        with self._idle:
            self._idle.wait_for(lambda: not self._executing, _PATIENCE_S)

    def execute(self, goal: Any) -> Any:
        """Work on a goal until it is answered, cancelled or too late; returns its result."""
        with self._idle:
            self._executing += 1
        try:
            return self._execute(goal)
        finally:
            with self._idle:
                self._executing -= 1
                self._idle.notify_all()

    def _execute(self, goal: Any) -> Any:
        accepted_s = time.monotonic()
        work = _Work(goal.request, self._core, self._threads)
        told = _Told(goal, accepted_s)
        deadline_ms = float(goal.request.deadline_ms)
        answer, message = None, ""
        while answer is None and not message:
            late = deadline_ms > 0 and time.monotonic() - accepted_s > deadline_ms / 1e3
            if goal.is_cancel_requested:
                message = _CANCELLED
            elif late:
                message = f"the deadline of {deadline_ms:g} ms has passed; allow more"
            elif self._closing.is_set():
                message = "the node is being deactivated"
            else:
                answer, message = told.take(work)
        work.stop()
        told.flush()
        if answer is not None:
            goal.succeed()
        elif message == _CANCELLED:
            goal.canceled()
        else:
            goal.abort()
        return self._result(goal.request, told, answer, message)

    def _result(self, request: Any, told: _Told, answer: Answer | None, message: str) -> Any:
        from tailwire_msgs.action import Ask

        result = Ask.Result(complete=answer is not None, message=message)
        result.total_ms, result.first_piece_ms = told.since_ms(time.monotonic()), told.first_ms
        if answer is None:
            result.answer.question, result.answer.text = request.question, told.text
        else:
            result.answer = answer_message(
                answer,
                now_ns=self._now_ns(),
                frame_id=self._frame_id,
                latency_ms=result.total_ms,
            )
        return result


class _Told:
    """What the client of a goal has been told: never more often than it can take in.

    Attributes:
        text: so far.
        first_ms: from the goal to the first piece; 0 before it.
    """

    def __init__(self, goal: Any, accepted_s: float) -> None:
        self._goal, self._accepted_s = goal, accepted_s
        self.text, self.first_ms = "", 0.0
        self._waiting, self._told_s = "", 0.0
        self._tell("waiting")

    def since_ms(self, now_s: float) -> float:
        """Milliseconds since the goal."""
        return 1e3 * (now_s - self._accepted_s)

    def take(self, work: _Work) -> tuple[Answer | None, str]:
        """Pass on the next thing that the runtime says, if one comes soon.

        Returns:
            The answer and why there is none, if one of both is known.
        """
        try:
            item = work.items.get(timeout=_GAP_S)
        except queue.Empty:
            self.flush()
            return None, ""
        if isinstance(item, Answer):
            return item, ""
        if isinstance(item, _Failed):
            return None, item.reason
        if item is None:
            self._tell("looking")
            return None, ""
        self.first_ms = self.first_ms or self.since_ms(time.monotonic())
        self.text += item
        self._waiting += item
        if time.monotonic() - self._told_s >= _GAP_S:
            self.flush()
        return None, ""

    def flush(self) -> None:
        """Tell the pieces that wait."""
        if self._waiting:
            self._tell("answering", self._waiting)
            self._waiting, self._told_s = "", time.monotonic()

    def _tell(self, stage: str, piece: str = "") -> None:
        from tailwire_msgs.action import Ask

        self._goal.publish_feedback(Ask.Feedback(stage=stage, text=self.text, piece=piece))


class _Work:
    """The runtime's part of one goal.

    Attributes:
        items: None when frames are being looked at, pieces of text, at the end an `Answer` or why
            there is none.
    """

    def __init__(
        self, request: Any, core: Callable[[], Core | None], threads: set[threading.Thread]
    ) -> None:
        self.items: queue.SimpleQueue[str | Answer | _Failed | None] = queue.SimpleQueue()
        self._request, self._core = request, core
        self._stopped = threading.Event()
        self._threads = threads
        self._thread = threading.Thread(target=self._run, name="tailwire-ask", daemon=True)
        threads.add(self._thread)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the piece that is being made."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            self._answer()
        except TailwireError as error:
            self.items.put(_Failed(str(error)))
        except Exception as error:  # noqa: BLE001 - the client must hear of it
            self.items.put(_Failed(f"{type(error).__name__}: {error}"))
        finally:
            self._threads.discard(self._thread)

    def _answer(self) -> None:
        core, request = self._core(), self._request
        if core is None:
            raise ConfigError("the node is not active", field="ask", remedy="activate it first")
        core.forget_if_silent()
        answers = texts(request.answers)
        question = Question(
            request.question,
            answers or None,
            max_new_tokens=int(request.max_new_tokens) or _DEFAULT_TOKENS,
        )
        self.items.put(None)
        sensors = texts(request.sensors)
        if answers:
            self.items.put(core.ask(question, sensors))
            return
        with closing(core.stream(question, sensors)) as items:
            for item in items:
                if self._stopped.is_set():
                    return
                if isinstance(item, Answer):
                    self.items.put(item)
                elif item.text:
                    self.items.put(item.text)
