"""Drives cut into the moments at which a scheduler decides, with the questions to be scored.

Which frame of each sensor is the newest at a moment, which questions stand, and where they are
scored: all from tables, no sensor file is read here. What decides is not known.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from ..runtime.errors import ConfigError, DataError
from ..runtime.questions import NUSCENES_QA_ANSWERS, Question
from ..simulation.nuscenes import NuScenes, SampleData
from ..simulation.questions.baselines import Baselines
from ..simulation.questions.items import QaItem
from .exam import Exam, ExamDrive

#: Frames up to so much later than an even moment between two keyframes still belong to it.
_SLACK_NS = 20_000_000
_FOLDS = 4


@dataclass(frozen=True)
class ScoredQuestion:
    """A standing question that is scored at one keyframe.

    Attributes:
        item: with the right answer.
        question: as a runtime gets it.
        guesses: what each baseline answers, by its name.
    """

    item: QaItem
    question: Question
    guesses: dict[str, str]


@dataclass(frozen=True)
class Moment:
    """A step of a drive.

    Attributes:
        stamp_ns: of the newest frame of all sensors.
        newest: by sensor, which of its frames is the newest; sensors without one are left out.
        window: which questions stand.
        is_scored: whether the answers of now are scored.
    """

    stamp_ns: int
    newest: dict[str, int]
    window: int
    is_scored: bool


@dataclass(frozen=True)
class ScheduleDrive:
    """A scene, ready to be scheduled.

    Attributes:
        name: of the scene.
        condition: of light and weather, as its description names it.
        data: its data set.
        frames: by sensor, its files in stamp order.
        moments: in stamp order.
        windows: the questions that stand, in the order of the keyframes that they are scored at.
    """

    name: str
    condition: str
    data: NuScenes
    frames: dict[str, tuple[SampleData, ...]]
    moments: tuple[Moment, ...]
    windows: tuple[tuple[ScoredQuestion, ...], ...]


def schedule_drives(
    exam: Exam,
    sensors: Sequence[str],
    *,
    rate_hz: float,
    every: int,
    questions: int,
    keyframes: int | None = None,
    with_guesses: bool = True,
) -> list[ScheduleDrive]:
    """Cut drives into moments.

    The questions of a scored keyframe stand from the moment behind the scored keyframe before it,
    so each of them stands for `every` keyframes, and no two windows overlap.

    Args:
        exam: drives and questions.
        sensors: that a runtime knows; those that a drive lacks are left out of it.
        rate_hz: steps a second.
        every: from each scored keyframe to the next one.
        questions: that stand at once; keyframes that have fewer are not scored.
        keyframes: most scored ones of a drive, the first ones; None for all.
        with_guesses: learn blind guesses, which takes a minute.

    Raises:
        ConfigError: a number is not positive.
        DataError: no drive has a keyframe with so many questions.
    """
    numbers = (("--hz", rate_hz), ("--every", every), ("--questions", questions))
    for option, value in (*numbers, ("--keyframes", keyframes)):
        if value is not None and not value > 0:
            raise ConfigError(f"{value} is no such number", field=option, remedy="give one above 0")
    asked = _scored_questions(exam, with_guesses)
    found: list[ScheduleDrive] = []
    for drive in exam.drives:
        tokens = [
            token
            for place, token in enumerate(drive.tokens)
            # The first ones have no step before them at which anything could be remembered.
            if place % every == every - 1 and len(asked.get(token, ())) >= questions
        ][:keyframes]
        if tokens:
            windows = tuple(tuple(_evenly(asked[token], questions)) for token in tokens)
            found.append(_cut(drive, sensors, tokens, windows, rate_hz))
    if not found:
        raise DataError(
            f"no keyframe that would be scored has {questions} questions",
            field="--questions",
            remedy="ask fewer, or make more of them with `tailwire questions --per-keyframe`",
        )
    return found


def _cut(
    drive: ExamDrive,
    sensors: Sequence[str],
    scored: Sequence[str],
    windows: tuple[tuple[ScoredQuestion, ...], ...],
    rate_hz: float,
) -> ScheduleDrive:
    present = [name for name in sensors if name in drive.data.sensors]
    files = drive.data.drive_data(drive.scene, present)
    frames = {name: tuple(file for file in files if file.sensor == name) for name in present}
    frames = {name: own for name, own in frames.items() if own}
    stamps = {name: [file.stamp_ns for file in own] for name, own in frames.items()}
    samples = drive.data.samples(drive.scene)
    window_of = {token: number for number, token in enumerate(scored)}
    moments: list[Moment] = []
    window = 0
    for place, sample in enumerate(samples):
        before = samples[place - 1].stamp_ns if place else None
        for stamp_ns in _between(before, sample.stamp_ns, rate_hz):
            _append(moments, stamps, stamp_ns + _SLACK_NS, window, is_scored=False)
        is_scored = sample.token in window_of
        _append(moments, stamps, sample.stamp_ns, window, is_scored=is_scored)
        if is_scored:
            window = window_of[sample.token] + 1
        if window == len(windows):
            break
    return ScheduleDrive(drive.name, drive.condition, drive.data, frames, tuple(moments), windows)


def _append(
    moments: list[Moment],
    stamps: dict[str, list[int]],
    until_ns: int,
    window: int,
    *,
    is_scored: bool,
) -> None:
    newest = {
        name: place - 1
        for name, own in stamps.items()
        if (place := bisect.bisect_right(own, until_ns))
    }
    if newest:
        stamp_ns = max(stamps[name][place] for name, place in newest.items())
        moments.append(Moment(stamp_ns, newest, window, is_scored))


def _between(before_ns: int | None, stamp_ns: int, rate_hz: float) -> list[int]:
    """Even moments strictly between two keyframes."""
    if before_ns is None:
        return []
    gap_ns = stamp_ns - before_ns
    count = max(1, round(gap_ns * rate_hz / 1e9))
    return [before_ns + gap_ns * step // count for step in range(1, count)]


def _scored_questions(exam: Exam, with_guesses: bool) -> dict[str, list[ScoredQuestion]]:
    """Questions by keyframe, with guesses that were learned from other scenes."""
    scene_of = {token: drive.name for drive in exam.drives for token in drive.tokens}
    guesses: dict[int, dict[str, str]] = {}
    folds: list[tuple[list[tuple[int, QaItem]], Sequence[QaItem]]]
    if not with_guesses:
        folds = []
    elif {item.sample_token for item in exam.train}.isdisjoint(scene_of):
        folds = [(list(enumerate(exam.items)), exam.train)]
    else:
        folds = _folds(exam.items, scene_of)
    for asked, train in folds:
        if not asked or not train:
            continue
        predicted = Baselines.fit(train).predict([item for _, item in asked])
        for place, (index, _) in enumerate(asked):
            guesses[index] = {name: texts[place] for name, texts in predicted.items()}
    found: dict[str, list[ScoredQuestion]] = {}
    for index, item in enumerate(exam.items):
        question = Question(item.question, NUSCENES_QA_ANSWERS)
        own = found.setdefault(item.sample_token, [])
        # One text twice at a keyframe would be one standing question.
        if all(other.item.question != item.question for other in own):
            own.append(ScoredQuestion(item, question, guesses.get(index, {})))
    return found


def _folds(
    items: Sequence[QaItem], scene_of: dict[str, str]
) -> list[tuple[list[tuple[int, QaItem]], Sequence[QaItem]]]:
    """Where all scenes are asked about, guesses come from the questions of the other folds."""
    fold_of = {name: number % _FOLDS for number, name in enumerate(sorted(set(scene_of.values())))}
    folds: list[tuple[list[tuple[int, QaItem]], Sequence[QaItem]]] = []
    for fold in range(_FOLDS):
        own = [
            (index, item)
            for index, item in enumerate(items)
            if fold_of[scene_of[item.sample_token]] == fold
        ]
        others = [item for item in items if fold_of[scene_of[item.sample_token]] != fold]
        folds.append((own, others))
    return folds


def _evenly(found: Sequence[ScoredQuestion], count: int) -> list[ScoredQuestion]:
    """The first ones would be of one kind where a file is sorted."""
    return [found[place * len(found) // count] for place in range(count)]
