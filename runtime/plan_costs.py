"""What a plan costs: operations, time, memory and energy, each from what the runtime knows of it.

FLOPs come from the formulas that answers report by (`frame_cost.py`). Times come from a snapshot
of measured parts, under the names below. Memory comes from what was measured when engines were
loaded; energy from what a millisecond of this machine was measured to take. Nothing is guessed:
what was not measured is unknown, and said so. The same for all plans at once is in
`plan_arrays.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .errors import ConfigError
from .frame_cost import FrameCost, LookFlops
from .model_config import Precision
from .part_times import PartSnapshot
from .plans import Budget, SensorAction

#: Part of `PartTimes`: frames prepared for their encoders, by how many.
PREPARE = "prepare"
#: The connection, by its GFLOP.
CONNECT = "connect"
#: Replies from the states behind the last tokens, by the number of questions.
DECODE = "decode"
#: What a frame takes beside all other parts; without a size, and 0 until it is measured.
REST = "rest"
GIGA = 1e9
_LIMITS = ("flops", "memory_bytes", "latency_ms", "energy_mj")
_UNKNOWN = {"latency_ms": "latency", "memory_bytes": "memory", "energy_mj": "energy"}


def encode_part(encoder: str) -> str:
    """The part that is one batch of an encoder, by its frames."""
    return f"encode {encoder}"


def load_part(encoder: str) -> str:
    """The part that is loading an encoder; without a size."""
    return f"load {encoder}"


def tail_part(tail_blocks: int, precision: Precision) -> str:
    """The part that is the tail at one depth and precision, by its GFLOP."""
    return f"tail {tail_blocks} {precision}"


@dataclass(frozen=True)
class MemoryUse:
    """Measured memory of the process.

    Attributes:
        base_bytes: with the language model and the connection, without any encoder.
        encoder_bytes: what each encoder adds while it is loaded; those not named add nothing.
        working_bytes: what frames add while they run.
    """

    base_bytes: int
    encoder_bytes: Mapping[str, int]
    working_bytes: int = 0

    def with_encoders(self, encoders: Iterable[str]) -> int:
        """The process with these encoders loaded and no others."""
        loaded = sum(self.encoder_bytes.get(encoder, 0) for encoder in encoders)
        return self.base_bytes + self.working_bytes + loaded


@dataclass(frozen=True)
class PlanCost:
    """What one plan costs; None where it is not known.

    Attributes:
        flops: without the tokens that answers turn out to need.
        latency_ms: nine of ten frames take at most this long, if all parts are slow together.
        memory_bytes: of the process with the encoders that run and no others.
        energy_mj: at the median times.
    """

    flops: int
    latency_ms: float | None
    memory_bytes: int | None
    energy_mj: float | None

    def exceeds(self, budget: Budget) -> str | None:
        """The first field of a budget that is too small for this, None if it holds.

        What is not known exceeds nothing.
        """
        for name in _LIMITS:
            limit, need = getattr(budget, name), getattr(self, name)
            if limit is not None and need is not None and need > limit:
                return name
        return None

    def share_of(self, budget: Budget) -> float:
        """How much of the scarcest limit this takes; 0 without limits."""
        shares = [0.0]
        for name in _LIMITS:
            limit, need = getattr(budget, name), getattr(self, name)
            if limit is not None and need is not None:
                shares.append(need / limit)
        return max(shares)

    def unknown(self, budget: Budget) -> list[str]:
        """What a reader should know of limits that nobody can tell whether this keeps."""
        return [
            f"{text} is limited, but not known of this plan: it was not measured"
            for name, text in _UNKNOWN.items()
            if getattr(budget, name) is not None and getattr(self, name) is None
        ]

    def __str__(self) -> str:
        parts = [f"{self.flops:,} FLOPs"]
        if self.latency_ms is not None:
            parts.append(f"{self.latency_ms:.1f} ms")
        if self.memory_bytes is not None:
            parts.append(f"{self.memory_bytes / 1024**2:.0f} MiB")
        if self.energy_mj is not None:
            parts.append(f"{self.energy_mj:.0f} mJ")
        return ", ".join(parts)


@dataclass(frozen=True)
class PlanFormulas:
    """What never changes while a runtime serves one pack.

    Attributes:
        frames: formulas by precision of the language model; those that a plan may choose.
        encoders: encoder by sensor, in the pack's order.
        boundary: first block of the tail, by its depth.
    """

    frames: Mapping[Precision, FrameCost]
    encoders: Mapping[str, str]
    boundary: Callable[[int], int]

    def of(self, precision: Precision) -> FrameCost:
        """Formulas at a precision.

        Raises:
            ConfigError: the language model is not loaded at it.
        """
        if precision not in self.frames:
            raise ConfigError(
                f"the language model is not loaded at {precision}",
                field="precision",
                remedy=f"use one of {', '.join(self.frames)}",
            )
        return self.frames[precision]


@dataclass(frozen=True)
class PlanCosts:
    """Costs of any plan at one moment; cheap to make for every frame.

    Attributes:
        formulas: of the runtime.
        times: snapshot of the parts; empty where nothing was measured yet.
        loaded: encoders whose engine is in memory, None for all.
        memory: what was measured of it, None if nothing was.
        mj_per_ms: energy that a millisecond of a frame takes, None if nothing measures it.
        energy_absent: why nothing does.
    """

    formulas: PlanFormulas
    times: Mapping[str, PartSnapshot] = field(default_factory=dict)
    loaded: frozenset[str] | None = None
    memory: MemoryUse | None = None
    mj_per_ms: float | None = None
    energy_absent: str = "nothing measures energy"

    def of(
        self,
        actions: Mapping[str, SensorAction],
        connected: Container[str],
        lengths: Sequence[int],
        tail_blocks: int,
        precision: Precision,
    ) -> PlanCost:
        """Cost of one plan.

        Args:
            actions: of the active sensors.
            connected: sensors whose reused tokens the connection has prepared already.
            lengths: tokens of each question that is answered now.
            tail_blocks: depth of the tail.
            precision: of the language model.

        Raises:
            ConfigError: the language model is not loaded at this precision.
        """
        frame = self.formulas.of(precision)
        boundary = self.formulas.boundary(tail_blocks)
        flops = frame.stages(actions, connected, boundary, lengths, tail_blocks)
        return self.of_stages(flops, actions, len(lengths), tail_part(tail_blocks, precision))

    def of_stages(
        self, flops: LookFlops, actions: Mapping[str, SensorAction], questions: int, tail: str
    ) -> PlanCost:
        """Cost of a plan whose operations are known.

        Args:
            flops: of its stages.
            actions: of the active sensors.
            questions: how many are answered now.
            tail: name of the part that is its tail.
        """
        encoders = self.formulas.encoders
        running: dict[str, int] = {}
        for sensor, action in actions.items():
            if action == "run":
                running[encoders[sensor]] = running.get(encoders[sensor], 0) + 1
        parts: list[tuple[str, float]] = [
            (CONNECT, flops.connect / GIGA),
            (tail, flops.tail / GIGA),
            (DECODE, questions),
        ]
        for encoder, frames in running.items():
            parts.append((encode_part(encoder), frames))
            if not self.is_loaded(encoder):
                parts.append((load_part(encoder), 0))
        if running:
            parts.append((PREPARE, sum(running.values())))
        if REST in self.times:
            parts.append((REST, 0))
        median_ms, p90_ms = self._time(parts)
        return PlanCost(
            flops=flops.total,
            latency_ms=p90_ms,
            memory_bytes=None if self.memory is None else self.memory.with_encoders(running),
            energy_mj=self._energy(median_ms),
        )

    def is_loaded(self, encoder: str) -> bool:
        """Whether the engine of an encoder is in memory."""
        return self.loaded is None or encoder in self.loaded

    def check_measurable(self, budget: Budget) -> None:
        """Refuse a limit that nothing can hold.

        Raises:
            ConfigError: energy is limited and nothing measures it.
        """
        if budget.energy_mj is not None and self.mj_per_ms is None:
            raise ConfigError(
                f"energy cannot be kept within {budget.energy_mj} mJ: {self.energy_absent}",
                field="budget.energy_mj",
                remedy="limit latency_ms or flops instead",
            )

    def _time(self, parts: Sequence[tuple[str, float]]) -> tuple[float | None, float | None]:
        """Sums of medians and of p90s along sizes; None if one part was never measured."""
        median_ms = p90_ms = 0.0
        for part, size in parts:
            time = self.times.get(part)
            if time is None:
                return None, None
            ms = time.base_ms + time.per_size_ms * size
            median_ms += ms
            p90_ms += ms * time.p90_factor
        return median_ms, p90_ms

    def _energy(self, median_ms: float | None) -> float | None:
        if median_ms is None or self.mj_per_ms is None:
            return None
        return median_ms * self.mj_per_ms
