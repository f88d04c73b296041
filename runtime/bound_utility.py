"""Expected accuracy of all plans of a scheduler at once, a few times a frame.

The model is in `utility.py`; here it is laid out for the states of a `PlanSpace`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .plan_space import ACTIONS, PlanSpace
from .question_kinds import KINDS, Topic, read_key

if TYPE_CHECKING:
    from .utility import UtilityModel

Float = NDArray[np.float32]

#: Topics and mixes of them that are kept by a bound model; standing questions are few.
_KEPT = 256


@dataclass(frozen=True)
class _Topic:
    """One topic in one condition, for the plans of a space.

    Attributes:
        cover: float32 `[sensors]`.
        strengths: float32 `[effects]`, halved: a sigmoid is a hyperbolic tangent of half its
            argument.
        worth: float32 `[variants]`, see `UtilityModel`.
        blind: accuracy of sensors that see nothing of it.
        bare: accuracy of the plan without any sensor; None where nobody measured that.
    """

    cover: Float
    strengths: Float
    worth: Float
    blind: float
    bare: float | None


@dataclass(frozen=True)
class _Mix:
    """The questions of a frame in one condition, for the plans of a space.

    Attributes:
        cover: float32 `[topics, sensors, 1]`.
        strengths: float32 `[topics, effects, 1]`.
        worth: float32 `[variants, topics]`, what the tangents are multiplied with.
        least: float32 `[variants, 1]`, what is added.
        bare: accuracy of the plan without any sensor; None where nobody measured that.
    """

    cover: Float
    strengths: Float
    worth: Float
    least: Float
    bare: float | None


class BoundUtility:
    """How often the plans of one space are right.

    States are those of the modality with the most sensors times those of all other sensors: what
    sensors of one modality have in common is worked out for each of the two parts alone, and only
    the logit and its sigmoid for all of their pairs.
    """

    def __init__(
        self, model: UtilityModel, space: PlanSpace, modalities: Mapping[str, str]
    ) -> None:
        """Prepare; see `UtilityModel.bind`."""
        self._model, self._space = model, space
        traits = model.traits
        names = traits.groups
        groups = [
            names.index(modalities[s]) if modalities.get(s) in names else None
            for s in space.sensors
        ]
        self._groups = groups
        counts = [groups.count(group) for group in range(len(names))]
        self._large = int(np.argmax(counts)) if names else 0
        first = [at for at, group in enumerate(groups) if group == self._large]
        rest = [at for at, group in enumerate(groups) if group != self._large]
        self._first, self._rest = _Part(first), _Part(rest)
        order = self._first.number(space) * self._rest.states + self._rest.number(space)
        self._order = None if np.array_equal(order, np.arange(len(order))) else order
        life_ms = [np.inf if g is None else model.fitted.life_ms[g] for g in groups]
        self._decay = -1 / np.asarray(life_ms, np.float32)[:, None]
        self._others = [g for g in dict.fromkeys(groups) if g is not None and g != self._large]
        #: Condition and ages, rows by topic, and tangents of the last call.
        self._last: tuple[tuple[str | None, bytes], dict[str, int], Float] | None = None
        self._topics: dict[tuple[str, str | None], _Topic] = {}
        self._mixes: dict[tuple[tuple[tuple[str, float], ...], str | None], _Mix] = {}

    def expected(
        self, weights: Mapping[str, float], condition: str | None, ages_ms: Float
    ) -> Float:
        """Expected share of right answers of every plan.

        Args:
            weights: kind of question (or `Topic.key`) to the sum of priorities asked of it.
            condition: of light and weather, None if it is not known.
            ages_ms: float32 `[sensors, 2]`, of tokens that are reused and of tokens made now; what
                there is not may be any finite number or NaN.

        Returns:
            float32 `[variants, states]`.
        """
        key = (tuple(weights.items()), condition)
        mix = self._mixes.get(key)
        if mix is None:
            if len(self._mixes) >= _KEPT:
                self._mixes.clear()
            mix = self._mixes[key] = self._mixed(weights, condition)
        found = mix.worth @ self._tangents(mix, tuple(weights), condition, ages_ms)
        found += mix.least
        if self._order is not None:
            found = found.take(self._order, axis=1)
        if mix.bare is not None:
            found[:, 0] = mix.bare
        return found

    def _tangents(
        self, mix: _Mix, topics: tuple[str, ...], condition: str | None, ages_ms: Float
    ) -> Float:
        """`[topics, states]`; a decision may ask again with some of its questions left out."""
        moment = (condition, ages_ms.tobytes())
        if self._last is not None and self._last[0] == moment:
            rows = self._last[1]
            if all(topic in rows for topic in topics):
                known = self._last[2]
                whole = len(topics) == len(known) and [*topics] == [*rows]
                return known if whole else known[[rows[topic] for topic in topics]]
        tangents = self._half_logits(mix, ages_ms)
        np.tanh(tangents, out=tangents)
        tangents = tangents.reshape(len(tangents), -1)
        self._last = moment, {topic: row for row, topic in enumerate(topics)}, tangents
        return tangents

    def _half_logits(self, mix: _Mix, ages_ms: Float) -> Float:
        """`[topics, states of the first part, states of the rest]`."""
        large, strength, topics = self._large, mix.strengths, len(mix.cover)
        # Off sees nothing; the two others by the age of their tokens.
        action = np.zeros((topics, len(self._groups), ACTIONS), np.float32)
        # `fmax` takes the other where one is NaN.
        fresh = np.exp(self._decay * np.fmax(ages_ms, 0))
        np.multiply(mix.cover, fresh, out=action[:, :, 1:])
        # The logit is seen * across + own + base, a product of three columns with three rows.
        left = np.ones((topics, self._first.states, 3), np.float32)
        right = np.ones((topics, 3, self._rest.states), np.float32)
        seen = self._first.seen(action, self._groups, large)
        own = strength[:, 1 + large] * seen
        other = {g: self._rest.seen(action, self._groups, g) for g in self._others}
        base, across = right[:, 2], right[:, 0]
        base[:] = strength[:, 0]
        across[:] = 0
        for group, its in other.items():
            base += strength[:, 1 + group] * its
        design = self._model.design
        at = 1 + len(design.traits.groups)
        for group in design.several:
            if group == large:
                own += strength[:, at] * seen**2
            elif group in other:
                base += strength[:, at] * other[group] ** 2
            at += 1
        for one, two in design.pairs:
            if large in (one, two):
                group = two if one == large else one
                if group in other:
                    across += strength[:, at] * other[group]
            elif one in other and two in other:
                base += strength[:, at] * other[one] * other[two]
            at += 1
        left[:, :, 0], left[:, :, 1] = seen, own
        return left @ right

    def _mixed(self, weights: Mapping[str, float], condition: str | None) -> _Mix:
        topics = [self._topic(key, condition) for key in weights]
        share = np.array(list(weights.values()), np.float32) / sum(weights.values())
        worth = np.stack([topic.worth for topic in topics], axis=1)
        blind = np.array([topic.blind for topic in topics], np.float32)
        # With a tangent t of half the logit, blind + worth (0.5 + 0.5 t - blind).
        least = (worth / 2 + (1 - worth) * blind) @ share
        bare = [topic.bare for topic in topics if topic.bare is not None]
        return _Mix(
            cover=np.stack([topic.cover for topic in topics])[:, :, None],
            strengths=np.stack([topic.strengths for topic in topics])[:, :, None],
            worth=(share * worth / 2).astype(np.float32),
            least=least[:, None].astype(np.float32),
            bare=float(share @ np.array(bare, np.float32)) if bare else None,
        )

    def _topic(self, key: str, condition: str | None) -> _Topic:
        found = self._topics.get((key, condition))
        if found is None:
            if len(self._topics) >= _KEPT:
                self._topics.clear()
            found = self._topics[key, condition] = self._prepared(read_key(key), condition)
        return found

    def _prepared(self, topic: Topic, condition: str | None) -> _Topic:
        model, kind = self._model, KINDS.index(topic.kind)
        strengths = model.strengths(topic, condition)
        known = np.array([group is not None for group in self._groups])
        cover = model.traits.coverages(self._space.sensors, [topic])[0] * known
        variants = self._space.variants
        worth = [model.worth(depth, precision)[kind] for depth, precision in variants]
        return _Topic(
            cover=cover.astype(np.float32),
            strengths=(strengths / 2).astype(np.float32),
            worth=np.array(worth, np.float32),
            blind=float(1 / (1 + np.exp(-strengths[0]))),
            bare=None if model.bare is None else model.bare[kind].mean,
        )


class _Part:
    """Some of the sensors of a space, with all that they can do."""

    def __init__(self, places: Sequence[int]) -> None:
        """Number their states; `places` are their numbers in the space."""
        self.places = list(places)
        self.states = ACTIONS ** len(self.places)
        space = PlanSpace(tuple(map(str, self.places)), ())
        hot = space.states[:, :, None] == np.arange(ACTIONS)
        #: Which action of which sensor a state has, `[sensors, 3, states]`.
        self._hot = np.ascontiguousarray(hot.transpose(1, 2, 0), np.float32)
        #: Places of the sensors of a modality, and their rows of `_hot`, `[3 sensors, states]`.
        self._of_group: dict[int, tuple[list[int], Float]] = {}

    def number(self, space: PlanSpace) -> NDArray[np.intp]:
        """The number of this part in each state of the space."""
        powers = ACTIONS ** np.arange(len(self.places), dtype=np.intp)[::-1]
        return space.states[:, self.places].astype(np.intp) @ powers

    def seen(self, action: Float, groups: Sequence[int | None], group: int) -> Float:
        """Coverage of a modality, `[topics, states]`, from that of actions `[topics, all, 3]`."""
        found = self._of_group.get(group)
        if found is None:
            mine = [at for at, place in enumerate(self.places) if groups[place] == group]
            hot = np.ascontiguousarray(self._hot[mine].reshape(-1, self.states))
            found = self._of_group[group] = [self.places[at] for at in mine], hot
        places, hot = found
        return action[:, places].reshape(len(action), -1) @ hot
