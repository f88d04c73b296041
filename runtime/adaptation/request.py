"""What is asked of an adaptation, and what it may cost; frozen models, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import ConfigError, SensorError

Mode = Literal["add", "replace", "drop", "polish"]


class AdaptationBudget(BaseModel):
    """What an adaptation may cost; fields left out do not bind.

    Attributes:
        time_s: wall clock, from the request to the swap.
        memory_bytes: resident memory beyond what the process had before.
        flops: of heads, training and looks at held-out questions together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    time_s: float | None = Field(default=None, gt=0)
    memory_bytes: int | None = Field(default=None, gt=0)
    flops: float | None = Field(default=None, gt=0)


class AdaptationRequest(BaseModel):
    """Which sensors change, and how the connection learns that.

    Without `add`, `replace` and `drop` the sensors stay and their weights are polished.

    Attributes:
        add: sensors that come.
        replace: by sensor that goes, the one that comes.
        drop: sensors that go; the others' weights are polished.
        budget: limits.
        tail_blocks: tail depth, None chooses the deepest that fits the budget, at most today's.
        lora_rank: of the LoRA, None chooses 8 or what there is already, and less where the budget
            is small.
        epochs: most passes over the training questions, as many as in mPnP-LLM (2312.07886).
        batch: questions of a step.
        learning_rate: its peak.
        fresh: start the weights of modalities that come anew instead of with those of the pack;
            see `initial_weights`.
        tolerance: how much held-out accuracy with the sensors of before may fall.
        held_out_share: of moments, by scene or time block, where the data does not say it.
        precision: of products in training.
        threads: of training; None for one fewer than there are cores.
        nice: added to the scheduling priority of the training thread, 0 to 19 (Linux).
        seed: of order and fresh weights.
        swap: False trains and reports, and leaves what serves alone.
        out: folder of the adapted pack, None writes none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    add: tuple[str, ...] = ()
    replace: Mapping[str, str] = Field(default_factory=dict)
    drop: tuple[str, ...] = ()
    budget: AdaptationBudget = AdaptationBudget()
    tail_blocks: int | None = Field(default=None, gt=0)
    lora_rank: int | None = Field(default=None, ge=0)
    epochs: float = Field(default=8.0, gt=0)
    batch: int = Field(default=32, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    fresh: bool = False
    tolerance: float = Field(default=0.01, ge=0, le=1)
    held_out_share: float = Field(default=0.25, gt=0, lt=1)
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    threads: int | None = Field(default=None, gt=0)
    nice: int = Field(default=10, ge=0, le=19)
    seed: int = Field(default=0, ge=0)
    swap: bool = True
    out: Path | None = None

    @property
    def mode(self) -> Mode:
        """The most far-reaching of the changes."""
        if self.replace:
            return "replace"
        if self.add:
            return "add"
        return "drop" if self.drop else "polish"


@dataclass(frozen=True)
class SensorChange:
    """Sensors before and after, each in the pack's order.

    Attributes:
        old: that serve now.
        new: that will serve.
    """

    old: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def coming(self) -> tuple[str, ...]:
        return tuple(sensor for sensor in self.new if sensor not in self.old)

    @property
    def all(self) -> tuple[str, ...]:
        """Old ones, then those that come."""
        return (*self.old, *self.coming)


def sensor_change(
    request: AdaptationRequest, known: Sequence[str], serving: Sequence[str]
) -> SensorChange:
    """What the request makes of the sensors that serve.

    Raises:
        SensorError: a sensor is unknown.
        ConfigError: one comes that is there, or goes that is not, or none is left.
    """
    coming = (*request.add, *request.replace.values())
    going = (*request.drop, *request.replace)
    for sensor in (*coming, *going):
        if sensor not in known:
            raise SensorError(
                f"there is no sensor '{sensor}'",
                field="sensor",
                remedy=f"use one of {', '.join(known)}, or a pack that has an encoder for it",
            )
    for sensor in coming:
        if sensor in serving or coming.count(sensor) > 1:
            raise ConfigError(
                f"'{sensor}' is there already", field="add", remedy="leave it out, or polish"
            )
    for sensor in going:
        if sensor not in serving or going.count(sensor) > 1:
            raise ConfigError(
                f"'{sensor}' is not among the sensors that serve",
                field="drop",
                remedy=f"name one of {', '.join(serving) or 'them, once one is switched on'}",
            )
    new = {*serving, *coming} - {*going}
    if not new:
        raise ConfigError(
            "no sensor is left to learn with", field="drop", remedy="keep or add at least one"
        )
    return SensorChange(tuple(serving), tuple(sensor for sensor in known if sensor in new))
