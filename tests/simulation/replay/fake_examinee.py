"""A runtime that answers by a rule, and notes which sensors were on when."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tailwire.runtime.answering import AskedQuestion
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.head_state import HeadState
from tailwire.runtime.plans import Answer, Plan, SensorUse
from tailwire.runtime.questions import Question


class FakeExaminee:
    """Answers by text and sensors; implements `Examinee`.

    Attributes:
        heads: texts of the questions whose heads ran.
        asked: sensors that were on, and texts of the questions, of each call.
        held: newest frame of each sensor.
    """

    max_age_ms = 1000.0

    def __init__(
        self,
        reply: Callable[[str, Sequence[str]], str] = lambda text, sensors: "yes",
        confidence: Callable[[str], float] = lambda text: 1.0,
    ) -> None:
        self.reply, self.confidence = reply, confidence
        self.heads: list[str] = []
        self.asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        self.held: dict[str, SensorFrame] = {}
        self.late_frames: dict[str, int] = {}
        self.bad_frames: dict[str, int] = {}
        self._on: tuple[str, ...] = ()

    def prepare(self, question: Question) -> AskedQuestion:
        self.heads.append(question.text)
        state = np.zeros((1, 1, 256), np.float32)
        tokens = np.zeros(len(question.text), np.int64)
        return AskedQuestion(question, HeadState(tokens, {1: (state, state)}, {}), None)

    def switch_sensors(self, sensors: Sequence[str] | None) -> None:
        assert sensors is not None
        self._on = tuple(sensors)

    def push(self, frame: SensorFrame) -> bool:
        self.held[frame.sensor] = frame
        return True

    def forget_frames(self) -> None:
        self.held.clear()

    def answer(self, asked: Sequence[AskedQuestion]) -> list[Answer]:
        texts = tuple(one.question.text for one in asked)
        self.asked.append((self._on, texts))
        uses = {
            sensor: SensorUse(stamp_ns=self.held[sensor].stamp_ns, age_ms=0, reused=False)
            for sensor in self._on
            if sensor in self.held
        }
        return [
            Answer(
                question=text,
                text=self.reply(text, self._on),
                confidence=self.confidence(text),
                stamp_ns=None,
                sensors=uses,
                dropped={},
                plan=Plan(sensors={}, tail_blocks=1, precision="fp32", flops=1),
                timings_ms={},
                flops=1,
                pack="fake 1",
                pack_trained=True,
            )
            for text in texts
        ]
