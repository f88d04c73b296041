"""Expected accuracy of all plans of a scheduler at once, a few times a frame.

The model is in `utility.py`; here it is laid out for the states of a `PlanSpace`, as
`kernels/plan_logits.py` and `kernels/plan_choice.py` take it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.plan_choice import PlanShares, Tangents
from ..kernels.plan_logits import Polynomials, polynomial_logits
from .compiled_kernels import compiled_plans
from .plan_space import PlanSpace
from .question_kinds import KINDS, read_key

if TYPE_CHECKING:
    from .utility import UtilityModel

Float = NDArray[np.float32]

#: Sets of topics that are kept by a bound model; standing questions are few.
_KEPT = 256


@dataclass(frozen=True)
class _Topics:
    """Topics that are asked together in one condition, for the plans of a space.

    With a tangent t of half the logit, a plan is right with blind + worth (0.5 + 0.5 t - blind),
    where worth is that of its variant and blind of sensors that see nothing.

    Attributes:
        rows: number of each topic.
        halves: half the logits; a sigmoid is a hyperbolic tangent of half its argument.
        worth: float32 `[variants, topics]`, what tangents are multiplied with.
        least: float32 `[variants, topics]`, what is added.
        bare: float32 `[topics]`, accuracy of the plan without any sensor; None where nobody
            measured that.
    """

    rows: Mapping[str, int]
    halves: Polynomials
    worth: Float
    least: Float
    bare: Float | None


@dataclass(frozen=True)
class _Moment:
    """What states promise at one moment.

    Attributes:
        condition: of light and weather.
        ages: of all tokens, as bytes.
        topics: that it was asked for.
        tangents: of these topics.
    """

    condition: str | None
    ages: bytes
    topics: _Topics
    tangents: Tangents


class BoundUtility:
    """How often the plans of one space are right."""

    def __init__(
        self, model: UtilityModel, space: PlanSpace, modalities: Mapping[str, str]
    ) -> None:
        """Prepare; see `UtilityModel.bind`."""
        self._model, self._space = model, space
        names = model.traits.groups
        groups = [
            names.index(modalities[s]) if modalities.get(s) in names else None
            for s in space.sensors
        ]
        self._known = np.array([group is not None for group in groups])
        # What is of no known modality covers nothing, so it does no harm in the first one.
        self._groups = np.array([group or 0 for group in groups], np.int32)
        life_ms = [np.inf if g is None else model.fitted.life_ms[g] for g in groups]
        self._decay = -1 / np.asarray(life_ms, np.float32)[:, None]
        self._library, _ = compiled_plans()
        self._last: _Moment | None = None
        self._topics: dict[tuple[tuple[str, ...], str | None], _Topics] = {}

    def shares(
        self, weights: Mapping[str, float], condition: str | None, ages_ms: Float
    ) -> PlanShares:
        """Expected shares of right answers.

        Args:
            weights: kind of question (or `Topic.key`) to the sum of priorities asked of it.
            condition: of light and weather, None if it is not known.
            ages_ms: float32 `[sensors, 2]`, of tokens that are reused and of tokens made now; what
                there is not may be any finite number or NaN.
        """
        moment = self._at(weights, condition, ages_ms)
        topics = moment.topics
        # Topics that are known of this moment and not asked for weigh nothing.
        asked = np.array([weights.get(topic, 0.0) for topic in topics.rows], np.float32)
        asked /= sum(weights.values())
        return PlanShares(
            worth=topics.worth * asked,
            least=topics.least @ asked,
            tangents=moment.tangents,
            bare=None if topics.bare is None else float(asked @ topics.bare),
        )

    def _at(self, asked: Iterable[str], condition: str | None, ages_ms: Float) -> _Moment:
        """A moment with these topics and maybe others.

        A decision may ask again with some of its questions left out.
        """
        last, ages = self._last, ages_ms.tobytes()
        known = last is not None and (last.condition, last.ages) == (condition, ages)
        if last is not None and known and all(topic in last.topics.rows for topic in asked):
            return last
        topics = self._together(tuple(asked), condition)
        # `fmax` takes the other where one is NaN.
        fresh = np.exp(self._decay * np.fmax(ages_ms, 0))
        halves = polynomial_logits(topics.halves, self._groups, fresh, library=self._library)
        tangents = Tangents(np.tanh(halves, out=halves))
        self._last = _Moment(condition, ages, topics, tangents)
        return self._last

    def _together(self, asked: tuple[str, ...], condition: str | None) -> _Topics:
        found = self._topics.get((asked, condition))
        if found is None:
            if len(self._topics) >= _KEPT:
                self._topics.clear()
            found = self._topics[asked, condition] = self._prepared(asked, condition)
        return found

    def _prepared(self, asked: tuple[str, ...], condition: str | None) -> _Topics:
        model = self._model
        topics = [read_key(key) for key in asked]
        kinds = [KINDS.index(topic.kind) for topic in topics]
        strengths = np.stack([model.strengths(topic, condition) for topic in topics])
        blind = 1 / (1 + np.exp(-strengths[:, 0]))
        variants = self._space.variants
        worth = np.stack([model.worth(depth, precision)[kinds] for depth, precision in variants])
        bare = None if model.bare is None else [model.bare[kind].mean for kind in kinds]
        cover = model.traits.coverages(self._space.sensors, topics) * self._known
        return _Topics(
            rows={key: row for row, key in enumerate(asked)},
            halves=self._polynomials(cover, strengths / 2),
            worth=(worth / 2).astype(np.float32),
            least=(worth / 2 + (1 - worth) * blind).astype(np.float32),
            bare=None if bare is None else np.array(bare, np.float32),
        )

    def _polynomials(self, cover: NDArray[Any], strengths: NDArray[Any]) -> Polynomials:
        """Of what sensors see, `[topics, sensors]`, and effects, `[topics, effects]`."""
        design = self._model.design
        groups = len(design.traits.groups)
        square = np.zeros((len(strengths), groups, groups), np.float32)
        products = [(group, group) for group in design.several] + design.pairs
        for at, (one, other) in enumerate(products, start=1 + groups):
            square[:, one, other] = strengths[:, at]
        return Polynomials(
            cover=cover.astype(np.float32),
            base=strengths[:, 0].astype(np.float32),
            linear=strengths[:, 1 : 1 + groups].astype(np.float32, order="C"),
            square=square,
        )
