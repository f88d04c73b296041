"""How often a pack is right, by plan, question and condition: kept in the pack.

What decides which sensors are worth their cost needs to know what each plan earns. This is what was
counted, and nothing is smoothed here: `utility.py` makes a model of it. Format 2 is read and
written; format 1, which knew neither ages nor depths, is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import PackError
from .measured_variants import MeasuredVariant
from .model_config import Precision

#: Far above what a measurement gives: 100 plans of 30 topics in 4 conditions are 12,000 cells.
_MAX_BYTES = 8 * 1024**2
_MAX_CELLS, _MAX_PLANS, _MAX_NAMES = 200_000, 1_000, 1_000
_MAX_AGE_MS = 60_000

_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Index = Annotated[int, Field(ge=0)]
_Count = Annotated[int, Field(ge=0, le=10**9)]


class MeasuredPlan(BaseModel):
    """How questions were answered.

    Attributes:
        sensors: that were used; none is the language model alone.
        ages_ms: of the tokens of each of them, against the newest frame, to the nearest of the ages
            that were measured; 0 is the newest frame.
        tail_blocks: depth of the tail; None where the measurement does not say.
        precision: of the language model; None where the measurement does not say.
        held_ms: how long after it was given an answer was counted, to the nearest of the times that
            were measured; `ages_ms` are then those of when it was given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensors: Annotated[tuple[_Name, ...], Field(max_length=64)]
    ages_ms: tuple[Annotated[int, Field(ge=0, le=_MAX_AGE_MS)], ...]
    tail_blocks: Annotated[int, Field(gt=0, le=1000)] | None = None
    precision: Precision | None = None
    held_ms: Annotated[int, Field(ge=0, le=_MAX_AGE_MS)] = 0

    @model_validator(mode="after")
    def _one_age_each(self) -> MeasuredPlan:
        if len(self.ages_ms) != len(self.sensors):
            raise ValueError(f"{len(self.ages_ms)} ages_ms of {len(self.sensors)} sensors")
        if len(set(self.sensors)) != len(self.sensors):
            raise ValueError("sensors has a name twice")
        return self

    @classmethod
    def newest(cls, *sensors: str) -> MeasuredPlan:
        """Newest frames of some sensors, at a depth and precision that nobody noted."""
        return cls(sensors=sensors, ages_ms=(0,) * len(sensors))


class CalibrationCell(NamedTuple):
    """Held-out questions of one kind, answered in one way.

    Attributes:
        plan: how.
        topic: kind and directions of the questions, see `question_kinds.Topic.key`.
        condition: of light and weather.
        questions: how many were asked.
        right: how many answers were right.
    """

    plan: MeasuredPlan
    topic: str
    condition: str
    questions: int
    right: int

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.questions


class CalibrationTable(BaseModel):
    """All cells, and on what they were measured.

    Attributes:
        format: 2.
        measured_on: in words.
        dispersion: by how much counts scatter more between scenes than those of a coin would:
            variance over that of a binomial, at least 1. Questions about one street are no
            independent trials.
        plans: how questions were answered.
        topics: kinds and directions of questions.
        conditions: of light and weather.
        rows: numbers of plan, topic and condition, questions, right answers, of each cell.
        variants: the pack at other precisions, beside itself; measured apart from the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[2] = 2
    measured_on: Annotated[str, Field(max_length=2000)]
    dispersion: Annotated[float, Field(ge=1, le=1000)] = 1.0
    plans: Annotated[tuple[MeasuredPlan, ...], Field(max_length=_MAX_PLANS)]
    topics: Annotated[tuple[_Name, ...], Field(max_length=_MAX_NAMES)]
    conditions: Annotated[tuple[_Name, ...], Field(max_length=_MAX_NAMES)]
    rows: Annotated[
        tuple[tuple[_Index, _Index, _Index, _Count, _Count], ...], Field(max_length=_MAX_CELLS)
    ]
    variants: Annotated[tuple[MeasuredVariant, ...], Field(max_length=_MAX_NAMES)] = ()

    @model_validator(mode="after")
    def _rows_fit(self) -> CalibrationTable:
        for name in ("plans", "topics", "conditions"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} has an entry twice")
        limits = (len(self.plans), len(self.topics), len(self.conditions))
        seen: set[tuple[int, ...]] = set()
        for number, (*place, questions, right) in enumerate(self.rows):
            if any(index >= limit for index, limit in zip(place, limits, strict=True)):
                raise ValueError(f"rows.{number} names what is not in the lists")
            if not 0 <= right <= questions or not questions:
                raise ValueError(f"rows.{number} has {right} right of {questions} questions")
            if tuple(place) in seen:
                raise ValueError(f"rows.{number} is there twice")
            seen.add(tuple(place))
        return self

    @classmethod
    def of(
        cls, measured_on: str, cells: Iterable[CalibrationCell], dispersion: float = 1.0
    ) -> CalibrationTable:
        """A table of cells; those of one place are added up.

        Args:
            measured_on: in words.
            cells: in any order.
            dispersion: see above.
        """
        plans: dict[MeasuredPlan, int] = {}
        topics: dict[str, int] = {}
        conditions: dict[str, int] = {}
        counts: dict[tuple[int, int, int], tuple[int, int]] = {}
        for plan, topic, condition, questions, right in cells:
            place = (
                plans.setdefault(plan, len(plans)),
                topics.setdefault(topic, len(topics)),
                conditions.setdefault(condition, len(conditions)),
            )
            asked, hits = counts.get(place, (0, 0))
            counts[place] = asked + questions, hits + right
        return cls(
            measured_on=measured_on,
            dispersion=dispersion,
            plans=tuple(plans),
            topics=tuple(topics),
            conditions=tuple(conditions),
            rows=tuple((*place, *counts[place]) for place in sorted(counts)),
        )

    @property
    def cells(self) -> Iterator[CalibrationCell]:
        """All of them, with what their numbers mean."""
        for plan, topic, condition, questions, right in self.rows:
            yield CalibrationCell(
                self.plans[plan],
                self.topics[topic],
                self.conditions[condition],
                questions,
                right,
            )

    @property
    def questions(self) -> int:
        """Answers that were counted."""
        return sum(row[3] for row in self.rows)

    def to_json(self) -> str:
        """Text of the file: a line for each plan and for the cells of a plan and topic."""
        data = self.model_dump(mode="json", exclude={"plans", "rows", "variants"})
        head = ",\n".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in data.items())
        plans = ",\n".join(plan.model_dump_json(exclude_defaults=True) for plan in self.plans)
        lines: dict[tuple[int, int], list[str]] = {}
        for row in self.rows:
            lines.setdefault(row[:2], []).append(json.dumps(row, separators=(",", ":")))
        rows = ",\n".join(",".join(line) for line in lines.values())
        text = f'{{{head},\n"plans":[\n{plans}\n],\n"rows":[\n{rows}\n]'
        if self.variants:
            told = ",\n".join(one.model_dump_json() for one in self.variants)
            text += f',\n"variants":[\n{told}\n]'
        return text + "}\n"


def read_calibration(path: Path) -> CalibrationTable:
    """Read the table of a pack.

    Raises:
        PackError: it is missing, too large or broken; the message names the field.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise _broken(path, f"it has more than {_MAX_BYTES} bytes")
        data = json.loads(content)
        if isinstance(data, dict) and data.get("format") == 1:
            return _upgraded(data)
        return CalibrationTable.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _broken(f"{path}: {where}" if where else path, first["msg"]) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(path, str(error)) from error


def _broken(field: Path | str, problem: str) -> PackError:
    return PackError(
        f"the calibration table cannot be read: {problem}",
        field=str(field),
        remedy="get the pack again, or measure it: tailwire calibrate",
    )


class _OldCell(BaseModel):
    """A cell of format 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensors: tuple[_Name, ...]
    question_type: _Name
    condition: _Name
    questions: Annotated[int, Field(gt=0)]
    right: _Count


class _OldTable(BaseModel):
    """Format 1: newest frames of sets of sensors, at the pack's own depth."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    measured_on: str
    cells: Annotated[tuple[_OldCell, ...], Field(max_length=_MAX_CELLS)]


def _upgraded(data: Mapping[str, Any]) -> CalibrationTable:
    old = _OldTable.model_validate(data)
    return CalibrationTable.of(
        old.measured_on,
        (
            CalibrationCell(
                MeasuredPlan.newest(*cell.sensors),
                cell.question_type,
                cell.condition,
                cell.questions,
                cell.right,
            )
            for cell in old.cells
        ),
    )
