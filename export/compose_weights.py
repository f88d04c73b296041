"""How much each pack's change of the language model shall count, by what is known of the packs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..runtime.calibration_table import CalibrationTable
from ..runtime.errors import ConfigError
from .compose_parts import Part


def weights_by_calibration(parts: Sequence[Part]) -> dict[str, float]:
    """By how often each pack is right with all of its own sensors; they sum to 1.

    DAMC (2402.12750) takes each model's score on its own modality where no validation set of the
    composed model is at hand.

    Raises:
        ConfigError: a pack was never measured, or none is ever right.
    """
    scores: dict[str, float] = {}
    for part in parts:
        table = part.calibration()
        score = None if table is None else full_score(table)
        if score is None:
            raise ConfigError(
                f"{part.label} does not say how often it is right",
                field="--weights auto",
                remedy="measure it (tailwire calibrate), or give the weights",
            )
        scores[part.name] = score
    total = sum(scores.values())
    if not total:
        raise ConfigError(
            "no pack is ever right", field="--weights auto", remedy="give the weights"
        )
    return {name: score / total for name, score in scores.items()}


def full_score(table: CalibrationTable) -> float | None:
    """Share of right answers with the largest set of sensors at their newest frames."""
    asked: dict[tuple[str, ...], list[int]] = {}
    for cell in table.cells:
        if any(cell.plan.ages_ms):
            continue
        counts = asked.setdefault(tuple(sorted(cell.plan.sensors)), [0, 0])
        counts[0] += cell.questions
        counts[1] += cell.right
    if not asked:
        return None
    questions, right = asked[max(asked, key=lambda sensors: (len(sensors), sensors))]
    return right / questions if questions else None


def search_weights(
    names: Sequence[str], score: Callable[[dict[str, float]], float], steps: int = 4
) -> tuple[dict[str, float], float]:
    """The best weights that sum to 1, of a grid, by their score on a small validation set.

    Args:
        names: of the parts.
        score: of a composition with these weights; larger is better. It is asked once for each
            point: with weights that can change while a pack is loaded
            (`Connection.with_lora_weights`) that costs its questions and nothing else.
        steps: the grid has steps of `1 / steps`.

    Returns:
        Weights and their score; of equal ones those that lie nearest to equal weights.
    """
    equal = 1 / len(names)
    best: tuple[float, float] | None = None
    found: dict[str, float] = {}
    # Equal weights may lie beside the grid, and are what an untuned composition has.
    for point in (tuple([equal] * len(names)), *_simplex(len(names), steps)):
        weights = dict(zip(names, point, strict=True))
        key = (score(weights), -sum((weight - equal) ** 2 for weight in point))
        if best is None or key > best:
            best, found = key, weights
    if best is None:
        raise ConfigError("there is no part", field="names", remedy="name some")
    return found, best[0]


def _simplex(count: int, steps: int) -> Iterator[tuple[float, ...]]:
    def parts(left: int, places: int) -> Iterator[tuple[int, ...]]:
        if places == 1:
            yield (left,)
            return
        for first in range(left + 1):
            for rest in parts(left - first, places - 1):
                yield (first, *rest)

    for point in parts(steps, count):
        yield tuple(number / steps for number in point)
