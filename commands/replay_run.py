"""One replay with everything loaded: drives in turn, answers kept, what it came to told at the end.

How time runs is in `simulation/replay/player.py`, what is drawn in `replay_view.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import CacheError, ConfigError, DataError, SensorError
from ..runtime.files import write_atomic
from ..runtime.questions import Question
from ..simulation.replay.asking import PlannedQuestion, QuestionPlan
from ..simulation.replay.player import Pace, PlayedStep, Player
from ..simulation.replay.records import records_of
from ..simulation.replay.scoring import ReplayScore
from .replay_report import print_summary
from .replay_view import ReplayTitle, ReplayView

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime
    from ..simulation.bags.answers import AnswerMessage
    from ..simulation.replay.drops import DropWindow
    from ..simulation.replay.rerun_recording import RerunRecording
    from ..simulation.source import DriveSource
    from .replay_questions import ChosenQuestions
    from .replay_sources import DriveEntry, Found
    from .results import Results


class Replay:
    """One replay."""

    def __init__(
        self,
        runtime: Runtime,
        found: Found,
        chosen: ChosenQuestions,
        results: Results,
        *,
        pace: Pace,
        drops: Sequence[DropWindow] = (),
        rerun: Path | None = None,
        writes_bags: bool = True,
    ) -> None:
        """Put the parts together; nothing is played yet.

        Args:
            runtime: loaded, without standing questions.
            found: the drives.
            chosen: the questions.
            results: where answers go.
            pace: how fast sensor time runs.
            drops: windows in which sensors are taken away.
            rerun: also recorded there.
            writes_bags: whether answers are also written beside the sensors.

        Raises:
            ConfigError: there is nothing to ask.
        """
        self._runtime, self._found, self._chosen = runtime, found, chosen
        self._results, self._pace, self._drops = results, pace, drops
        self._rerun, self._writes_bags = rerun, writes_bags
        self._plan = _with_pack_questions(chosen.plan, runtime)
        self._score = ReplayScore()
        self._played: list[str] = []
        self._bags: list[str] = []
        self._notes: list[str] = []
        self._whole = False
        pack, manifest = runtime.pack, runtime.model.manifest
        self._title = ReplayTitle(
            model=manifest.name,
            precision=manifest.precision,
            pack=f"{pack.name} {pack.version}",
            pack_trained=pack.trained,
            rate=pace.rate,
            found=found.sentence,
        )

    def play(self, *, as_json: bool, redraw: bool) -> None:
        """Play all drives; what was done is told and kept, also when the user has seen enough.

        Args:
            as_json: print one line of JSON instead of text.
            redraw: False prints lines even on a terminal.

        Raises:
            TailwireError: a drive cannot be played, or results cannot be written.
        """
        try:
            with ExitStack() as stack:
                recording = None
                if self._rerun is not None:
                    from ..simulation.replay.rerun_recording import RerunRecording

                    recording = stack.enter_context(RerunRecording(self._rerun))
                view = stack.enter_context(
                    ReplayView(self._title, self._score, redraw=redraw, silent=as_json)
                )
                for entry in self._entries():
                    self._play_drive(entry, view, recording)
            self._whole = True
            if self._drops and not any(c.withheld for c in self._score.sensors.values()):
                self._notes.append("--drop took no frame away: its window is outside the drive")
        finally:
            # An error before the first answer has nothing to sum up.
            if self._whole or self._score.moments_answered:
                self._write_summary(as_json=as_json)

    def _entries(self) -> list[DriveEntry]:
        """The drives that there is something to ask about."""
        return [
            entry
            for entry in self._found.entries
            if self._plan.standing or self._plan.by_sample.keys() & set(entry.sample_tokens)
        ]

    def _play_drive(
        self, entry: DriveEntry, view: ReplayView, recording: RerunRecording | None
    ) -> None:
        source = entry.open()
        sensors = self._sensors(source)
        self._check_drops(sensors)
        self._runtime.forget_frames()
        if recording is not None:
            recording.begin(source)
        player = Player(
            source,
            self._runtime,
            self._plan,
            sensors,
            pace=self._pace,
            drops=self._drops,
            on_frame=None if recording is None else recording.frame,
        )
        view.begin(entry.name, player)
        answers: list[AnswerMessage] = []
        self._played.append(entry.name)
        try:
            for step in player.play():
                self._results.add(list(records_of(entry.name, step)))
                self._score.add(step)
                if self._writes_bags:
                    answers += _messages(step, self._pace.rate or 1.0)
                if recording is not None:
                    recording.step(step)
                view.show(step)
        except KeyboardInterrupt:
            if answers:
                self._notes.append(f"no bag of {entry.name}: stopped before its end")
            raise
        finally:
            self._score.add_drive(player)
        if answers:
            self._write_bag(source, entry.name, answers)

    def _sensors(self, source: DriveSource) -> list[str]:
        """Those of the drive that the runtime knows and that are switched on."""
        sensors = [sensor for sensor in self._runtime.sensors if sensor in source.sensors]
        if not sensors:
            raise SensorError(
                f"the drive has none of the sensors that are switched on; "
                f"it has {', '.join(source.sensors)}",
                field=source.title,
                remedy=f"the pack knows {', '.join(self._runtime.known_sensors)}; name the topics "
                "of a bag so, or take another pack",
            )
        return sensors

    def _check_drops(self, sensors: Sequence[str]) -> None:
        from ..simulation.replay.drops import check_drops

        check_drops(self._drops, sensors)

    def _write_bag(self, source: DriveSource, name: str, answers: list[AnswerMessage]) -> None:
        from ..simulation.bags.answers import write_answers
        from ..simulation.bags.read import BagDrive
        from ..simulation.nuscenes.source import NuScenesDrive

        if not isinstance(source, BagDrive | NuScenesDrive):
            return
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            self._notes.append(f"no bag of {name!r}: the name makes no folder name")
            return
        folder = self._results.folder / name
        try:
            summary = write_answers(source, answers, folder)
        except DataError as error:
            # The answers themselves are safe; a bag of them can be made again.
            self._notes.append(f"no bag of {name}: {error.problem}")
            return
        self._bags.append(str(summary.path))
        self._notes += summary.notes

    def _write_summary(self, *, as_json: bool) -> None:
        file = self._results.folder / "summary.json"
        facts = self._facts()
        try:
            write_atomic(file, json.dumps(facts, indent=1) + "\n")
        except CacheError as error:
            raise ConfigError(
                f"the summary cannot be written: {error.problem}",
                field=str(file),
                remedy="name a folder that can be written with --out DIR",
            ) from error
        if as_json:
            print(json.dumps(facts, separators=(",", ":")), flush=True)
        else:
            print_summary(facts, self._score, self._title, self._results, file)

    def _facts(self) -> dict[str, object]:
        """What is kept as `summary.json`."""
        return {
            "command": "replay",
            "found": self._found.sentence,
            "drives": self._played,
            "complete": self._whole,
            "rate": "max" if self._pace.rate is None else self._pace.rate,
            "drops": [str(drop) for drop in self._drops],
            "standing_questions": [one.question.text for one in self._plan.standing],
            **self._chosen.as_json(),
            "model": self._title.model,
            "precision": self._title.precision,
            "pack": self._title.pack,
            "pack_trained": self._title.pack_trained,
            **self._score.as_json(),
            "bags": self._bags,
            "notes": list(dict.fromkeys([*self._found.notes, *self._chosen.notes, *self._notes])),
        }


def _with_pack_questions(plan: QuestionPlan, runtime: Runtime) -> QuestionPlan:
    """The plan, or the standing questions that the pack suggests where it is empty."""
    if plan.standing or plan.by_sample:
        return plan
    if not runtime.pack.questions:
        raise ConfigError(
            "there is nothing to ask: no questions lie beside the drive, and the pack has none",
            field="--questions",
            remedy="name a file with --questions, or ask with --question TEXT",
        )
    suggested = [Question(one.text, one.answers) for one in runtime.pack.questions]
    return replace(plan, standing=[PlannedQuestion(question) for question in suggested])


def _messages(step: PlayedStep, rate: float) -> list[AnswerMessage]:
    """The answers of a moment for a bag; `rate` is sensor time by the time of the clock."""
    from ..simulation.bags.answers import AnswerMessage

    # In sensor time an answer is there when its moment has been worked on.
    given_ns = step.moment.stamp_ns + round((step.lag_ms + step.step_ms * rate) * 1e6)
    return [
        AnswerMessage(
            stamp_ns=step.moment.stamp_ns if answer.stamp_ns is None else answer.stamp_ns,
            given_ns=given_ns,
            question=answer.question,
            text=answer.text,
            confidence=answer.confidence,
            expected=planned.expected or "",
            sensors=tuple(answer.sensors),
            sensor_ages_ms=tuple(use.age_ms for use in answer.sensors.values()),
            dropped=tuple(f"{sensor}: {why}" for sensor, why in answer.dropped.items()),
            held=answer.held,
            cut=answer.cut or "",
            late_ms=answer.late_ms or 0.0,
            flops=answer.flops,
            latency_ms=step.lag_ms / rate + step.step_ms,
            stages_ms=answer.timings_ms,
            pack=answer.pack,
            pack_trained=answer.pack_trained,
            plan_json=answer.plan.model_dump_json(),
        )
        for planned, answer in zip(step.planned, step.answers, strict=True)
    ]
