"""The paper's costs, counted: FLOPs of a frame and of a training sample, for all tail depths.

Beside connections in front of tails stand the input-level methods: sensors at the input, through
all blocks. All by the formulas that the runtime and `tailwire bench adaptation` count with; nothing
is measured here, and torch is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from ..runtime.adaptation.choosing import trained_names
from ..runtime.adaptation.request import SensorChange
from ..runtime.adaptation.training_cost import BatchShape, TrainingCost
from ..runtime.connection_specs import ConnectionSpec, weight_shapes
from ..runtime.cost import ConnectionCost, LanguageModelCost, linear_flops
from ..runtime.frame_cost import EncoderCost, FrameCost
from ..runtime.model_config import LanguageModelConfig
from .adaptation_cost import InputLevelCost, PrefixCost
from .input_level import input_level_flops
from .input_level_methods import (
    BASELINES,
    METHODS,
    PREFIX_METHODS,
    PROMPT_ROWS,
    Method,
    PrefixMethod,
    SensorLayout,
)
from .paper_numbers import EPOCHS, SAMPLES

METHOD = (
    "FLOPs: 2 per multiply-add of matrix products, by formula, with the padding of batches. Frame: "
    "all sensors' tokens new, encoders apart (they are the same for all), heads of standing "
    "questions cached; input level: projector and all blocks for the tokens that are no padding, "
    "the cheaper of text first (keys and values of texts cached) and sensor first. Sample: a "
    "decision forward and backward, when sensors come beside those that serve; a frozen layer "
    "costs once more going back, a trained one twice. Tails train what adaptation on the device "
    "would: input layer, offset and gate of what comes and a LoRA on the tail's keys and values. "
    "full, lora and prompt have sensors at the input; prefix-full and prefix-lora train the whole "
    "model, or a LoRA on all blocks, behind the connection that ships."
)


def method_of(depth: int) -> str:
    """Name of the method that trains a tail of this depth."""
    return f"tail-{depth}"


@dataclass(frozen=True)
class PaperTask:
    """What is learned and asked, by its sizes; values do not change what it costs.

    Attributes:
        checkpoint: of the language model.
        config: its sizes.
        spec: of the pack's connection; its depth is replaced.
        modalities: encoder name by sensor, in the order of the pack.
        sizes: tokens and width by encoder name.
        filled: tokens that are no padding, by sensor, of each moment.
        texts: tokens of each question.
        answers: distinct tokens that answers may begin with or go on with.
        base: sensors that serve.
        coming: sensors that come.
        batch: decisions of a step.
        lora_rank: of the tail's branches.
    """

    checkpoint: Path
    config: LanguageModelConfig
    spec: ConnectionSpec
    modalities: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    filled: Mapping[str, Sequence[int]]
    texts: Sequence[int]
    answers: int
    base: tuple[str, ...]
    coming: tuple[str, ...]
    batch: int
    lora_rank: int

    @property
    def sensors(self) -> tuple[str, ...]:
        """Those that serve after the change, in the order of the pack."""
        return tuple(s for s in self.modalities if s in (*self.base, *self.coming))

    @property
    def moments(self) -> int:
        return len(next(iter(self.filled.values())))

    @property
    def widths(self) -> dict[str, int]:
        """Of a token, by encoder name."""
        return {name: width for name, (_, width) in self.sizes.items()}

    def spec_of(self, depth: int) -> ConnectionSpec:
        """The connection in front of a tail of this depth, with the LoRA of a change."""
        bare = self.spec.model_dump() | {"tail_blocks": depth, "lora_parts": ()}
        return ConnectionSpec.model_validate(bare | {"lora_rank": self.lora_rank})

    @property
    def prefix_spec(self) -> ConnectionSpec:
        """The connection as deep as the pack's, where a whole model is trained behind it."""
        spec = self.spec_of(self.spec.tail_blocks)
        return spec.model_copy(update={"lora_rank": 0})

    def trained(self, depth: int) -> frozenset[str]:
        """Weights of the connection that the change trains."""
        return self.trained_of(self.spec_of(depth))

    def trained_of(self, spec: ConnectionSpec) -> frozenset[str]:
        """Likewise, of a connection."""
        names = weight_shapes(spec, self.config, self.sizes, self.modalities)
        pack = cast("Any", SimpleNamespace(sensor_encoders=dict(self.modalities)))
        change = SensorChange(self.base, self.sensors)
        return trained_names(names, pack, change, "add", 0, relearns=True)

    @cached_property
    def _rows(self) -> list[dict[str, int]]:
        """Tokens of each sensor, by decision of a batch."""
        of_moment = [{s: self.filled[s][m] for s in self.sensors} for m in range(self.moments)]
        return [of_moment[place % self.moments] for place in range(self.batch)]

    @property
    def batch_texts(self) -> list[int]:
        """Tokens of the text of each decision of a batch."""
        return [self.texts[place % len(self.texts)] for place in range(self.batch)]

    @property
    def shape(self) -> BatchShape:
        """Of a batch: the questions in turn about the moments in turn, padded."""
        rows = {s: max(1, *(one[s] for one in self._rows)) for s in self.sensors}
        return BatchShape(self.batch, max(self.batch_texts), rows, self.answers)

    @property
    def longest(self) -> int:
        """Rows of the longest sequence of a batch at the input, without prompt rows."""
        together = zip(self._rows, self.batch_texts, strict=True)
        return max(sum(rows.values()) + text for rows, text in together)


def sample_flops(task: PaperTask, method: str) -> float:
    """FLOPs of learning one decision, heads not counted.

    Args:
        task: the sizes.
        method: of `BASELINES`, or that of a tail.
    """
    if method in METHODS:
        way = cast("Method", method)
        layout = SensorLayout(task.modalities, task.widths)
        cost = InputLevelCost(task.config, layout, way, task.sensors)
        prompt = PROMPT_ROWS if way == "prompt" else 0
        return cost.step(task.shape, task.longest + prompt) / task.batch
    if method in PREFIX_METHODS:
        prefix, spec = cast("PrefixMethod", method), task.prefix_spec
        trained = task.trained_of(spec)
        whole = PrefixCost(spec, task.config, task.modalities, task.widths, prefix, trained)
        return whole.step(task.shape) / task.batch
    depth = int(method.removeprefix("tail-"))
    tail = TrainingCost(
        task.spec_of(depth), task.config, task.modalities, task.widths, depth, task.trained(depth)
    )
    return tail.step(task.shape) / task.batch


def head_flops(task: PaperTask, depth: int) -> float:
    """FLOPs of a text's head, on average over a batch; once a text, or in every step."""
    cost, boundary = LanguageModelCost(task.config), task.config.num_blocks - depth
    return float(np.mean([cost.head(text, boundary) for text in task.batch_texts]))


def sample_table(task: PaperTask, depths: Sequence[int]) -> list[dict[str, Any]]:
    """What learning costs, one row for each method.

    Returns:
        Rows with `method`, `tail_blocks` (None at the input), `flops_per_sample` with cached heads,
        `flops_per_sample_heads_computed`, both over full fine-tuning as `flops_ratio_vs_full` and
        `..._heads_computed`, and `pflops` of as many samples as the paper's switch, heads of the
        questions once.
    """
    full = sample_flops(task, "full")
    rows: list[dict[str, Any]] = []
    for name, depth in _methods(depths):
        flops = sample_flops(task, name)
        head = 0.0 if depth is None else head_flops(task, depth)
        once = head * len(task.texts)
        rows.append(
            {
                "method": name,
                "tail_blocks": depth,
                "flops_per_sample": round(flops),
                "flops_per_sample_heads_computed": round(flops + head),
                "flops_ratio_vs_full": full / flops,
                "flops_ratio_vs_full_heads_computed": full / (flops + head),
                "pflops": (SAMPLES * EPOCHS * flops + once) / 1e15,
            }
        )
    return rows


def frame_table(
    task: PaperTask, encoders: Mapping[str, EncoderCost], depths: Sequence[int]
) -> list[dict[str, Any]]:
    """What a frame costs behind the encoders, one row for each depth and one at the input.

    Args:
        task: the sizes; all its questions stand.
        encoders: of the sensors, for their tokens.
        depths: of tails.

    Returns:
        Rows with `method`, `tail_blocks`, `flops` of all questions and `flops_one` of the first,
        and `ratio`: the input level's over these.
    """
    model, blocks = LanguageModelCost(task.config), task.config.num_blocks
    tokens = round(float(np.mean(np.sum([task.filled[s] for s in task.sensors], axis=0))))
    lengths = {"flops": list(task.texts), "flops_one": list(task.texts[:1])}
    projector = sum(_projected(task, sensor) for sensor in task.sensors)
    input_level = {
        key: projector + min(input_level_flops(model, part, tokens).values())
        for key, part in lengths.items()
    }
    rows: list[dict[str, Any]] = []
    for depth in depths:
        spec = task.spec_of(depth).with_lora_rank(0)
        frame = FrameCost(model, ConnectionCost(spec, task.config), encoders)
        row: dict[str, Any] = {"method": method_of(depth), "tail_blocks": depth}
        for key, part in lengths.items():
            stages = frame.stages(
                dict.fromkeys(task.sensors, "run"), (), blocks - depth, part, depth
            )
            row[key] = stages.connect + stages.tail
        rows.append(row)
    rows.append({"method": "input level", "tail_blocks": None, **input_level})
    return [{**row, "ratio": input_level["flops"] / row["flops"]} for row in rows]


def _projected(task: PaperTask, sensor: str) -> int:
    rows = round(float(np.mean(task.filled[sensor])))
    hidden, width = task.config.hidden_size, task.sizes[task.modalities[sensor]][1]
    return linear_flops(rows, width, hidden) + linear_flops(rows, hidden, hidden)


def _methods(depths: Sequence[int]) -> list[tuple[str, int | None]]:
    tails: list[tuple[str, int | None]] = [(method_of(depth), depth) for depth in depths]
    return [*tails, *((name, None) for name in BASELINES)]
