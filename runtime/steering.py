"""The part of a runtime that is told what frames may cost: budget, policy, pins, encoders held."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .errors import ConfigError, SensorError
from .frame_look import FrameOrders
from .parts import RuntimeParts
from .plans import Budget
from .policies import POLICY_NAMES, make_policy
from .questions import Question
from .rehearsal import QUESTIONS, Rehearsal
from .scheduler import FixedPolicy, Pin, PlanRequest, Policy
from .swapping import Swapping

_PINS = ("on", "off", None)


class Steering(Swapping):
    """What `Runtime` is made of as far as budgets and policies need it."""

    def __init__(
        self,
        parts: RuntimeParts,
        *,
        tail_blocks: int | None,
        sensors: Sequence[str] | None,
        max_age_ms: float,
        policy: str | None,
        budget: Budget,
        depths: Sequence[int] | None,
        measure: bool | None,
        now: Callable[[], float],
    ) -> None:
        if not max_age_ms > 0:
            raise ConfigError(
                f"max_age_ms is {max_age_ms}", field="max_age_ms", remedy="give a positive number"
            )
        super().__init__(parts, tail_blocks=tail_blocks, sensors=sensors, now=now)
        self.max_age_ms = max_age_ms
        self._pins: dict[str, Pin] = {}
        self._depths = parts.depths() if depths is None else tuple(map(parts.checked_depth, depths))
        self._measures, self._is_measured = measure, False
        self._policy = _name_of(parts.policy)
        self._budget = Budget()
        self.budget = budget
        if policy is not None:
            self.set_policy(policy)
        if measure and not self._is_measured:
            self.measure()

    @property
    def budget(self) -> Budget:
        """Limits of a frame; set another one at any time, it holds from the next frame on."""
        return self._budget

    @budget.setter
    def budget(self, budget: Budget) -> None:
        with self._lock:
            self._budget = budget
            self._loop.experience.memory.keep_within(budget.memory_bytes)
            if budget.energy_mj is not None:
                self._loop.experience.energy.start()
        if budget.latency_ms is not None or budget.energy_mj is not None:
            self._measure_once()

    @property
    def policy(self) -> str:
        """Name of what chooses plans; see `set_policy`."""
        return self._policy

    @policy.setter
    def policy(self, name: str) -> None:
        self.set_policy(name)

    def set_policy(self, name: str) -> None:
        """Choose plans another way, from the next frame.

        The first one that chooses at all measures the parts, if they were not, for which frames
        wait a second or two.

        Raises:
            ConfigError: there is no policy of this name.
        """
        policy = make_policy(name)
        with self._lock:
            self._check_open()
            if not isinstance(policy, FixedPolicy):
                self._parts.want_utility()
            self._parts.policy, self._policy = policy, name
            self._take_ready(self._tail_blocks, {})
        if self._loop.looking.is_steered:
            self._measure_once()

    @property
    def depths(self) -> tuple[int, ...]:
        """Tail depths that policies may choose."""
        return tuple(sorted({self._tail_blocks, *self._depths}))

    def _depths_at(self, tail_blocks: int) -> tuple[int, ...]:
        if not self._loop.looking.is_steered:
            return (tail_blocks,)
        return tuple(sorted({tail_blocks, *self._depths}))

    @property
    def pins(self) -> dict[str, Pin]:
        """Sensors that are pinned on or off."""
        return dict(self._pins)

    def pin(self, sensor: str, pin: Pin | None) -> None:
        """Take a sensor out of the policy's hands, from the next frame.

        Args:
            sensor: of the pack.
            pin: `on`: used in every frame, if it has anything to use; `off`: never; None: free.

        Raises:
            SensorError: the sensor is unknown.
            ConfigError: there is no such pin.
        """
        self._parts.checked_sensors([sensor])
        if pin not in _PINS:
            raise ConfigError(f"there is no pin {pin!r}", field="pin", remedy="use on, off or None")
        with self._lock:
            # A new one each time: frames keep the one that they began with.
            pins: dict[str, Pin] = {k: v for k, v in self._pins.items() if k != sensor}
            if pin is not None:
                pins[sensor] = pin
            self._pins = pins

    def measure(self) -> None:
        """Measure what each part of a frame takes, on made-up frames; frames wait meanwhile."""
        with self._lock:
            self._check_open()
            self._is_measured = True
            depths = self._depths_at(self._tail_blocks)
            deepest = self._parts.connection.spec.tail_blocks
            known = self._loop.experience
            asked = [self._preparer.prepare(one, (*depths, deepest)) for one in QUESTIONS]
            rehearsal = Rehearsal(self._parts, known.memory, depths, asked)
            with known.energy.frame():
                rehearsal.measure(known.times, self._loop.now)

    def _measure_once(self) -> None:
        """Measure if that was not done yet and is not forbidden."""
        with self._lock:
            if self._measures is not False and not self._is_measured:
                self.measure()

    def _demanded(self, question: Question) -> Question:
        """A question that is about to be prepared; its deadline needs times of parts."""
        if question.deadline_ms is not None:
            self._measure_once()
        return question

    @property
    def encoders_in_memory(self) -> dict[str, bool]:
        """By encoder, whether it is loaded."""
        loaded = self._loop.experience.memory.loaded
        return {name: name in loaded for name in self._parts.perception.encoders}

    def unload_encoder(self, name: str) -> bool:
        """Free the memory of an encoder; the next frame that needs it loads it again.

        Returns:
            Whether there was anything to free.

        Raises:
            SensorError: there is no encoder of this name.
        """
        if name not in self._parts.perception.encoders:
            raise SensorError(
                f"there is no encoder '{name}'",
                field="encoder",
                remedy=f"use one of {', '.join(self._parts.perception.encoders)}",
            )
        with self._lock:
            engine = self._parts.perception.reloadable.get(name)
            return engine is not None and engine.unload()

    def plan_request(
        self, questions: Sequence[Question], condition: str | None = None
    ) -> PlanRequest:
        """What the policy would be asked if every sensor that is on had a new frame.

        Args:
            questions: that are asked for the first time.
            condition: of light and weather; None if it is not known.

        Raises:
            ConfigError: as `watch`.
            SensorError: as `watch`.
        """
        with self._lock:
            self._parts.want_utility()
            self._loop.experience.energy.start()
            asked = [self._prepare(one, self._tail_blocks) for one in questions]
            return self._loop.looking.imagined(asked, self._orders(), condition)

    def _orders(self) -> FrameOrders:
        return FrameOrders(
            sensors=self._sensors,
            tail_blocks=self._tail_blocks,
            depths=self._depths_at(self._tail_blocks),
            max_age_ms=self.max_age_ms,
            budget=self._budget,
            pins=self._pins,
        )


def _name_of(policy: Policy) -> str:
    """Its name, or that of its type if it is of somebody else's making."""
    names = {type(make_policy(name)): name for name in POLICY_NAMES}
    return names.get(type(policy), type(policy).__name__)
