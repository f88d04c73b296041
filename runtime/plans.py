"""Budgets, plans and answers: what goes into a frame's decision and what comes out of a frame."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .model_config import Precision

SensorAction = Literal["run", "reuse"]


class Budget(BaseModel):
    """What a frame may cost; fields left out do not bind."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flops: int | None = Field(default=None, gt=0)
    memory_bytes: int | None = Field(default=None, gt=0)
    latency_ms: float | None = Field(default=None, gt=0)
    energy_mj: float | None = Field(default=None, gt=0)


class Plan(BaseModel):
    """What a frame does.

    Attributes:
        sensors: for each sensor used, whether its encoder runs or its last tokens are reused.
        tail_blocks: depth of the tail that attends to the sensors.
        precision: of the language model.
        flops: predicted cost of the frame, without the tokens that answers turn out to need.
        policy: that chose it.
        latency_ms: predicted time of the frame, None where parts of it were never measured.
        memory_bytes: predicted memory of the process with the encoders that run, None likewise.
        energy_mj: predicted energy of the frame, None where nothing measures it.
        expected: expected share of right answers among the questions answered now, None without
            a calibrated pack.
        questions: indices of those that are answered now, in order; None for all. The others are
            given their last answer again.
        note: what a reader should know of how it came about, e.g. why a policy fell back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensors: dict[str, SensorAction]
    tail_blocks: int
    precision: Precision
    flops: int
    policy: str = "fixed"
    latency_ms: float | None = None
    memory_bytes: int | None = None
    energy_mj: float | None = None
    expected: float | None = None
    questions: tuple[int, ...] | None = None
    note: str | None = None


class SensorUse(BaseModel):
    """A sensor behind an answer.

    Attributes:
        stamp_ns: of the frame used.
        age_ms: at the time of the answer, against the newest frame of all sensors.
        reused: whether its tokens were taken from an earlier step.
        carried: whether its objects were brought forward to where they would be at the time of the
            answer (of one that is given again: when it was given).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stamp_ns: int
    age_ms: float
    reused: bool
    carried: bool = False


class Answer(BaseModel):
    """An answer and what it rests on.

    Attributes:
        question: as asked.
        text: the answer.
        confidence: allowed answers: probability renormalised over them; free text: geometric mean
            of the tokens' probabilities.
        stamp_ns: of the oldest sensor frame used, or None without sensors.
        sensors: the sensors used.
        dropped: sensors that were wanted and could not be used, with the reason.
        plan: what the frame did.
        timings_ms: milliseconds per stage; stages of a batch are shared by its answers.
        flops: counted operations of the frame, for all its answers together; where a question is
            asked once, with its head.
        pack: name and version of the pack.
        pack_trained: False where the connections know nothing yet, so answers mean nothing.
        held: whether this is the answer of an earlier frame, given again.
        cut: why the frame was cut short, None if it was not.
        late_ms: by how much the frame missed its deadline, None if it did not or had none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    text: str
    confidence: float = Field(ge=0, le=1)
    stamp_ns: int | None
    sensors: dict[str, SensorUse]
    dropped: dict[str, str]
    plan: Plan
    timings_ms: dict[str, float]
    flops: int
    pack: str
    pack_trained: bool
    held: bool = False
    cut: str | None = None
    late_ms: float | None = None
