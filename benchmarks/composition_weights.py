"""Weights of composed packs, chosen by questions with known answers: one pack is loaded once, and
what its parts count is changed between two frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..export.compose_weights import search_weights
from ..runtime.composition_specs import CompositionSpec
from ..runtime.errors import ConfigError, DataError
from ..runtime.runtime import Runtime
from .evaluation import Evaluation
from .exam import Exam

_ALL = "all"


@dataclass(frozen=True)
class ChosenWeights:
    """Weights that answered best.

    Attributes:
        weights: by name of the part.
        accuracy: with them.
        accuracy_equal: with equal weights.
        tried: how many weights were tried.
        questions: asked each time.
    """

    weights: dict[str, float]
    accuracy: float
    accuracy_equal: float
    tried: int
    questions: int


def choose_weights(
    runtime: Runtime,
    exam: Exam,
    steps: int = 4,
    progress: Callable[[str], None] | None = None,
) -> ChosenWeights:
    """Ask the questions once for each point of a grid of weights that sum to 1.

    Args:
        runtime: with a composed pack whose parts bring LoRAs; it serves as before afterwards.
        exam: a small set; what is measured later must be of other scenes.
        steps: of the grid, see `search_weights`.
        progress: told what is tried.

    Raises:
        ConfigError: the pack is not composed, or fewer than two of its parts have weights that can
            change while it is loaded.
        DataError: no question could be asked.
    """
    names = _names(runtime.pack.composition, runtime)
    before = runtime.connection
    movable = {part.name for part in before.spec.lora_parts}
    there = {s for drive in exam.drives for s in drive.data.sensors}
    sensors = [sensor for sensor in runtime.known_sensors if sensor in there]
    scores: list[float] = []

    def score(weights: dict[str, float]) -> float:
        own = {name: weight for name, weight in weights.items() if name in movable}
        runtime.swap_connection(before.with_lora_weights(own))
        evaluation = Evaluation(runtime, exam, {}, {_ALL: sensors})
        evaluation.run()
        if not evaluation.marks:
            raise DataError(
                "no question could be asked", field="--dataroot", remedy="give other drives"
            )
        right = [mark.given[_ALL].text == mark.item.answer for mark in evaluation.marks]
        scores.append(sum(right) / len(right))
        if progress is not None:
            said = ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
            progress(f"{said}: {scores[-1]:.1%} of {len(right)} questions right")
        return scores[-1]

    try:
        weights, best = search_weights(names, score, steps)
    finally:
        runtime.swap_connection(before)
    # The first that is tried is equal weights.
    return ChosenWeights(weights, best, scores[0], len(scores), len(exam.items))


def _names(composition: CompositionSpec | None, runtime: Runtime) -> list[str]:
    parts = runtime.connection.spec.lora_parts
    if composition is None or len(parts) < 2:
        raise ConfigError(
            "fewer than two of the packs have a LoRA beside the engines, whose weight could be "
            "tried while they run",
            field="--weights auto",
            remedy="give the weights, or leave --dataroot out to go by calibrations",
        )
    return [part.name for part in composition.parts]
