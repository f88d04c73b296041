"""Reads a folder of results: benchmarks, evaluations, schedules and runs; bad files become notes.

Nothing is drawn here, and nothing is fatal: a page about nine of ten files is better than none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ...runtime.errors import ConfigError
from ..result_file import FORMAT_VERSION

SensorState = Literal["on", "reused", "dropped", "off"]

#: Steps of a run that a page shows.
MOST_STEPS = 240
_SCHEDULE_PART = "schedule-accuracy.json"


@dataclass(frozen=True)
class RunAnswer:
    """An answer of a run.

    Attributes:
        question: as asked.
        text: answered.
        confidence: of it.
        expected: what is right, None where nobody knows.
        right: whether it is; None likewise.
        held: whether it is an earlier answer given again.
    """

    question: str
    text: str
    confidence: float
    expected: str | None
    right: bool | None
    held: bool


@dataclass(frozen=True)
class RunStep:
    """A moment of a run.

    Attributes:
        answers: of this moment.
        sample_token: of its keyframe, None where there is none.
        drive: that it belongs to, empty where there is one alone.
        states: of every sensor of the run.
        tail_blocks: depth of the tail.
        flops: counted.
        stages_ms: by stage.
        cut: why it was cut short, None if it was not.
        late_ms: by how much a deadline was missed, None if it was not.
    """

    answers: Sequence[RunAnswer]
    sample_token: str | None
    drive: str
    states: Mapping[str, SensorState]
    tail_blocks: int
    flops: int
    stages_ms: Mapping[str, float]
    cut: str | None
    late_ms: float | None

    @property
    def total_ms(self) -> float:
        return sum(self.stages_ms.values())


@dataclass(frozen=True)
class Run:
    """What a demo or a replay wrote.

    Attributes:
        name: of its folder.
        steps: in order, at most `MOST_STEPS`.
        all_steps: how many there were.
        sensors: of any step, in order of appearance.
        questions: distinct ones, in order of appearance.
        pack: name and version.
        pack_trained: whether its answers mean anything.
        budget: what frames were allowed, as configured.
    """

    name: str
    steps: Sequence[RunStep]
    all_steps: int
    sensors: Sequence[str]
    questions: Sequence[str]
    pack: str
    pack_trained: bool
    budget: Mapping[str, float]


@dataclass
class Findings:
    """All that a folder holds.

    Attributes:
        folder: that was read.
        benchmarks: newest result of each, by name.
        schedule: figures of `bench schedule`, None without.
        evaluations: by folder, what `eval` wrote.
        runs: of demo and replay.
        notes: what could not be read, and why.
    """

    folder: Path
    benchmarks: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedule: dict[str, Any] | None = None
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.benchmarks or self.schedule or self.evaluations or self.runs)


def read_findings(folder: Path) -> Findings:
    """Read a folder and those below it.

    Raises:
        ConfigError: there is no such folder, or nothing in it that a page could show.
    """
    if not folder.is_dir():
        raise ConfigError(
            "there is no such folder",
            field=str(folder),
            remedy="name a folder with results of bench, eval, demo or replay",
        )
    found = Findings(folder)
    for path in sorted(folder.rglob("*.json")):
        _read_json(path, found)
    for path in sorted(folder.rglob("answers.jsonl")):
        # An evaluation asks thousands of questions at moments that are no stream.
        if (path.parent / "eval.json").exists():
            continue
        run = _read_run(path, found)
        if run is not None:
            found.runs.append(run)
    if found.is_empty:
        told = f" ({'; '.join(found.notes)})" if found.notes else ""
        raise ConfigError(
            f"nothing here can be shown{told}",
            field=str(folder),
            remedy="write results there with bench --save FILE, or eval, demo or replay --out DIR",
        )
    return found


def _read_json(path: Path, found: Findings) -> None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found.notes.append(f"{_place(path, found)} cannot be read: {error}")
        return
    if not isinstance(value, dict):
        return
    if path.name == _SCHEDULE_PART:
        found.schedule = value
    elif value.get("command") == "eval":
        found.evaluations[_place(path.parent, found)] = value
    elif "benchmark" in value:
        _take_benchmark(path, value, found)


def _take_benchmark(path: Path, value: dict[str, Any], found: Findings) -> None:
    version = value.get("format_version", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        found.notes.append(
            f"{_place(path, found)} is of format {version}, this Tailwire reads {FORMAT_VERSION}"
        )
        return
    name = str(value["benchmark"])
    if name == "schedule" and value.get("accuracy"):
        found.schedule = value["accuracy"]
    earlier = found.benchmarks.get(name)
    if earlier is None or _date(earlier) <= _date(value):
        found.benchmarks[name] = value


def _date(result: Mapping[str, Any]) -> str:
    return str((result.get("machine") or {}).get("date") or "")


def _place(path: Path, found: Findings) -> str:
    place = str(path.relative_to(found.folder))
    return found.folder.name if place == "." else place


def _read_run(path: Path, found: Findings) -> Run | None:
    rows: list[dict[str, Any]] = []
    bad = 0
    for line in _lines(path, found):
        value: Any = None
        try:
            value = json.loads(line)
            complete = {"question", "timings_ms"} <= value.keys() and "tail_blocks" in value["plan"]
        except (ValueError, KeyError, TypeError, AttributeError):
            complete = False
        if complete:
            rows.append(value)
        else:
            bad += 1
    if bad:
        found.notes.append(f"{bad} lines of {_place(path, found)} are no answers")
    if not rows:
        return None
    groups = list(_grouped(rows))
    shown = groups[:MOST_STEPS]
    sensors = _sensors(rows)
    if len(groups) > len(shown):
        found.notes.append(
            f"{_place(path, found)}: the first {len(shown)} of {len(groups)} moments are shown"
        )
    return Run(
        name=_place(path.parent, found),
        steps=[_step(group, sensors) for group in shown],
        all_steps=len(groups),
        sensors=sensors,
        questions=list(dict.fromkeys(row["question"] for group in shown for row in group)),
        pack=str(rows[0].get("pack", "")),
        pack_trained=bool(rows[0].get("pack_trained", True)),
        budget=_budget(path.with_name("config.yaml"), found),
    )


def _lines(path: Path, found: Findings) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        found.notes.append(f"{_place(path, found)} cannot be read: {error}")
        return []


def _grouped(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Answers of one moment share its times, to the last bit."""
    group: list[dict[str, Any]] = []
    last: object = None
    for row in rows:
        key = (
            row.get("drive"),
            row.get("moment_ns"),
            row.get("sample_token"),
            tuple(sorted(row["timings_ms"].items())),
        )
        if group and key != last:
            yield group
            group = []
        last = key
        group.append(row)
    if group:
        yield group


def _sensors(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        for part in (row["plan"].get("sensors") or {}, row.get("sensors") or {}):
            names |= dict.fromkeys(part)
    for row in rows:
        names |= dict.fromkeys(row.get("dropped") or {})
    return list(names)


def _step(group: Sequence[Mapping[str, Any]], sensors: Sequence[str]) -> RunStep:
    first = group[0]
    return RunStep(
        answers=[
            RunAnswer(
                question=row["question"],
                text=str(row.get("text", "")),
                confidence=float(row.get("confidence", 0)),
                expected=row.get("expected"),
                right=row.get("right"),
                held=bool(row.get("held", False)),
            )
            for row in group
        ],
        sample_token=first.get("sample_token"),
        drive=str(first.get("drive", "")),
        states={sensor: _state(first, sensor) for sensor in sensors},
        tail_blocks=int(first["plan"]["tail_blocks"]),
        flops=int(first.get("flops", 0)),
        stages_ms={str(k): float(v) for k, v in first["timings_ms"].items()},
        cut=first.get("cut"),
        late_ms=first.get("late_ms"),
    )


def _state(row: Mapping[str, Any], sensor: str) -> SensorState:
    use = (row.get("sensors") or {}).get(sensor)
    if use is not None:
        return "reused" if use.get("reused") else "on"
    return "dropped" if sensor in (row.get("dropped") or {}) else "off"


def _budget(path: Path, found: Findings) -> dict[str, float]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        found.notes.append(f"{_place(path, found)} cannot be read: {error}")
        return {}
    budget = value.get("budget") if isinstance(value, dict) else None
    return {k: v for k, v in (budget or {}).items() if isinstance(v, int | float)}
