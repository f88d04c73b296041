"""How often a pack is right, by sensors, type of question and condition: kept in the pack.

What decides which sensors are worth their cost needs to know what each set of them earns.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import PackError

_MAX_BYTES = 4 * 1024**2


class CalibrationCell(BaseModel):
    """Held-out questions of one kind, answered with one set of sensors.

    Attributes:
        sensors: that were active.
        question_type: `exist`, `count`, `object`, `status` or `comparison`.
        condition: of light and weather.
        questions: how many were asked.
        right: how many answers were right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensors: tuple[str, ...]
    question_type: str
    condition: str
    questions: int = Field(gt=0)
    right: int = Field(ge=0)

    @model_validator(mode="after")
    def _no_more_right_than_asked(self) -> CalibrationCell:
        if self.right > self.questions:
            raise ValueError("right is more than questions")
        return self

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.questions


class CalibrationTable(BaseModel):
    """All cells, and on what they were measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(default=1, ge=1, le=1)
    measured_on: str
    cells: tuple[CalibrationCell, ...]


def read_calibration(path: Path) -> CalibrationTable:
    """Read the table of a pack.

    Raises:
        PackError: it is missing or broken.
    """
    try:
        return CalibrationTable.model_validate_json(path.read_bytes()[:_MAX_BYTES])
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise PackError(
            f"the calibration table cannot be read: {first}",
            field=str(path),
            remedy="get the pack again",
        ) from error
