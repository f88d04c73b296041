"""Which model predicts best how often plans are right, on scenes that it was not fitted to.

Three are compared: the plain table that backs off from sparse cells, a noisy or (every sensor has
its chance to see what is asked about), and the hierarchical regression that the runtime uses. Told
are the negative log-likelihood of held-out answers, and how right the plans are that one would
choose by each prediction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runtime.calibration_table import CalibrationCell, MeasuredPlan
from ..runtime.errors import DataError
from ..runtime.frame_cost import FrameCost
from ..runtime.plans import SensorAction
from ..runtime.question_kinds import read_key
from ..runtime.utility import fit_cells
from ..runtime.utility_features import SensorTraits
from .calibration import KeyframeCounts, dispersion_of
from .noisy_or import fit_noisy_or

Float64 = NDArray[np.float64]

#: Accuracy of each cell, from its plan, topic and condition; its counts are not looked at.
Predictor = Callable[[Sequence[CalibrationCell]], Float64]
#: Makes a predictor of cells, and of how much more they scatter than single answers would.
Fitter = Callable[[Sequence[CalibrationCell], SensorTraits, float], Predictor]

FOLDS = 5
#: Budgets at which plans are chosen, as shares of what the most expensive plan costs.
BUDGETS = (0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
#: Answers that the coarser cell counts for where a cell has few of its own.
_LEAN = 15.0
_EDGE = 1e-3


#: What could be chosen at best, by counts that no model has seen.
_KNOWING = "table that has seen the answers"


@dataclass(frozen=True)
class Comparison:
    """How one model does on scenes that it was not fitted to.

    Attributes:
        name: of the model.
        log_loss: mean negative log-likelihood of an answer, nats; None of what knew the answers.
        chosen: share of right answers of the plans that it would choose, over all conditions,
            topics and budgets, each topic by how often it is asked.
    """

    name: str
    log_loss: float | None
    chosen: float


def plan_flops(
    plans: Sequence[MeasuredPlan],
    cost: FrameCost,
    boundary: Callable[[int], int],
    lengths: Sequence[int],
) -> list[int]:
    """What plans cost for some questions; older tokens cost nothing but their rows.

    Args:
        plans: with a depth.
        cost: of the parts.
        boundary: first block of a tail of some depth.
        lengths: tokens of each question.
    """
    found: list[int] = []
    for plan in plans:
        depth = plan.tail_blocks or 1
        actions: dict[str, SensorAction] = {
            sensor: "reuse" if age else "run"
            for sensor, age in zip(plan.sensors, plan.ages_ms, strict=True)
        }
        found.append(cost.look(actions, plan.sensors, boundary(depth), lengths, depth))
    return found


def table_with_back_off(
    cells: Sequence[CalibrationCell], traits: SensorTraits, dispersion: float = 1.0
) -> Predictor:
    """The plain table: counts of the very cell, leaning on coarser ones where they are few.

    From plan, topic and condition to plan, kind and condition, to plan and kind, to plans with as
    many sensors of each modality and as old tokens, to the kind, to all.
    """
    levels: list[dict[tuple[object, ...], list[int]]] = [
        defaultdict(lambda: [0, 0]) for _ in range(6)
    ]

    def places(plan: MeasuredPlan, key: str, condition: str) -> list[tuple[object, ...]]:
        kind = read_key(key).kind
        modalities = [traits.modalities.get(sensor, "") for sensor in plan.sensors]
        like = tuple(sorted(zip(modalities, plan.ages_ms, strict=True)))
        return [
            (),
            (kind,),
            (like, kind),
            (plan, kind),
            (plan, kind, condition),
            (plan, key, condition),
        ]

    for cell in cells:
        for level, place in zip(levels, places(cell.plan, cell.topic, cell.condition), strict=True):
            level[place][0] += cell.questions
            level[place][1] += cell.right

    def share_of(cell: CalibrationCell) -> float:
        share = 0.5
        own = places(cell.plan, cell.topic, cell.condition)
        for level, place in zip(levels, own, strict=True):
            asked, right = level.get(place, (0, 0))
            share = (right + _LEAN * share) / (asked + _LEAN)
        return share

    return lambda wanted: np.array([share_of(cell) for cell in wanted])


def noisy_or(
    cells: Sequence[CalibrationCell], traits: SensorTraits, dispersion: float = 1.0
) -> Predictor:
    """See `noisy_or.py`; without any sensor, as the table says."""
    model = fit_noisy_or([cell for cell in cells if cell.plan.sensors], traits, dispersion)
    bare = table_with_back_off([cell for cell in cells if not cell.plan.sensors], traits)

    def predict(wanted: Sequence[CalibrationCell]) -> Float64:
        none = np.array([not cell.plan.sensors for cell in wanted])
        return np.where(none, bare(wanted), model.means(wanted))

    return predict


def regression(
    cells: Sequence[CalibrationCell], traits: SensorTraits, dispersion: float = 1.0
) -> Predictor:
    """The model of the runtime, see `runtime/utility.py`."""
    model = fit_cells(cells, traits, dispersion)
    assert model is not None  # there are cells
    return model.means


MODELS: Mapping[str, Fitter] = {
    "table with back-off": table_with_back_off,
    "noisy or": noisy_or,
    "hierarchical regression": regression,
}


def compare(
    counts: Sequence[KeyframeCounts],
    plans: Sequence[MeasuredPlan],
    flops: Sequence[float],
    traits: SensorTraits,
    models: Mapping[str, Fitter] = MODELS,
    folds: int = FOLDS,
) -> list[Comparison]:
    """Leave scenes out in turns, fit to the others, and see.

    Args:
        counts: of keyframes.
        plans: that they name by number.
        flops: of each plan.
        traits: of the sensors.
        models: by name.
        folds: into how many parts the scenes of each condition are dealt.

    Returns:
        One per model, and `knowing the counts` last: what would be chosen by the held-out counts
        themselves, leaning on all others, which no model can know.

    Raises:
        DataError: there are too few scenes for one to be left out.
    """
    fold_of = _dealt(counts, folds)
    if len(set(fold_of.values())) < 2:
        raise DataError(
            "no scene can be left out: each condition has but one",
            field="--compare",
            remedy="give drives with more scenes",
        )
    loss = dict.fromkeys(models, 0.0)
    chosen: dict[str, list[tuple[float, float]]] = {name: [] for name in (*models, _KNOWING)}
    answers = 0
    knowing = table_with_back_off(_cells(counts, plans), traits)

    def given(sensor: str) -> bool:
        return traits.modalities.get(sensor) == "objects"

    for fold in range(folds):
        held_out = _cells([one for one in counts if fold_of[one.scene] == fold], plans)
        kept = [one for one in counts if fold_of[one.scene] != fold]
        others, dispersion = _cells(kept, plans), dispersion_of(kept)
        if not held_out or not others:
            continue
        answers += sum(cell.questions for cell in held_out)
        truth = _Truth(held_out)
        for name, make in models.items():
            predict = make(others, traits, dispersion)
            loss[name] += _loss(held_out, predict(held_out))
            chosen[name] += truth.choose(predict, plans, flops, given)
        chosen[_KNOWING] += truth.choose(knowing, plans, flops, given)
    found = [Comparison(name, loss[name] / max(answers, 1), _mean(chosen[name])) for name in models]
    return [*found, Comparison(_KNOWING, None, _mean(chosen[_KNOWING]))]


class _Truth:
    """What held-out scenes said of plans."""

    def __init__(self, cells: Sequence[CalibrationCell]) -> None:
        #: By condition and kind of question, how often it was asked.
        self._asked: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._right: dict[tuple[MeasuredPlan, str, str], list[int]] = defaultdict(lambda: [0, 0])
        for cell in cells:
            self._asked[cell.condition][cell.topic] += cell.questions
            entry = self._right[cell.plan, cell.topic, cell.condition]
            entry[0] += cell.questions
            entry[1] += cell.right

    def choose(
        self,
        predict: Predictor,
        plans: Sequence[MeasuredPlan],
        flops: Sequence[float],
        given: Callable[[str], bool],
    ) -> list[tuple[float, float]]:
        """Right answers and answers of the best plan by a prediction, at each budget.

        A plan is chosen for each topic in each condition, as if that alone was asked.
        """
        found: list[tuple[float, float]] = []
        most = max(flops)
        cost = np.asarray(flops) / most
        # Given objects know nearly everything and cost nothing: there would be no choice.
        real = np.array([not any(given(one) for one in plan.sensors) for plan in plans])
        for condition, topics in self._asked.items():
            for key, weight in topics.items():
                counts = [self._right.get((plan, key, condition), (0, 0)) for plan in plans]
                asked, right = np.array(counts, np.float64).T
                cells = [CalibrationCell(plan, key, condition, 1, 0) for plan in plans]
                worth = predict(cells)
                for budget in BUDGETS:
                    allowed = (cost <= budget) & (asked > 0) & real
                    if allowed.any():
                        best = int(np.argmax(np.where(allowed, worth, -1)))
                        share = float(right[best] / asked[best])
                        found.append((weight * share, float(weight)))
        return found


def _cells(
    counts: Sequence[KeyframeCounts], plans: Sequence[MeasuredPlan]
) -> list[CalibrationCell]:
    """Of some keyframes, those of one place added up."""
    totals: dict[tuple[int, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for one in counts:
        for number, topic, questions, right in one.cells:
            # Answers that are given again are no plans that one could choose.
            if plans[number].held_ms:
                continue
            entry = totals[number, topic, one.condition]
            entry[0] += questions
            entry[1] += right
    return [
        CalibrationCell(plans[number], topic, condition, asked, right)
        for (number, topic, condition), (asked, right) in totals.items()
    ]


def _dealt(counts: Sequence[KeyframeCounts], folds: int) -> dict[str, int]:
    """The fold of each scene; scenes of one condition are spread evenly."""
    found: dict[str, int] = {}
    dealt: dict[str, int] = defaultdict(int)
    for one in counts:
        if one.scene not in found:
            found[one.scene] = dealt[one.condition] % folds
            dealt[one.condition] += 1
    return found


def _loss(cells: Sequence[CalibrationCell], predicted: Float64) -> float:
    share = np.clip(predicted, _EDGE, 1 - _EDGE)
    right = np.array([cell.right for cell in cells])
    wrong = np.array([cell.questions for cell in cells]) - right
    return float(-(right * np.log(share)).sum() - (wrong * np.log(1 - share)).sum())


def _mean(found: Sequence[tuple[float, float]]) -> float:
    total = sum(weight for _, weight in found)
    return sum(right for right, _ in found) / total if total else float("nan")
