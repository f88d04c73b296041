"""Which runs make the table of the adaptation benchmark, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ..runtime.adaptation.request import Mode
from ..runtime.errors import ConfigError
from .input_level_methods import METHODS, PREFIX_METHODS

#: How the sensors change, and what adaptation on the device calls that.
CHANGES: Mapping[str, Mode] = {"C->C+L": "add", "C->L": "replace", "C": "polish"}
#: Peaks of the learning rate: of what is new, and of the language model itself; of prefix-lora
#: those of the connection and of the LoRA.
RATES: Mapping[str, tuple[float, float]] = {
    "tail": (1e-3, 0.0),
    "full": (1e-3, 1e-4),
    "lora": (1e-3, 0.0),
    "prompt": (3e-3, 0.0),
    "prefix-full": (1e-3, 1e-4),
    "prefix-lora": (1e-3, 1e-3),
}
#: Where a run is looked at behind its start, as shares of its steps.
LOOKS = (1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0)
#: Depth whose speed is told beside that of the one that ships, and steps that are timed.
SPEED_DEPTH, TIMED_STEPS = 10, 10


@dataclass(frozen=True)
class BenchSettings:
    """All that the rows depend on, beside data and model.

    Attributes:
        steps: by day; 0 where the day is the start.
        switch_steps: of each change.
        day_times: how many times as many steps by day a tail makes, as its steps are cheap.
        tail_times: the same of each change.
        batch: decisions of a step.
        depths: of tails.
        ships: the depth that the ratios are about.
        conditions: after the day.
        baselines: of `BASELINES`.
        questions: held-out ones of each condition.
        kind: of connection: `conditioned`, `plain` (one K and V for all blocks) or `per-block`.
        width: of its small transformer.
        layers: likewise.
        heads: likewise.
        lora_rank: of the tail's branches in a change.
        summary_steps: first steps by day that train the summary alone, see `TrainingConfig`.
        readout_steps: likewise.
        row_weight: likewise.
        switch_trains: `needed` by the coming modality, or `all` weights of the connection.
        coming: how a coming modality begins: `like` the one that serves, or at `random`.
        precision: of products.
        looks: shares of the steps of a run behind which held-out questions are asked.
        rates: by method.
        seed: of everything.
    """

    steps: int
    switch_steps: int
    batch: int
    depths: tuple[int, ...]
    ships: int
    conditions: tuple[str, ...]
    baselines: tuple[str, ...] = METHODS
    day_times: int = 1
    tail_times: int = 1
    questions: int = 1500
    kind: str = "conditioned"
    width: int = 160
    layers: int = 4
    heads: int = 4
    lora_rank: int = 8
    summary_steps: int = 0
    readout_steps: int = 0
    row_weight: float = 1.0
    switch_trains: str = "needed"
    coming: str = "like"
    precision: str = "bfloat16"
    looks: tuple[float, ...] = LOOKS
    rates: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(RATES))
    seed: int = 0

    def check_start(self) -> None:
        """Refuse methods that have nothing to start from where nothing is learned by day.

        Raises:
            ConfigError: naming them.
        """
        if self.steps:
            return
        lacking = [name for name in self.baselines if name in METHODS]
        if self.kind != "conditioned":
            lacking += [f"tail-{depth}" for depth in self.depths if depth != self.ships]
        if lacking:
            raise ConfigError(
                f"with no steps by day the day is the start, and {', '.join(lacking)} have none: "
                f"the start is a {self.kind} connection of a tail of {self.ships}",
                field="--steps",
                remedy="give steps above 0, in which they learn the day (input-level models need "
                "some millions of samples), or leave them out of --baselines and --depths",
            )

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


class Task(NamedTuple):
    """One row to be made: `day`, `switch` or `timing`."""

    phase: str
    method: str
    condition: str | None = None
    change: str | None = None


def tasks_of(settings: BenchSettings) -> Iterator[Task]:
    """All rows, the most telling ones first.

    The depth that ships and the baselines at the first condition, change by change; its other
    depths, then the other conditions, where the pair that the ratios are about comes first.
    """
    ships = f"tail-{settings.ships}"
    others = [f"tail-{depth}" for depth in settings.depths if depth != settings.ships]
    first, *rest = settings.conditions or (None,)
    timed = {ships, f"tail-{SPEED_DEPTH}"}
    for together in ((ships, *settings.baselines), *((method,) for method in others)):
        for number, change in enumerate(CHANGES):
            for method in together:
                if not number:
                    yield Task("day", method)
                if first is not None:
                    yield Task("switch", method, first, change)
        for method in together:
            if method in timed and first is not None:
                yield Task("timing", method, first, "C->C+L")
    pair = (ships, "full", PREFIX_METHODS[0])
    main = [method for method in pair if method in (ships, *settings.baselines)]
    left = [method for method in settings.baselines if method not in main]
    for methods in (main, [*left, *others]):
        for condition in rest:
            for method in methods:
                yield from (Task("switch", method, condition, change) for change in CHANGES)
