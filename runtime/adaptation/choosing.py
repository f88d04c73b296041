"""Chooses tail depth N and LoRA rank from a budget, before anything heavy is loaded; no torch.

As in mPnP-LLM (2312.07886), N decides what training costs. The deepest tail that fits is taken;
what fits is what leaves room for enough steps.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..connections import Connection
from ..cost import LanguageModelCost
from ..errors import BudgetError
from ..files import readable_bytes
from ..model_config import LanguageModelConfig
from ..pack import PackManifest
from .data import AdaptationData, SpelledQuestions
from .initial_weights import modality_weights
from .request import AdaptationBudget, Mode, SensorChange
from .training_cost import BatchShape, TrainingCost

#: A run of fewer steps is not worth its swap, unless the data is passed through in fewer.
LEAST_STEPS = 60
#: Ranks that are tried where the connection has no LoRA, the paper's first.
RANKS = (8, 4, 0)
#: Passes over the held-out questions: old and new weights with old and new sensors, and looks.
LOOKS = 4
PASSES = 4 + LOOKS


def trained_names(
    names: Iterable[str],
    pack: PackManifest,
    change: SensorChange,
    mode: Mode,
    first_block: int,
    *,
    relearns: bool | None = None,
) -> frozenset[str]:
    """Weights that a change of sensors needs.

    Sensors that come: their offsets, the aligners (or input layer) and gate of their modality
    unless it serves already, and the LoRA. Where they are added and a LoRA is trained, which what
    serves depends on anyway, offsets, input layer and gate of the modalities that serve learn too:
    a camera that has never seen the night must learn to say less beside a LiDAR. Where no sensor
    comes: the same of all that stay, and the gate of the summary.

    Args:
        names: of all weights.
        pack: names the encoders.
        change: of sensors.
        mode: of the request.
        first_block: first block of the connection's deepest tail that is trained through.
        relearns: whether added sensors let those that serve learn too; None where there is a LoRA.
    """
    names, encoder_of = list(names), pack.sensor_encoders
    learning = change.coming if mode in ("add", "replace") else change.new
    known = {encoder_of[sensor] for sensor in change.old} if change.coming else set()
    found = {f"sensor.{sensor}" for sensor in learning}
    for modality in {encoder_of[sensor] for sensor in learning} - known:
        found.update(modality_weights(names, modality))
    if not change.coming and "gate.summary" in names:
        found.add("gate.summary")
    lora = [n for n in names if n.startswith("lora.") and int(n.split(".")[1]) >= first_block]
    found.update(lora)
    if mode == "add" and (bool(lora) if relearns is None else relearns):
        found.update(f"sensor.{sensor}" for sensor in change.old)
        for modality in known:
            found.update(
                n for n in names if n.startswith(f"{modality}.in.") or n == f"gate.{modality}"
            )
    return frozenset(found)


def learns_from(
    trained: Collection[str], sensors: Sequence[str], modalities: Mapping[str, str]
) -> bool:
    """Whether answers from these sensors depend on any trained weight."""
    beginnings = ("lora.", "gate.summary")
    for sensor in sensors:
        modality = modalities[sensor]
        beginnings += (f"{modality}.",)
        if {f"sensor.{sensor}", f"gate.{modality}"} & set(trained):
            return True
    return any(name.startswith(beginnings) for name in trained)


@dataclass(frozen=True)
class Choice:
    """One way to train, and what it costs.

    Attributes:
        tail_blocks: depth N.
        lora_rank: of the LoRA.
        trained: names of the trained weights.
        subsets: sets of sensors that batches are drawn with.
        step_flops: of a step, on average.
        look_flops: of one held-out decision.
        memory_bytes: estimated peak beyond what serving has.
    """

    tail_blocks: int
    lora_rank: int
    trained: frozenset[str]
    subsets: tuple[tuple[str, ...], ...]
    step_flops: int
    look_flops: int
    memory_bytes: int

    def flops(self, steps: int, held_out: int, heads: int) -> int:
        """Of a whole adaptation with this many steps and held-out decisions."""
        return heads + steps * self.step_flops + PASSES * held_out * self.look_flops


@dataclass(frozen=True)
class Options:
    """All that the costs of an adaptation follow from.

    Attributes:
        connection: that serves.
        config: of the language model.
        pack: names sensors and encoders.
        change: of sensors.
        mode: of the request.
        serving_blocks: depth that serves now.
        data: to learn from.
        spelled: its questions.
        batch: decisions of a step.
        bytes_per: of an element of products.
    """

    connection: Connection
    config: LanguageModelConfig
    pack: PackManifest
    change: SensorChange
    mode: Mode
    serving_blocks: int
    data: AdaptationData
    spelled: SpelledQuestions
    batch: int
    bytes_per: int

    def cost(self, tail_blocks: int, lora_rank: int) -> tuple[TrainingCost, dict[str, int]]:
        """Formulas of a choice, and elements of each of its weights."""
        connection, pack = self.connection, self.pack
        shapes = {n: w.shape for n, w in connection.weights.items() if not n.startswith("lora.")}
        shapes |= connection.lora_shapes(lora_rank)
        first = connection.spec.tail_blocks - tail_blocks
        spec = connection.spec.model_copy(update={"lora_rank": lora_rank})
        cost = TrainingCost(
            spec,
            self.config,
            pack.sensor_encoders,
            {name: one.width for name, one in pack.encoders.items()},
            tail_blocks,
            trained_names(shapes, pack, self.change, self.mode, first),
        )
        return cost, {name: math.prod(shape) for name, shape in shapes.items()}

    def choice(self, tail_blocks: int, lora_rank: int) -> Choice:
        """What training with this depth and rank costs."""
        cost, sizes = self.cost(tail_blocks, lora_rank)
        modalities = self.pack.sensor_encoders
        change, subsets = self.change, [self.change.new]
        if change.old != change.new and learns_from(cost.trained, change.old, modalities):
            # What the old sensors answer is kept alive by a third of the batches.
            subsets = [change.new, change.new, change.old]
        mean = [self._shape(one, largest=False) for one in subsets]
        steps = [cost.step(shape) for shape in mean]
        total, learned = sum(sizes.values()), sum(sizes[name] for name in cost.trained)
        return Choice(
            tail_blocks,
            lora_rank,
            cost.trained,
            tuple(subsets),
            round(sum(steps) / len(steps)),
            round(cost.forward(mean[0]) / self.batch),
            cost.memory(
                self._shape(change.all, largest=True),
                total,
                learned,
                self.bytes_per,
                max(tail_blocks, self.serving_blocks),
            ),
        )

    def _shape(self, sensors: Sequence[str], *, largest: bool) -> BatchShape:
        train = self.spelled.train
        lengths = np.array([len(text) for text in self.spelled.texts])[train.text]
        moments = np.unique(train.moment)
        rows: dict[str, int] = {}
        for sensor in sensors:
            there = np.asarray(self.data.tokens[sensor][moments]).any(axis=2).sum(axis=1)
            rows[sensor] = max(1, int(there.max() if largest else round(float(there.mean()))))
        sizes = np.array([len(choice) for choice in self.spelled.choices])[train.allowed]
        text = int(lengths.max() if largest else round(float(lengths.mean())))
        return BatchShape(self.batch, text, rows, float(sizes.mean()))

    def head_flops(self, boundary: int) -> int:
        """Of all distinct texts, once."""
        model = LanguageModelCost(self.config)
        return sum(model.head(len(text), boundary) for text in self.spelled.texts)


def least_steps(decisions: int, batch: int) -> int:
    """Steps that a budget must have room for."""
    return max(1, min(LEAST_STEPS, decisions // batch))


def choose(
    choices: Sequence[Choice],
    budget: AdaptationBudget,
    *,
    steps: int,
    held_out: int,
    head_flops: int,
    flops_per_s: float | None = None,
    left_s: float | None = None,
) -> Choice:
    """The first choice that fits.

    Args:
        choices: the best first.
        budget: limits; its time binds once the speed is known.
        steps: that it must have room for.
        held_out: decisions that are looked at.
        head_flops: of all texts.
        flops_per_s: measured.
        left_s: of the time budget.

    Raises:
        BudgetError: nothing fits; names the cheapest choice and its cost.
    """
    misfits: list[tuple[str, str, str]] = []
    for one in choices:
        reason = _misfit(one, budget, steps, held_out, head_flops, flops_per_s, left_s)
        if reason is None:
            return one
        misfits.append(reason)
    at = min(range(len(choices)), key=lambda at: (choices[at].step_flops, choices[at].memory_bytes))
    cheapest, (field, problem, remedy) = choices[at], misfits[at]
    raise BudgetError(
        f"the cheapest choice, a tail of {cheapest.tail_blocks} blocks with a LoRA of rank "
        f"{cheapest.lora_rank}, needs {problem} for {steps} steps",
        field=field,
        remedy=remedy,
    )


def explain(
    chosen: Choice,
    best: Choice,
    *,
    serving_rank: int,
    asked_blocks: int | None,
    asked_rank: int | None,
) -> str:
    """Why this depth and rank, in a sentence.

    Args:
        chosen: in the end.
        best: of all choices, whether it fits or not.
        serving_rank: of the LoRA of the connection that serves.
        asked_blocks: of the request.
        asked_rank: of the request.
    """
    if asked_blocks is not None:
        depth = "as asked"
    elif chosen.tail_blocks == best.tail_blocks:
        depth = "the depth that serves"
    else:
        depth = f"the deepest that fits the budget ({best.tail_blocks} serve)"
    if asked_rank is not None:
        rank = "as asked"
    elif serving_rank:
        rank = "which the connection has"
    elif chosen.lora_rank == best.lora_rank:
        rank = "as in mPnP-LLM"
    else:
        rank = f"the largest that fits the budget, {best.lora_rank} does not"
    return (
        f"a tail of {chosen.tail_blocks} blocks ({depth}), a LoRA of rank {chosen.lora_rank} "
        f"({rank})"
    )


def _misfit(
    choice: Choice,
    budget: AdaptationBudget,
    steps: int,
    held_out: int,
    head_flops: int,
    flops_per_s: float | None,
    left_s: float | None,
) -> tuple[str, str, str] | None:
    """Field, what would be needed, and what to do; None where it fits."""
    flops = choice.flops(steps, held_out, head_flops)
    if budget.flops is not None and flops > budget.flops:
        needed = f"{flops:.3g} FLOPs, {budget.flops:.3g} are allowed,"
        return "budget.flops", needed, "raise it, or give fewer questions"
    memory = choice.memory_bytes
    if budget.memory_bytes is not None and memory > budget.memory_bytes:
        allowed = readable_bytes(budget.memory_bytes)
        needed = f"about {readable_bytes(memory)}, {allowed} are allowed,"
        return "budget.memory_bytes", needed, "raise it, or give a smaller batch"
    if flops_per_s is not None and left_s is not None:
        seconds = choice.flops(steps, held_out, 0) / flops_per_s
        if seconds > left_s:
            needed = f"about {seconds:.1f} s more, {max(0.0, left_s):.1f} s are left,"
            return "budget.time_s", needed, "raise it, or give fewer questions"
    return None
