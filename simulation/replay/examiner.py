"""Asks the questions of a moment once for each of several sets of sensors, in place of a runtime.

A frame is encoded once whatever sets it is in, and a head runs once as long as there is memory for
it: questions of a file come again at other keyframes. When moments are is the player's matter.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

from ...runtime.answering import AskedQuestion
from ...runtime.frames import SensorFrame
from ...runtime.plans import Answer
from ...runtime.questions import Question

#: Asked at a moment of no interest, so that encoders which want an earlier frame have seen one.
WARM_UP = Question("Is there anything?", ("yes", "no"))


class Examinee(Protocol):
    """What an examiner needs of a `Runtime`."""

    max_age_ms: float

    @property
    def late_frames(self) -> dict[str, int]: ...

    @property
    def bad_frames(self) -> dict[str, int]: ...

    def prepare(self, question: Question) -> AskedQuestion: ...

    def answer(self, asked: Sequence[AskedQuestion]) -> list[Answer]: ...

    def switch_sensors(self, sensors: Sequence[str] | None) -> None: ...

    def push(self, frame: SensorFrame) -> bool: ...

    def forget_frames(self) -> None: ...


class HeadShelf:
    """Prepared questions that are asked again later, up to a bound of memory."""

    def __init__(self, max_bytes: int, uses: Mapping[Question, int]) -> None:
        """Nothing is kept yet.

        Args:
            max_bytes: of all heads that are kept and not in use.
            uses: at how many moments a question is going to be asked.
        """
        self._max_bytes = max_bytes
        self._left = Counter(uses)
        self._kept: OrderedDict[Question, AskedQuestion] = OrderedDict()
        #: Bytes of the heads on the shelf.
        self.nbytes = 0

    def take(self, question: Question) -> AskedQuestion | None:
        """The prepared question, which leaves the shelf; None if it is not there."""
        asked = self._kept.pop(question, None)
        if asked is not None:
            self.nbytes -= asked.head.nbytes
        return asked

    def note_use(self, question: Question) -> None:
        """Count down how often a question is still going to be asked."""
        self._left[question] -= 1

    def put(self, asked: AskedQuestion) -> None:
        """Keep a prepared question if it is asked again, and give up those unused for longest."""
        if self._left[asked.question] <= 0:
            return
        self._kept[asked.question] = asked
        self.nbytes += asked.head.nbytes
        while self.nbytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.nbytes -= oldest.head.nbytes


class Examiner:
    """Stands in for a runtime in front of a `Player`; implements `Answerer`."""

    def __init__(
        self,
        runtime: Examinee,
        sensor_sets: Mapping[str, Sequence[str]],
        shelf: HeadShelf,
        *,
        warmed: Sequence[str] = (),
    ) -> None:
        """Nothing is asked yet.

        Args:
            runtime: answers; which sensors are on is changed all the time.
            sensor_sets: sensors by the name of the set, at least one set.
            shelf: keeps heads, also between drives.
            warmed: sensors that are encoded at a moment where nothing but `WARM_UP` is asked.
        """
        self._runtime, self._sets, self._shelf = runtime, dict(sensor_sets), shelf
        self._warmed = tuple(warmed)
        self._held: dict[int, AskedQuestion] = {}
        self._last_key = 0
        #: Answers of the newest moment, by set and question.
        self.answers: dict[str, dict[Question, Answer]] = {}
        #: Heads that ran.
        self.heads = 0
        self.max_age_ms = runtime.max_age_ms

    @property
    def late_frames(self) -> dict[str, int]:
        """See `Runtime.late_frames`."""
        return self._runtime.late_frames

    @property
    def bad_frames(self) -> dict[str, int]:
        """See `Runtime.bad_frames`."""
        return self._runtime.bad_frames

    def watch(self, question: Question) -> int:
        """Hold a question; its head runs now unless it is on the shelf.

        Raises:
            ConfigError: the question is too long for the model.
        """
        asked = self._shelf.take(question)
        if asked is None:
            asked = self._runtime.prepare(question)
            self.heads += 1
        self._last_key += 1
        self._held[self._last_key] = asked
        return self._last_key

    def unwatch(self, key: int) -> None:
        """Let go of a question."""
        self._shelf.put(self._held.pop(key))

    def push(self, frame: SensorFrame) -> bool:
        """Hand a frame to the runtime."""
        return self._runtime.push(frame)

    def forget_frames(self) -> None:
        """Have the runtime drop frames and tokens."""
        self._runtime.forget_frames()

    def step(self) -> list[Answer]:
        """Ask all questions held, once per set of sensors.

        Returns:
            The answers of the first set; those of all sets are in `answers`.
        """
        held = list(self._held.values())
        if [asked.question for asked in held] == [WARM_UP]:
            self._runtime.switch_sensors(self._warmed)
            return self._runtime.answer(held)
        # Questions of like length share a pass with little padding between them.
        held.sort(key=lambda asked: len(asked.head.token_ids))
        found: dict[str, dict[Question, Answer]] = {}
        for name, sensors in self._sets.items():
            self._runtime.switch_sensors(sensors)
            answers = self._runtime.answer(held)
            found[name] = {
                asked.question: answer for asked, answer in zip(held, answers, strict=True)
            }
        self.answers = found
        for asked in held:
            self._shelf.note_use(asked.question)
        first = next(iter(found.values()))
        return [first[asked.question] for asked in self._held.values()]
