"""The part of a runtime that learns: right answers are kept, adaptations started and ended.

How learning goes is in `adaptation/`, which is loaded when it is asked for and never before.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .answering import AskedQuestion
from .asking import as_question
from .encoders import Encoder
from .errors import ConfigError, EngineError, SensorError
from .metrics import StageClock
from .parts import RuntimeParts
from .questions import Question
from .scene import Lookout
from .sensor_buffer import SensorBuffer
from .serving import Serving

if TYPE_CHECKING:
    from .adaptation.adapting import Adaptation, Host
    from .adaptation.data import AdaptationData
    from .adaptation.lessons import Lessons
    from .adaptation.request import AdaptationRequest


class Adaptable(ABC):
    """What `Runtime` is made of as far as learning needs it."""

    max_age_ms: float

    def __init__(self, parts: RuntimeParts) -> None:
        self._parts = parts
        self._lock = threading.RLock()
        self._closed = False
        self._buffer = SensorBuffer(parts.perception.sensors)
        self._watched: dict[int, AskedQuestion] = {}
        self._lessons: Lessons | None = None
        self._adaptation: Adaptation | None = None

    @property
    @abstractmethod
    def serving(self) -> Serving:
        """All that answers now."""

    @abstractmethod
    def serve(self, serving: Serving) -> Serving:
        """Use other weights, sensors and depth, all from the same frame on."""

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the runtime is closed", field="runtime", remedy="open another one")

    @property
    def encoders(self) -> dict[str, Encoder]:
        """The encoders of the pack by name, for making data to adapt with.

        They may run beside frames, and belong to the runtime.
        """
        perception = self._parts.perception
        return dict(perception.encoder_of(sensor) for sensor in perception.sensors)

    def teach(
        self,
        question: str | Question,
        answer: str,
        answers: Sequence[str] | None = None,
        *,
        block: str | None = None,
    ) -> int:
        """Keep the right answer to a question about the newest frames, to learn from later.

        All sensors of the pack are looked at, also those that are switched off.

        Args:
            question: as asked.
            answer: the right one.
            answers: the allowed ones; None takes those of a standing question of the same text,
                else those of NuScenes-QA.
            block: name of the scene; None for the twenty seconds that the newest frame lies in.

        Returns:
            How many right answers are kept.

        Raises:
            ConfigError: the answer is not allowed.
            SensorError: no sensor has sent a frame that can be used.
        """
        from .adaptation.lessons import Lessons, block_of, taught_question

        wanted = as_question(question, answers)
        with self._lock:
            self._check_open()
            wanted = taught_question(wanted, answer, [a.question for a in self._watched.values()])
            held = self._buffer.snapshot()
            found = Lookout(self._parts.perception, held, self.max_age_ms).observe(StageClock())
            if not found:
                raise SensorError(
                    "no sensor has a frame to learn from",
                    field="teach",
                    remedy="push frames before teaching",
                )
            if self._lessons is None:
                self._lessons = Lessons()
            newest = max(tokens.frame.stamp_ns for tokens in found.values())
            self._lessons.add(wanted, answer, found, block or block_of(newest))
            return len(self._lessons)

    def forget_lessons(self) -> None:
        """Drop all that was taught."""
        with self._lock:
            self._lessons = None

    def adapt(self, request: AdaptationRequest, data: AdaptationData | None = None) -> Adaptation:
        """Learn new sensors, or polish, in a thread of its own, and swap if that is better.

        Args:
            request: what changes, and what it may cost.
            data: to learn from; None for all that was taught.

        Returns:
            The running adaptation; frames are answered meanwhile.

        Raises:
            ConfigError: torch is missing, another adaptation runs, the request contradicts what
                serves, or there is too little data.
            SensorError: a sensor is unknown.
            PackError: the data was not made with this pack.
            BudgetError: nothing fits; names the cheapest choice and its cost.
        """
        from .adaptation.adapting import Adaptation, check_torch, plan
        from .adaptation.lessons import Lessons

        check_torch()
        with self._lock:
            self._check_no_adaptation()
            lessons = (self._lessons or Lessons()).copy()
            host = self._host()
        # Columns of many moments, and spelling many questions, take seconds; frames go on.
        given = lessons.data(host.serving.pack) if data is None else data
        task = plan(request, given, host)
        with self._lock:
            self._check_no_adaptation()
            self._adaptation = Adaptation(task)
            return self._adaptation

    def _check_no_adaptation(self) -> None:
        self._check_open()
        if self._adaptation is not None and not self._adaptation.is_over:
            raise ConfigError(
                "an adaptation is running", field="adapt", remedy="wait for it, or cancel it"
            )

    def _host(self) -> Host:
        from .adaptation.adapting import Host

        parts = self._parts
        if parts.tail_weights is None:
            raise ConfigError(
                "the weights of the language model are not at hand",
                field="model",
                remedy="open the runtime with open_runtime",
            )
        return Host(
            parts.model,
            self.serving,
            parts.perception.sensors,
            self.serve,
            parts.tail_weights,
            parts.pack_folder,
        )

    def _end_adaptation(self) -> None:
        """Cancel what runs and wait for it; the lock must not be held, the thread may need it."""
        if self._adaptation is not None:
            self._adaptation.cancel()
            self._adaptation.wait()
