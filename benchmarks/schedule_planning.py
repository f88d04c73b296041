"""What a runtime would put into the requests of a policy, without any measured time.

FLOPs are the only limit of simulated schedules: those are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..runtime.last_answers import HeldModel
from ..runtime.model_config import Precision
from ..runtime.parts import RuntimeParts
from ..runtime.plan_costs import PlanCosts
from ..runtime.plans import Budget
from ..runtime.scheduler import PlanRequest, QuestionDemand, SensorState, UtilityModel


class Planning:
    """Makes requests for one pack and language model."""

    def __init__(
        self,
        parts: RuntimeParts,
        depths: Sequence[int],
        utility: UtilityModel | None,
        *,
        tail_blocks: int | None = None,
    ) -> None:
        """Take what never changes.

        Args:
            parts: of the runtime.
            depths: of the tail that a policy may choose.
            utility: how often plans are right; None where the pack is not calibrated.
            tail_blocks: depth that is configured, None for the deepest.
        """
        manifest = parts.pack
        self.precision: Precision = parts.model.manifest.precision
        self.depths = tuple(depths)
        self.tail_blocks = tail_blocks or max(depths)
        self.utility = utility
        self.modalities = {
            sensor: manifest.encoders[name].modality
            for sensor, name in manifest.sensor_encoders.items()
        }
        self._encoders = dict(manifest.sensor_encoders)
        self._tokens = {
            sensor: manifest.encoders[name].tokens
            for sensor, name in manifest.sensor_encoders.items()
        }
        self._costs = PlanCosts(parts.plan_formulas())

    def sensor_state(
        self,
        sensor: str,
        fresh_age_ms: float | None,
        held_age_ms: float | None,
        connected: bool,
    ) -> SensorState:
        """One sensor of a request; see `SensorState`."""
        return SensorState(
            encoder=self._encoders[sensor],
            modality=self.modalities[sensor],
            tokens=self._tokens[sensor],
            fresh_age_ms=fresh_age_ms,
            held_age_ms=held_age_ms,
            connected=connected,
        )

    def held_share(
        self,
        kind: str,
        condition: str | None,
        ages_ms: Mapping[str, float],
        held_ms: float,
        tail_blocks: int,
    ) -> float | None:
        """How often an answer is right that is given again; None where nobody knows.

        Args:
            kind: of the question, with its directions.
            condition: of light and weather.
            ages_ms: of the frames behind the answer, when it was given.
            held_ms: since then.
            tail_blocks: depth that it was given at.
        """
        if not isinstance(self.utility, HeldModel):
            return None
        precision = self.precision
        found = self.utility.held(kind, condition, ages_ms, held_ms, tail_blocks, precision)
        return found.mean

    def request(
        self,
        sensors: Mapping[str, SensorState],
        questions: Sequence[QuestionDemand],
        budget: Budget,
        condition: str | None,
    ) -> PlanRequest:
        """A request, as `FrameLook` makes them."""
        return PlanRequest(
            sensors={name: sensors[name] for name in self._encoders if name in sensors},
            questions=questions,
            tail_blocks=self.tail_blocks,
            precision=self.precision,
            depths=self.depths,
            precisions=(self.precision,),
            budget=budget,
            condition=condition,
            costs=self._costs,
            utility=self.utility,
        )
