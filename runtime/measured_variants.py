"""What precisions of its parts cost a pack in accuracy: measured once, kept in its calibration.

`tailwire bench variants` measures it; exports tell it to whoever makes one, and plans that may
choose the precision of the tail are worth as much as it says (`utility.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .model_config import Precision

#: How far apart variants of a precision lie, in points, before anything is measured: a standard
#: deviation. What few questions say is believed less than what many say.
_SPREAD = 1.0

#: Of a normal distribution, both sides of the middle.
_IN_95 = 2 * 1.96

#: A pack that knows little more than what words give away says nothing of precisions.
_LEAST_GAIN = 0.05

#: What runs a variant: engines tuned for the CPU, or graphs exported for either.
VariantTarget = Literal["cpu", "onnx", "tensorrt"]

#: By target, variants whose tail alone is of another precision; the tuned ones have one throughout,
#: which stands for it.
_TAILS: dict[VariantTarget, re.Pattern[str]] = {
    "cpu": re.compile(r"cpu:(\w+)"),
    "onnx": re.compile(r"fp32,tail=(\w+)"),
    "tensorrt": re.compile(r"tensorrt:fp16,tail=(\w+)"),
}
_PRECISIONS: dict[str, Precision] = {precision: precision for precision in get_args(Precision)}

_Points = Annotated[float, Field(ge=-100, le=100)]


class MeasuredVariant(BaseModel):
    """A pack at one set of precisions, beside itself in float32.

    Attributes:
        variant: as `tailwire bench variants` names it, e.g. `fp32,tail=int4` or `cpu:int8`.
        measured_on: in words.
        questions: that were asked.
        right: answers that were.
        blind_accuracy: share of them that is right of guesses from the words alone; None where
            nobody looked.
        difference_points: accuracy less that of float32, on the same questions.
        interval_points: 95 % interval of the difference, over scenes; None of a single scene.
        same_answers: as float32 gives them, right or wrong.
        bytes: of all graphs with their constants.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    variant: Annotated[str, Field(min_length=1, max_length=200)]
    measured_on: Annotated[str, Field(max_length=2000)]
    questions: Annotated[int, Field(gt=0, le=10**9)]
    right: Annotated[int, Field(ge=0)]
    blind_accuracy: Annotated[float, Field(ge=0, le=1)] | None
    difference_points: _Points
    interval_points: tuple[_Points, _Points] | None
    same_answers: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _counts_fit(self) -> MeasuredVariant:
        if max(self.right, self.same_answers) > self.questions:
            raise ValueError("counts more answers than questions")
        return self

    def tail_precision(self, target: VariantTarget) -> Precision | None:
        """The precision of the tail that it tells of, for what runs it; None where it does not."""
        found = _TAILS[target].fullmatch(self.variant)
        return _PRECISIONS.get(found[1] if found else "")

    def told(self) -> str:
        """In a sentence, without the variant's name."""
        between = self.interval_points
        interval = "" if between is None else f", 95 % {between[0]:+.1f} to {between[1]:+.1f}"
        return (
            f"{self.right / self.questions:.1%} right of {self.questions} questions, "
            f"{self.difference_points:+.1f} points beside float32{interval}"
        )


def worth_of_tails(
    variants: Iterable[MeasuredVariant], target: VariantTarget
) -> dict[Precision, float]:
    """What answers of a tail are worth at other precisions, as a share of what float32 adds.

    What sensors add is accuracy beyond guesses from the words alone. Differences are drawn towards
    none by what is not known of them, and nothing is worth more than float32.

    Args:
        variants: of one pack.
        target: what runs it; 4 bits are not the same for all.

    Returns:
        By precision, 0 to 1; float32 is 1 where anything is known.
    """
    found: dict[Precision, float] = {}
    for one in variants:
        precision = one.tail_precision(target)
        if precision is None or one.interval_points is None or one.blind_accuracy is None:
            continue
        gain = one.right / one.questions - one.difference_points / 100 - one.blind_accuracy
        if gain < _LEAST_GAIN:
            continue
        low, high = one.interval_points
        deviation = (high - low) / _IN_95
        believed = one.difference_points * _SPREAD**2 / (_SPREAD**2 + deviation**2)
        found[precision] = min(max(1 + believed / 100 / gain, 0.0), 1.0)
    if found:
        found["fp32"] = 1.0
    return found
