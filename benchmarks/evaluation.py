"""A pack is asked questions with known answers about keyframes of drives, drive by drive.

Drives go through the replay's player as fast as the machine can, several sets of sensors at once;
what the answers come to is in `evaluation_figures.py`.
"""

from __future__ import annotations

import bisect
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..runtime.encoder_specs import HISTORY_MS
from ..runtime.errors import DataError, SensorError
from ..simulation.annotated_objects import OBJECTS, AnnotatedDrive
from ..simulation.nuscenes.source import NuScenesDrive
from ..simulation.questions.items import QaItem
from ..simulation.replay.asking import PlannedQuestion, QuestionPlan
from ..simulation.replay.examiner import WARM_UP, Examinee, Examiner, HeadShelf
from ..simulation.replay.feed import SensorCount
from ..simulation.replay.planning import planned_by_sample
from ..simulation.replay.player import PlayedStep, Player
from ..simulation.replay.records import ReplayedAnswer, records_of
from .exam import Exam, ExamDrive

HEAD_BYTES = 1 << 30
"""Memory for heads of questions that come again, where nothing else is said."""


class EvaluatedAnswer(ReplayedAnswer):
    """One answer of one set of sensors.

    Attributes:
        sensor_set: name of the set.
        condition: of the drive.
    """

    sensor_set: str
    condition: str


@dataclass(frozen=True, slots=True)
class Given:
    """What a set of sensors answered.

    Attributes:
        text: the answer.
        confidence: 0 to 1.
        sensors: how many were behind it.
    """

    text: str
    confidence: float
    sensors: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A question with all that was answered.

    Attributes:
        item: the question.
        drive: its name.
        condition: of the drive.
        given: by set of sensors.
        guesses: by baseline.
    """

    item: QaItem
    drive: str
    condition: str
    given: Mapping[str, Given]
    guesses: Mapping[str, str]


@dataclass(frozen=True)
class EvaluationProgress:
    """How far an evaluation is.

    Attributes:
        drive: its name.
        drive_number: from 1.
        drives: in all.
        questions_done: answered by every set.
        questions: in all.
        accuracy: of the first set so far.
        seconds: since the first drive was begun.
    """

    drive: str
    drive_number: int
    drives: int
    questions_done: int
    questions: int
    accuracy: float
    seconds: float

    @property
    def seconds_left(self) -> float:
        """Until the end, at the speed so far."""
        left = self.questions - self.questions_done
        return left * self.seconds / max(self.questions_done, 1)


class Evaluation:
    """One run; whatever ends it, what was answered until then is in `marks`."""

    def __init__(
        self,
        runtime: Examinee,
        exam: Exam,
        guesses: Mapping[str, Sequence[str]],
        sensor_sets: Mapping[str, Sequence[str]],
        *,
        with_history: Sequence[str] = (),
        head_bytes: int = HEAD_BYTES,
        examiner: Examiner | None = None,
        on_answers: Callable[[Sequence[EvaluatedAnswer]], None] | None = None,
        on_progress: Callable[[EvaluationProgress], None] | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            runtime: without frames of other drives.
            exam: what is asked.
            guesses: of each baseline, one per question of the exam.
            sensor_sets: sensors by the name of the set; the first one is reported on the way.
            with_history: sensors whose encoder wants an earlier frame beside the newest.
            head_bytes: for heads of questions that come again.
            examiner: asks in place of one that asks `runtime`; its answers are by the names of
                `sensor_sets`.
            on_answers: gets the answers of each keyframe.
            on_progress: told after each keyframe.

        Raises:
            SensorError: a drive has no sensor of a set.
        """
        self._exam, self._sets = exam, dict(sensor_sets)
        self._planned = planned_by_sample(exam.items, guesses)
        self._wanted = tuple(dict.fromkeys(s for sensors in self._sets.values() for s in sensors))
        self._warmed = tuple(sensor for sensor in self._wanted if sensor in with_history)
        uses = Counter(
            question
            for planned in self._planned.values()
            for question in {one.question for one in planned}
        )
        # As often as it can come, so that it is never given up as done with.
        uses[WARM_UP] = sum(len(drive.tokens) for drive in exam.drives) + 1
        self._examiner = examiner or Examiner(
            runtime, self._sets, HeadShelf(head_bytes, uses), warmed=self._warmed
        )
        self._on_answers, self._on_progress = on_answers, on_progress
        self._sources = {drive.name: self._source(drive) for drive in exam.drives}
        self.marks: list[Mark] = []
        #: Drives that could not be played to their end, with the reason.
        self.broken: dict[str, str] = {}
        self.frames: dict[str, SensorCount] = {}
        self.keyframes = 0
        self.seconds = 0.0
        self._right = 0

    @property
    def heads(self) -> int:
        """Heads that ran."""
        return self._examiner.heads

    @property
    def missing_sensors(self) -> dict[str, tuple[str, ...]]:
        """Sensors of the sets that a drive does not have at all, by drive."""
        found = {
            name: tuple(sensor for sensor in self._wanted if sensor not in source.sensors)
            for name, source in self._sources.items()
        }
        return {name: sensors for name, sensors in found.items() if sensors}

    def run(self) -> None:
        """Ask everything.

        A drive that breaks is left and noted; the questions asked before count.

        Raises:
            TailwireError: nothing could be asked at all, or the fault is not a drive's.
        """
        begun = time.perf_counter()
        first: DataError | SensorError | None = None
        for number, drive in enumerate(self._exam.drives, 1):
            try:
                self._ask_about(drive, number, begun)
            except (DataError, SensorError) as error:
                self.broken[drive.name] = str(error)
                first = first or error
            finally:
                self.seconds = time.perf_counter() - begun
        if first is not None and not self.marks:
            raise first

    def _source(self, drive: ExamDrive) -> NuScenesDrive:
        kind = AnnotatedDrive if OBJECTS in self._wanted else NuScenesDrive
        moments = self._moments(drive)
        stamps = [one.stamp_ns for one in drive.data.samples(drive.scene) if one.token in moments]

        def near(stamp_ns: int) -> bool:
            """Whether a frame may matter to a keyframe that is asked about."""
            place = bisect.bisect_left(stamps, stamp_ns)
            return place < len(stamps) and stamps[place] - stamp_ns <= HISTORY_MS * 1_000_000

        source = kind(drive.data, drive.scene, near)
        for name, sensors in self._sets.items():
            if not set(sensors) & set(source.sensors):
                raise SensorError(
                    f"the drive has no sensor of the set '{name}'; it has "
                    f"{', '.join(source.sensors)}",
                    field=drive.name,
                    remedy="take other sensors, or other drives",
                )
        return source

    def _moments(self, drive: ExamDrive) -> dict[str, Sequence[PlannedQuestion]]:
        """Questions by keyframe; the keyframe before one has the warm-up if it has no other."""
        moments: dict[str, Sequence[PlannedQuestion]] = {}
        before: str | None = None
        for token in drive.tokens:
            if token in self._planned:
                if self._warmed and before is not None and before not in moments:
                    moments[before] = [PlannedQuestion(WARM_UP)]
                moments[token] = self._planned[token]
            before = token
        return moments

    def _ask_about(self, drive: ExamDrive, number: int, begun: float) -> None:
        source = self._sources[drive.name]
        self._examiner.forget_frames()
        sensors = [sensor for sensor in self._wanted if sensor in source.sensors]
        plan = QuestionPlan(by_sample=self._moments(drive))
        player = Player(source, self._examiner, plan, sensors)
        try:
            for step in player.play():
                if step.planned[0].item is None:
                    continue
                self._mark(drive, step)
                if self._on_progress is not None:
                    self._on_progress(self._progress(drive, number, begun))
        finally:
            for sensor, count in player.counts.items():
                self._count(sensor, count)

    def _mark(self, drive: ExamDrive, step: PlayedStep) -> None:
        said = self._examiner.answers
        first = next(iter(said))
        for one in step.planned:
            assert one.item is not None
            given = {
                name: Given(answer.text, answer.confidence, len(answer.sensors))
                for name, answers in said.items()
                for answer in (answers[one.question],)
            }
            self._right += given[first].text == one.item.answer
            self.marks.append(Mark(one.item, drive.name, drive.condition, given, one.guesses))
        self.keyframes += 1
        if self._on_answers is not None:
            self._on_answers(self._records(drive, step))

    def _records(self, drive: ExamDrive, step: PlayedStep) -> list[EvaluatedAnswer]:
        records: list[EvaluatedAnswer] = []
        for place, (name, answers) in enumerate(self._examiner.answers.items()):
            # The step has the answers of the first set, with what the feed knows of its sensors.
            own = step.answers if not place else [answers[one.question] for one in step.planned]
            for record in records_of(drive.name, replace(step, answers=own)):
                fields = {key: getattr(record, key) for key in ReplayedAnswer.model_fields}
                records.append(
                    EvaluatedAnswer(**fields, sensor_set=name, condition=drive.condition)
                )
        return records

    def _progress(self, drive: ExamDrive, number: int, begun: float) -> EvaluationProgress:
        return EvaluationProgress(
            drive=drive.name,
            drive_number=number,
            drives=len(self._exam.drives),
            questions_done=len(self.marks),
            questions=len(self._exam.items),
            accuracy=self._right / len(self.marks),
            seconds=time.perf_counter() - begun,
        )

    def _count(self, sensor: str, count: SensorCount) -> None:
        total = self.frames.setdefault(sensor, SensorCount())
        total.pushed += count.pushed
        total.late += count.late
        total.withheld += count.withheld
        total.unreadable += count.unreadable
        total.refused += count.refused
