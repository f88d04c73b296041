"""Spaces of plans that decisions are taken in, kept from frame to frame.

**Many sensors**: more than `MAX_SENSORS` are not searched together. Those that can do nothing are
left out first, then of the others those that alone add least to a plan without sensors, in the
pack's order among equals; pinned and needed ones stay. The search is exact for the sensors that
are left.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from .compiled_kernels import compiled_plans
from .model_config import Precision
from .plan_arrays import PlanArrays
from .plan_decision import Decision, OpenSpace, able_to
from .plan_questions import needed_sensors
from .plan_space import OFF, PlanSpace
from .scheduler import PlanRequest

Variants = tuple[tuple[int, Precision], ...]

#: Sensors that are searched together: 3^8 = 6,561 states.
MAX_SENSORS = 8
#: Spaces that are kept; one is in use unless sensors are switched. Those of single sensors, which
#: say what each is worth where there are many, are tiny.
_KEPT_SPACES, _KEPT_SINGLE = 8, 256


class PlanSearch:
    """Keeps what decisions have in common; belongs to one policy, not safe between threads."""

    def __init__(self) -> None:
        self._opened: OrderedDict[tuple[object, ...], OpenSpace] = OrderedDict()
        self._single: OrderedDict[tuple[object, ...], OpenSpace] = OrderedDict()
        # Compiled now, if it has to be, and not in a frame.
        compiled_plans()

    def open(self, request: PlanRequest, variants: Variants | None = None) -> Decision:
        """Begin a decision.

        Args:
            request: what is asked.
            variants: depths and precisions to choose from, None for all that the request allows.

        Raises:
            ConfigError: energy is limited and nothing measures it; or the language model is not
                loaded at a precision.
        """
        request.costs.check_measurable(request.budget)
        if variants is None:
            variants = tuple((d, p) for d in request.depths for p in request.precisions)
        sensors = tuple(request.sensors)
        if len(sensors) > MAX_SENSORS:
            sensors = self._worth_most(request, variants)
        return Decision(request, self._open(request, sensors, variants))

    def _open(
        self, request: PlanRequest, sensors: tuple[str, ...], variants: Variants
    ) -> OpenSpace:
        formulas, utility = request.costs.formulas, request.utility
        modalities = {sensor: request.sensors[sensor].modality for sensor in sensors}
        key = (sensors, variants, tuple(modalities.values()), id(formulas), id(utility))
        single = len(sensors) == 1
        kept, limit = (self._single, _KEPT_SINGLE) if single else (self._opened, _KEPT_SPACES)
        found = kept.get(key)
        # Two objects may have one address, one after the other.
        if found is None or found.formulas is not formulas or found.utility is not utility:
            space = PlanSpace(sensors, variants)
            bound = None if utility is None else utility.bind(space, modalities)
            found = OpenSpace(formulas, utility, space, PlanArrays(space, formulas), bound, {})
            kept[key] = found
            if len(kept) > limit:
                kept.popitem(last=False)
        else:
            kept.move_to_end(key)
        return found

    def _worth_most(self, request: PlanRequest, variants: Variants) -> tuple[str, ...]:
        """The sensors that are searched, where there are too many."""
        able = [name for name, state in request.sensors.items() if state.usable]
        needed = needed_sensors(request.questions, range(len(request.questions)))
        firm = {s for s in able if s in needed or request.sensors[s].pin == "on"}
        worth = {s: self._alone(request, s, variants) for s in able}
        ranked = sorted(able, key=lambda s: (s not in firm, -worth[s]))
        kept = set(ranked[:MAX_SENSORS])
        return tuple(s for s in request.sensors if s in kept)

    def _alone(self, request: PlanRequest, sensor: str, variants: Variants) -> float:
        """What a sensor adds by itself; without a calibration, the age of its tokens."""
        state = request.sensors[sensor]
        if request.utility is None:
            return np.inf if state.held_age_ms is None else state.held_age_ms
        only = Decision(request, self._open(request, (sensor,), variants))
        shares = only.expected(range(len(request.questions)))
        best = max(
            float(shares[:, action].max()) for action in np.flatnonzero(able_to(state, False))
        )
        return best - float(shares[:, OFF].max())
