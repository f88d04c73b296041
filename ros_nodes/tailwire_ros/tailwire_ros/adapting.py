"""The action `Adapt`: learning from what was taught, while frames are answered."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailwire.runtime.errors import ConfigError, TailwireError

from .core import Core
from .settings import texts

_TELL_EVERY_S = 0.5


class AdaptServer:
    """Executes goals of `Adapt`; the runtime takes one at a time and refuses a second."""

    def __init__(self, core: Callable[[], Core | None]) -> None:
        """Be ready for goals.

        Args:
            core: the one that answers now; None while there is none.
        """
        self._core = core

    def execute(self, goal: Any) -> Any:
        """Work on a goal until the adaptation is over; returns its result."""
        from tailwire_msgs.action import Adapt

        result = Adapt.Result(accuracy_before=math.nan, accuracy_after=math.nan)
        try:
            outcome = self._learn(goal)
        except TailwireError as error:
            result.outcome, result.reason = "refused", str(error)
            goal.abort()
            return result
        result.outcome, result.reason = outcome.outcome, outcome.reason
        if outcome.accuracy is not None:
            result.accuracy_before = outcome.accuracy.old_before
            result.accuracy_after = outcome.accuracy.new_after
        result.steps, result.wall_s = outcome.steps, float(outcome.wall_s)
        result.pack = outcome.pack
        result.folder = "" if outcome.folder is None else str(outcome.folder)
        if outcome.outcome == "cancelled" and goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.succeed()
        return result

    def _learn(self, goal: Any) -> Any:
        from tailwire_msgs.action import Adapt

        core = self._core()
        if core is None:
            raise ConfigError("the node is not active", field="adapt", remedy="activate it first")
        adaptation = core.runtime.adapt(adaptation_request(goal.request))
        while not adaptation.wait(_TELL_EVERY_S):
            if goal.is_cancel_requested:
                adaptation.cancel()
            now = adaptation.progress()
            goal.publish_feedback(
                Adapt.Feedback(
                    phase=now.phase,
                    step=now.step,
                    steps=now.steps,
                    loss=_or_nan(now.loss),
                    held_out=_or_nan(now.held_out),
                    elapsed_s=float(now.elapsed_s),
                    left_s=_or_nan(now.left_s),
                )
            )
        return adaptation.result()


def adaptation_request(asked: Any) -> Any:
    """An `AdaptationRequest` from a goal.

    Raises:
        ConfigError: its lists do not fit, or a number is out of range.
    """
    from pydantic import ValidationError

    from tailwire.runtime.adaptation.request import AdaptationBudget, AdaptationRequest

    goes, comes = texts(asked.replace), texts(asked.by)
    if len(goes) != len(comes) or len(set(goes)) != len(goes):
        raise ConfigError(
            f"{len(goes)} sensors are to be replaced by {len(comes)}",
            field="replace",
            remedy="name one in `by` for each in `replace`",
        )
    given: dict[str, Any] = {
        "tail_blocks": asked.tail_blocks or None,
        "out": Path(asked.out) if asked.out else None,
    }
    if asked.epochs:
        given["epochs"] = asked.epochs
    try:
        budget = AdaptationBudget(
            time_s=asked.time_s or None,
            memory_bytes=asked.memory_bytes or None,
            flops=asked.flops or None,
        )
        return AdaptationRequest(
            add=texts(asked.add),
            replace=dict(zip(goes, comes, strict=True)),
            drop=texts(asked.drop),
            budget=budget,
            swap=not asked.report_only,
            **given,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            first["msg"], field=".".join(map(str, first["loc"])), remedy="correct the goal"
        ) from error


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
