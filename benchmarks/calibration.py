"""How often plans are right: every asked keyframe answers its questions under some of the plans.

Encoders run once a keyframe, heads once a question, and the rows of a sensor once per tokens, so a
plan costs its connection and its tail. Older tokens are those of the keyframes before. Which plans
and which questions is decided elsewhere; counts are kept by keyframe, so that a run can go on where
it stopped and scenes can be held out.
"""

from __future__ import annotations

import bisect
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from ..runtime.calibration_table import CalibrationCell, CalibrationTable, MeasuredPlan
from ..runtime.encoder_specs import HISTORY_MS
from ..runtime.errors import ConfigError, DataError, SensorError
from ..runtime.question_kinds import topic_of
from ..runtime.questions import Question
from ..simulation.annotated_objects import OBJECTS, AnnotatedDrive
from ..simulation.nuscenes.source import NuScenesDrive
from ..simulation.replay.examiner import HeadShelf
from ..simulation.replay.feed import Feed
from ..simulation.replay.planning import planned_by_sample
from .calibration_parts import AGE_TOLERANCE_MS, CalibrationParts, Eyes, PlanAnswerer
from .calibration_plans import in_turns
from .exam import Exam, ExamDrive

HEAD_BYTES = 1 << 30
"""Memory for heads of questions that come again, where nothing else is said."""


class KeyframeCounts(BaseModel):
    """What one keyframe said.

    Attributes:
        sample_token: of the keyframe.
        scene: name of the drive.
        condition: of the drive.
        cells: plan (its number), topic, questions, right answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_token: str
    scene: str
    condition: str
    cells: tuple[tuple[int, str, int, int], ...]


@dataclass(frozen=True)
class CalibrationProgress:
    """How far a calibration is.

    Attributes:
        keyframes_done: of those that are asked about, earlier runs included.
        keyframes: in all.
        answers: counted in this run.
        accuracy: of these.
        seconds: of this run.
        done_before: keyframes of earlier runs.
    """

    keyframes_done: int
    keyframes: int
    answers: int
    accuracy: float
    seconds: float
    done_before: int = 0

    @property
    def seconds_left(self) -> float:
        """Until the end, at the speed so far."""
        done = self.keyframes_done - self.done_before
        return (self.keyframes - self.keyframes_done) * self.seconds / max(done, 1)


class Calibration:
    """One run; whatever ends it, what was counted until then is in `counts`."""

    def __init__(
        self,
        parts: CalibrationParts,
        exam: Exam,
        plans: Sequence[MeasuredPlan],
        *,
        plans_per_keyframe: int,
        always: Sequence[int] = (),
        done: Iterable[KeyframeCounts] = (),
        seed: int = 7,
        head_bytes: int = HEAD_BYTES,
        on_keyframe: Callable[[KeyframeCounts], None] | None = None,
        on_progress: Callable[[CalibrationProgress], None] | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            parts: of the pack.
            exam: what is asked.
            plans: their depths and precisions are named, and the precisions are in `parts`.
            plans_per_keyframe: how many of them answer at a keyframe, in turns.
            always: numbers of plans that answer at every keyframe, besides.
            done: keyframes of an earlier run with the same plans; they are not asked again.
            seed: of the turns.
            head_bytes: for heads of questions that come again.
            on_keyframe: gets the counts of each keyframe when they are there.
            on_progress: told after each keyframe.

        Raises:
            ConfigError: a plan names no depth or precision, or one that is not there.
        """
        self._parts, self._exam, self._plans = parts, exam, tuple(plans)
        for plan in self._plans:
            depth = plan.tail_blocks
            if plan.precision not in parts.models or depth is None:
                raise ConfigError(
                    f"depth {depth}, precision {plan.precision} of a plan is not at hand",
                    field="plans",
                    remedy=f"use precisions of {', '.join(parts.models)}",
                )
        self._sensors = tuple(dict.fromkeys(s for plan in self._plans for s in plan.sensors))
        self._planned = planned_by_sample(exam.items, {})
        self._answerers = {
            precision: PlanAnswerer(
                model,
                parts,
                sorted({p.tail_blocks for p in self._plans if p.tail_blocks}),
                HeadShelf(head_bytes // len(parts.models), self._uses()),
            )
            for precision, model in parts.models.items()
        }
        count = min(plans_per_keyframe, len(self._plans))
        turns = in_turns(len(self._plans), seed)
        # Fixed for every keyframe beforehand, so that a run that goes on asks what it would have.
        self._turns = {
            token: list(dict.fromkeys([*always, *(next(turns) for _ in range(count))]))
            for token in self._asked
        }
        self._on_keyframe, self._on_progress = on_keyframe, on_progress
        self.counts: dict[str, KeyframeCounts] = {one.sample_token: one for one in done}
        self._before = len(self.counts)
        #: Drives that could not be played to their end, with the reason.
        self.broken: dict[str, str] = {}
        #: Times that a plan was left out because a sensor had no tokens of its age.
        self.left_out = 0
        self.seconds = 0.0
        self._answers = self._right = 0

    @property
    def _asked(self) -> list[str]:
        drives = self._exam.drives
        return [token for drive in drives for token in drive.tokens if token in self._planned]

    def _uses(self) -> Mapping[Question, int]:
        return Counter(
            question
            for planned in self._planned.values()
            for question in {one.question for one in planned}
        )

    @property
    def keyframes(self) -> int:
        """That are asked about."""
        return len(self._turns)

    def run(self) -> None:
        """Ask everything that is not done.

        A drive that breaks is left and noted; what was asked before counts.

        Raises:
            TailwireError: nothing could be asked at all, or the fault is not a drive's.
        """
        begun = time.perf_counter()
        first: DataError | SensorError | None = None
        for drive in self._exam.drives:
            wanted = [t for t in drive.tokens if t in self._turns and t not in self.counts]
            if not wanted:
                continue
            try:
                self._ask_about(drive, frozenset(wanted), begun)
            except (DataError, SensorError) as error:
                self.broken[drive.name] = str(error)
                first = first or error
            finally:
                self.seconds = time.perf_counter() - begun
        if first is not None and not self.counts:
            raise first

    def _ask_about(self, drive: ExamDrive, wanted: frozenset[str], begun: float) -> None:
        moments = self._moments(drive, wanted)
        stamps = [stamp for stamp, _ in moments]

        def near(stamp_ns: int) -> bool:
            place = bisect.bisect_left(stamps, stamp_ns)
            return place < len(stamps) and stamps[place] - stamp_ns <= HISTORY_MS * 1_000_000

        kind = AnnotatedDrive if OBJECTS in self._sensors else NuScenesDrive
        source = kind(drive.data, drive.scene, near)
        sensors = [sensor for sensor in self._sensors if sensor in source.sensors]
        eyes = Eyes(self._parts, sensors, max(map(_oldest, self._plans)))
        feed = Feed(source, sensors, (), eyes.push)
        for stamp_ns, token in moments:
            feed.advance(stamp_ns)
            eyes.look()
            if token in wanted:
                self._count(drive, token, eyes)
                if self._on_progress is not None:
                    self._on_progress(self._progress(begun))

    def _moments(self, drive: ExamDrive, wanted: frozenset[str]) -> list[tuple[int, str]]:
        """Keyframes that are asked about, and those before them whose tokens may be used."""
        samples = drive.data.samples(drive.scene)
        reach_ms = max(map(_oldest, self._plans)) + AGE_TOLERANCE_MS
        if any(encoder.spec.previous_ms is not None for encoder in self._parts.encoders.values()):
            reach_ms += HISTORY_MS
        asked = [sample.stamp_ns for sample in samples if sample.token in wanted]
        return [
            (sample.stamp_ns, sample.token)
            for sample in samples
            if any(0 <= stamp - sample.stamp_ns <= reach_ms * 1e6 for stamp in asked)
        ]

    def _count(self, drive: ExamDrive, token: str, eyes: Eyes) -> None:
        planned = self._planned[token]
        cells: Counter[tuple[int, str, bool]] = Counter()
        for number in self._turns[token]:
            plan = self._plans[number]
            rows = eyes.rows(plan)
            if rows is None:
                self.left_out += 1
                continue
            assert plan.precision is not None and plan.tail_blocks is not None
            answers = self._answerers[plan.precision].answers(planned, rows, plan.tail_blocks)
            for one in planned:
                assert one.item is not None
                right = answers[one.question] == one.item.answer
                cells[number, topic_of(one.question.text).key, right] += 1
                self._answers += 1
                self._right += right
        for answerer in self._answerers.values():
            answerer.put_away()
        found = KeyframeCounts(
            sample_token=token,
            scene=drive.name,
            condition=drive.condition,
            cells=tuple(
                (number, topic, cells[number, topic, True] + cells[number, topic, False], hits)
                for number, topic in dict.fromkeys((n, t) for n, t, _ in cells)
                for hits in (cells[number, topic, True],)
            ),
        )
        self.counts[token] = found
        if self._on_keyframe is not None:
            self._on_keyframe(found)

    def _progress(self, begun: float) -> CalibrationProgress:
        return CalibrationProgress(
            keyframes_done=len(self.counts),
            keyframes=self.keyframes,
            answers=self._answers,
            accuracy=self._right / max(self._answers, 1),
            seconds=time.perf_counter() - begun,
            done_before=self._before,
        )


def table_of(
    counts: Iterable[KeyframeCounts], plans: Sequence[MeasuredPlan], measured_on: str
) -> CalibrationTable:
    """The table of a pack, from the counts of keyframes.

    Args:
        counts: of all keyframes.
        plans: that their cells name by number.
        measured_on: in words.
    """
    known = list(counts)
    cells = (
        CalibrationCell(plans[number], topic, one.condition, questions, right)
        for one in known
        for number, topic, questions, right in one.cells
    )
    return CalibrationTable.of(measured_on, cells, dispersion_of(known))


def dispersion_of(counts: Sequence[KeyframeCounts]) -> float:
    """Variance of right answers between scenes, over that of independent trials; at least 1.

    Expected of a scene is what all scenes of its condition say of the same plans and topics, so the
    figure has in it what answers of one scene have in common, be it the street or the question
    itself, asked under several plans (a design effect by clusters, Kish 1965).
    """
    rates: dict[tuple[int, str, str], list[int]] = {}
    for one in counts:
        for plan, topic, questions, right in one.cells:
            total = rates.setdefault((plan, topic, one.condition), [0, 0])
            total[0] += questions
            total[1] += right
    scenes: dict[str, list[float]] = {}
    for one in counts:
        entry = scenes.setdefault(one.scene, [0.0, 0.0])
        for plan, topic, questions, right in one.cells:
            asked, hits = rates[plan, topic, one.condition]
            # Half a count towards either side: a cell of one question has no variance of its own.
            rate = (hits + 0.5) / (asked + 1)
            entry[0] += right - questions * rate
            entry[1] += questions * rate * (1 - rate)
    variance = sum(expected for _, expected in scenes.values())
    if len(scenes) < 2 or not variance:
        return 1.0
    return max(1.0, sum(residual**2 for residual, _ in scenes.values()) / variance)


def _oldest(plan: MeasuredPlan) -> int:
    return plan.held_ms + max(plan.ages_ms, default=0)
