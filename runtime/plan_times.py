"""How long all plans of a space take at one moment: sums of the parts' times, class by class.

Times of parts are straight lines along sizes, and all that a plan's time depends on is the same
within a class (`plan_classes.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .model_config import Precision
from .part_times import PartSnapshot
from .plan_classes import Numbers, PlanClasses
from .plan_costs import (
    CONNECT,
    DECODE,
    GIGA,
    PREPARE,
    REST,
    PlanCosts,
    encode_part,
    load_part,
    tail_part,
)


class PlanTimes:
    """Times of all plans of a space at one moment, whatever is asked."""

    def __init__(
        self,
        classes: PlanClasses,
        variants: Sequence[tuple[int, Precision]],
        costs: PlanCosts,
        *,
        of_p90: bool,
    ) -> None:
        """Read the times of the parts.

        Args:
            classes: of the states.
            variants: depths and precisions.
            costs: times and loaded encoders of now.
            of_p90: whether the parts' p90s are summed, else their medians.
        """
        line = _Lines(costs.times, of_p90)
        self._tokens = classes.tokens
        connect_base, self._connect_slope = line.of(CONNECT)
        prepare_base, prepare_slope = line.of(PREPARE)
        bases: list[float] = []
        slopes: list[float] = []
        for name in classes.encoders:
            base, slope = line.of(encode_part(name))
            bases.append(base if costs.is_loaded(name) else base + line.of(load_part(name))[0])
            slopes.append(slope + prepare_slope)
        beside = classes.runs @ np.array(slopes, dtype=np.float64)
        beside += _started(classes.running, np.array(bases, dtype=np.float64))
        beside += _started(classes.any_running[:, None], np.array([prepare_base]))
        beside += classes.prepare_flops * (self._connect_slope / GIGA)
        beside += connect_base + line.of(REST, absent=0.0)[0]
        #: `[classes]`, all but the tail, the questions and what the connection does for them.
        self._beside = beside
        self._decode = line.of(DECODE)
        tails = [line.of(tail_part(*variant)) for variant in variants]
        self._tails = np.array(tails, dtype=np.float64).reshape(-1, 2, 1)

    def of(self, connect_flops: Numbers, tail_flops: Numbers, questions: int) -> Numbers:
        """Times of all plans that answer some questions.

        Args:
            connect_flops: `[sums]` of the connection, by the sum of tokens.
            tail_flops: `[variants, sums]`.
            questions: how many there are.

        Returns:
            `[variants, classes]` milliseconds, infinite where a part was never measured.
        """
        decode_base, decode_slope = self._decode
        by_sum = tail_flops * (self._tails[:, 1] / GIGA)
        by_sum += self._tails[:, 0] + (decode_base + decode_slope * questions)
        by_sum += connect_flops * (self._connect_slope / GIGA)
        return by_sum[:, self._tokens] + self._beside


def _started(running: Numbers, bases: Numbers) -> Numbers:
    """Sums of the bases of what runs, `[classes]`."""
    if np.isfinite(bases).all():
        return running @ bases
    # What takes for ever and does not run would be no number in a product.
    return np.where(running > 0, bases, 0.0).sum(axis=1)


class _Lines:
    """Times of parts as base and slope, at the median or at p90."""

    def __init__(self, times: Mapping[str, PartSnapshot], of_p90: bool) -> None:
        self._times = times
        self._of_p90 = of_p90

    def of(self, part: str, absent: float = np.inf) -> tuple[float, float]:
        """Base and slope; what was never measured takes `absent`, by default for ever."""
        time = self._times.get(part)
        if time is None:
            return absent, 0.0
        factor = time.p90_factor if self._of_p90 else 1.0
        return time.base_ms * factor, time.per_size_ms * factor
