"""Plays a scheduler through drives, step by step, as the runtime would, without its engines.

A decision depends on what waits, what is held and how old it is, never on an answer. So steps cost
next to nothing, and only the answers that are scored are asked of the world.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..runtime.encoder_specs import HISTORY_MS
from ..runtime.errors import BudgetError
from ..runtime.plans import Budget, Plan
from ..runtime.question_kinds import topic_of
from ..runtime.scheduler import PlanRequest, QuestionDemand, SensorState
from ..runtime.standpoint import Standpoint
from .schedule_drives import Moment, ScheduleDrive, ScoredQuestion
from .schedule_planning import Planning
from .schedule_world import Look, ScheduleWorld

Choose = Callable[[PlanRequest], Plan]


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """What stood as the answer of a question when it was scored.

    Attributes:
        drive: its name.
        condition: of the drive.
        kind: of the question, as its file has it.
        text: the answer; None where the question had none that was young enough.
        is_right: whether it is the right one.
        age_ms: how long before it was given.
        guesses: by baseline, whether it is right.
    """

    drive: str
    condition: str
    kind: str
    text: str | None
    is_right: bool
    age_ms: float
    guesses: dict[str, bool]


@dataclass
class Play:
    """What came of one policy at one budget.

    Attributes:
        scored: answers, in the order of drives, keyframes and questions.
        flops: of every step, by the formulas of the runtime, without decoding.
        decode_flops: what decoding added, of scored steps at which all was answered anew.
        answered: share of the standing questions that was answered anew, of every step.
        ran: encoders that ran, of every step.
        expected: share of right answers that the plan promised, of every step; None without.
        decision_us: time of every decision, with the making of the request left out.
        refused: steps at which nothing fitted the budget.
        notes: of plans, with how many said so.
    """

    scored: list[ScoredAnswer] = field(default_factory=list)
    flops: list[int] = field(default_factory=list)
    decode_flops: list[int] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    ran: list[int] = field(default_factory=list)
    expected: list[float | None] = field(default_factory=list)
    decision_us: list[float] = field(default_factory=list)
    refused: int = 0
    notes: dict[str, int] = field(default_factory=dict)


@dataclass
class _Held:
    """Tokens of a sensor."""

    look: Look
    stamp_ns: int
    #: Where its tokens were when the connection prepared them (None: as they are); False before.
    prepared_at: Standpoint | Literal[False] | None = False


@dataclass(frozen=True)
class _Given:
    """The newest answer of a question: what was behind it."""

    looks: dict[str, Look]
    depth: int
    given_ns: int
    here: Standpoint
    oldest_ns: int
    stamps_ns: dict[str, int]


class Simulation:
    """One policy at one budget in one drive."""

    def __init__(
        self,
        world: ScheduleWorld,
        planning: Planning,
        drive: ScheduleDrive,
        choose: Choose,
        budget: Budget,
        play: Play,
        *,
        max_age_ms: float,
        is_steered: bool = True,
    ) -> None:
        """Nothing has been seen yet.

        Args:
            world: answers what is scored.
            planning: what a runtime would put into its requests.
            drive: that is played.
            choose: the policy.
            budget: of every step.
            play: is added to.
            max_age_ms: older tokens and answers are not used.
            is_steered: whether the condition and sick sensors are looked after, which a runtime
                does for no fixed plan.
        """
        self._world, self._planning, self._drive = world, planning, drive
        self._choose, self._budget, self._play = choose, budget, play
        self._max_age_ms = max_age_ms
        self._held: dict[str, _Held] = {}
        self._history: dict[str, list[int]] = {}
        self._given: dict[str, _Given] = {}
        nothing: tuple[str | None, frozenset[str]] = (None, frozenset())
        self._contexts = world.contexts(drive) if is_steered else [nothing] * len(drive.moments)

    def run(self) -> None:
        """Take all moments."""
        window = -1
        for number, moment in enumerate(self._drive.moments):
            if moment.window != window:
                window = moment.window
                # Other questions stand now; an answer belongs to one that was watched.
                asked = {one.question.text for one in self._drive.windows[window]}
                self._given = {k: v for k, v in self._given.items() if k in asked}
            self._step(moment, *self._contexts[number])

    def _step(self, moment: Moment, condition: str | None, unusable: Collection[str]) -> None:
        questions = self._drive.windows[moment.window]
        request = self._request(moment, questions, condition, unusable)
        begun_s = time.perf_counter()
        try:
            plan = self._choose(request)
        except BudgetError:
            plan = None
        self._play.decision_us.append((time.perf_counter() - begun_s) * 1e6)
        if plan is None:
            self._play.refused += 1
            self._note_step(0, 0.0, 0, None)
        else:
            self._carry_out(plan, moment, questions)
        if moment.is_scored:
            self._score(moment, questions)

    def _request(
        self,
        moment: Moment,
        questions: Sequence[ScoredQuestion],
        condition: str | None,
        unusable: Collection[str],
    ) -> PlanRequest:
        here = self._world.standpoint(self._drive, moment)
        sensors: dict[str, SensorState] = {}
        for sensor, files in self._drive.frames.items():
            held, newest = self._held.get(sensor), moment.newest.get(sensor)
            # A frame is encoded once, however long it stays the newest.
            waits = newest is not None and (held is None or held.look[0] != newest)
            waits = waits and sensor not in unusable
            fresh_ms = None if not waits else self._young_ms(moment, files[newest or 0].stamp_ns)
            held_ms = None if held is None else self._young_ms(moment, held.stamp_ns)
            connected = self._is_connected(sensor, here)
            sensors[sensor] = self._planning.sensor_state(sensor, fresh_ms, held_ms, connected)
        demands = [self._demand(one, moment, condition) for one in questions]
        return self._planning.request(sensors, demands, self._budget, condition)

    def _demand(self, one: ScoredQuestion, moment: Moment, condition: str | None) -> QuestionDemand:
        kind = topic_of(one.question.text, one.question.answers).key
        given = self._given.get(one.question.text)
        held_ms = None if given is None else self._young_ms(moment, given.oldest_ns)
        share = None
        if given is not None and held_ms is not None:
            ages_ms = {name: (given.given_ns - ns) / 1e6 for name, ns in given.stamps_ns.items()}
            since_ms = _age_ms(moment, given.given_ns)
            share = self._planning.held_share(kind, condition, ages_ms, since_ms, given.depth)
        return QuestionDemand(
            kind=kind,
            length=self._world.length(one.question),
            held_age_ms=held_ms,
            held_share=share,
        )

    def _carried_to(self, sensor: str, here: Standpoint) -> Standpoint | None:
        """Where the held tokens of a sensor are brought, None where they are used as they are."""
        frame = self._held[sensor].look[0]
        return here if self._world.is_carried(self._drive, sensor, frame, here) else None

    def _is_connected(self, sensor: str, here: Standpoint) -> bool:
        held = self._held.get(sensor)
        return held is not None and held.prepared_at == self._carried_to(sensor, here)

    def _young_ms(self, moment: Moment, stamp_ns: int) -> float | None:
        """Age of tokens or an answer, None of what is too old to be used."""
        age_ms = _age_ms(moment, stamp_ns)
        return age_ms if age_ms <= self._max_age_ms else None

    def _carry_out(self, plan: Plan, moment: Moment, questions: Sequence[ScoredQuestion]) -> None:
        cost, depth = self._world.cost, plan.tail_blocks
        asked = range(len(questions)) if plan.questions is None else plan.questions
        here = self._world.standpoint(self._drive, moment)
        connected = {
            sensor
            for sensor, action in plan.sensors.items()
            if action == "reuse" and self._is_connected(sensor, here)
        }
        lengths = [self._world.length(questions[place].question) for place in asked]
        boundary = self._world.parts.model.boundary(depth)
        flops = cost.look(plan.sensors, connected, boundary, lengths, depth)
        for sensor, action in plan.sensors.items():
            if action == "run":
                self._encode(sensor, moment)
            if lengths:
                self._held[sensor].prepared_at = self._carried_to(sensor, here)
        looks = {sensor: self._held[sensor].look for sensor in plan.sensors}
        # An answer is as old as the oldest moment that it tells of, as in `LastAnswers`.
        stamps_ns = {sensor: self._held[sensor].stamp_ns for sensor in looks}
        tells_of_ns = [
            moment.stamp_ns if self._carried_to(sensor, here) else stamp_ns
            for sensor, stamp_ns in stamps_ns.items()
        ]
        oldest_ns = min(tells_of_ns, default=moment.stamp_ns)
        for place in asked:
            text = questions[place].question.text
            self._given[text] = _Given(looks, depth, moment.stamp_ns, here, oldest_ns, stamps_ns)
        runs = sum(action == "run" for action in plan.sensors.values())
        self._note_step(flops, len(lengths) / len(questions), runs, plan.expected)
        if plan.note is not None:
            self._play.notes[plan.note] = self._play.notes.get(plan.note, 0) + 1
        if moment.is_scored and len(lengths) == len(questions):
            texts = [questions[place].question for place in asked]
            replies = self._world.replies(self._drive, texts, looks, depth, here)
            extra = cost.answers(looks, boundary, lengths, replies, depth)
            self._play.decode_flops.append(extra)

    def _encode(self, sensor: str, moment: Moment) -> None:
        frame, files = moment.newest[sensor], self._drive.frames[sensor]
        history = self._history.get(sensor, [])
        previous = self._world.previous_of(self._drive, sensor, frame, history)
        stamp_ns = files[frame].stamp_ns
        # As `Perception` remembers frames: none that is too old for those to come.
        kept = [one for one in history if 0 <= stamp_ns - files[one].stamp_ns <= HISTORY_MS * 1e6]
        self._history[sensor] = [*kept, frame]
        self._held[sensor] = _Held((frame, previous), stamp_ns)

    def _note_step(self, flops: int, answered: float, ran: int, expected: float | None) -> None:
        self._play.flops.append(flops)
        self._play.answered.append(answered)
        self._play.ran.append(ran)
        self._play.expected.append(expected)

    def _score(self, moment: Moment, questions: Sequence[ScoredQuestion]) -> None:
        current: dict[str, tuple[str, float]] = {}
        behind: dict[tuple[object, ...], list[ScoredQuestion]] = {}
        for one in questions:
            given = self._given.get(one.question.text)
            if given is not None and self._young_ms(moment, given.oldest_ns) is not None:
                key = (tuple(given.looks.items()), given.depth, given.given_ns)
                behind.setdefault(key, []).append(one)
        for group in behind.values():
            given = self._given[group[0].question.text]
            texts = [one.question for one in group]
            replies = self._world.replies(self._drive, texts, given.looks, given.depth, given.here)
            age_ms = _age_ms(moment, given.given_ns)
            for one, reply in zip(group, replies, strict=True):
                current[one.question.text] = (reply.text, age_ms)
        for one in questions:
            text, age_ms = current.get(one.question.text, (None, 0.0))
            self._play.scored.append(
                ScoredAnswer(
                    drive=self._drive.name,
                    condition=self._drive.condition,
                    kind=one.item.template_type,
                    text=text,
                    is_right=text == one.item.answer,
                    age_ms=age_ms,
                    guesses={k: guess == one.item.answer for k, guess in one.guesses.items()},
                )
            )


def _age_ms(moment: Moment, stamp_ns: int) -> float:
    return (moment.stamp_ns - stamp_ns) / 1e6
