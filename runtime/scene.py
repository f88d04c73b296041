"""What a frame knows before any question: the sensors it uses, how old, and why not the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .frames import SensorFrame
from .metrics import StageClock
from .perception import Perception, SensorTokens
from .plans import Plan, SensorAction, SensorUse
from .scheduler import Pin, SensorState
from .standpoint import Standpoint


@dataclass(frozen=True)
class Scene:
    """The sensors behind the answers of one frame.

    Attributes:
        plan: what was decided.
        uses: the sensors whose tokens are used, in the pack's order.
        dropped: wanted sensors whose newest frame is not used, with the reason.
        connected: sensors in use whose tokens the connection had prepared before this frame.
    """

    plan: Plan
    uses: dict[str, SensorUse]
    dropped: dict[str, str]
    connected: frozenset[str]

    @property
    def stamp_ns(self) -> int | None:
        """Of the oldest frame used."""
        return min((use.stamp_ns for use in self.uses.values()), default=None)

    @property
    def actions(self) -> dict[str, SensorAction]:
        """What was really done, where the plan's frame failed."""
        return {sensor: "reuse" if use.reused else "run" for sensor, use in self.uses.items()}


class Lookout:
    """Finds out which frames and tokens are young enough, and encodes what a plan asks for."""

    def __init__(
        self,
        perception: Perception,
        held: Mapping[str, SensorFrame],
        max_age_ms: float,
        unusable: Mapping[str, str] | None = None,
        here: Standpoint | None = None,
    ) -> None:
        """Look at what is held.

        Args:
            perception: encoders and their newest tokens.
            held: the newest frame of each sensor.
            max_age_ms: frames older than this, against the newest of all, are not used.
            unusable: by sensor, what else speaks against its newest frame.
            here: where the vehicle is, None where nobody knows.
        """
        self._here = here
        self._perception = perception
        self._held = held
        self._max_age_ms = max_age_ms
        self._known = dict(unusable or {})
        #: Stamp of the newest frame of all, 0 without any.
        self.newest_ns = max((frame.stamp_ns for frame in held.values()), default=0)

    def states(
        self,
        sensors: Sequence[str],
        connected: Callable[[str], bool],
        pins: Mapping[str, Pin] | None = None,
    ) -> tuple[dict[str, SensorState], dict[str, str]]:
        """What a policy must know of the sensors.

        Args:
            sensors: the wanted ones.
            connected: whether the connection has prepared the tokens of a sensor already.
            pins: sensors that are pinned on.

        Returns:
            Their states, and by sensor why its newest frame is not used.
        """
        dropped: dict[str, str] = {}
        states: dict[str, SensorState] = {}
        for sensor in sensors:
            reason = self._unusable(sensor)
            if reason is not None:
                dropped[sensor] = reason
            is_new = reason is None and self._perception.is_new(self._held[sensor])
            use = self._use(sensor, reused=True)
            name, encoder = self._perception.encoder_of(sensor)
            states[sensor] = SensorState(
                encoder=name,
                modality=encoder.spec.modality,
                tokens=encoder.spec.tokens,
                fresh_age_ms=self._age_ms(self._held[sensor]) if is_new else None,
                held_age_ms=None if use is None else use.age_ms,
                connected=connected(sensor),
                pin=None if pins is None else pins.get(sensor),
            )
        return states, dropped

    def encode(
        self,
        plan: Plan,
        dropped: Mapping[str, str],
        connected: Callable[[str], bool],
        clock: StageClock,
        *,
        most: int | None = None,
        skip: Callable[[str, int], str | None] | None = None,
    ) -> Scene:
        """Encode what a plan runs.

        Args:
            plan: of the sensors.
            dropped: sensors whose newest frame is known not to be used.
            connected: as in `states`.
            clock: gets the stages of the encoders.
            most: see `Perception.encode`.
            skip: see `Perception.encode`.
        """
        to_run = [self._held[sensor] for sensor, action in plan.sensors.items() if action == "run"]
        failed = self._perception.encode(to_run, clock, most=most, skip=skip)
        uses: dict[str, SensorUse] = {}
        for sensor, action in plan.sensors.items():
            # A frame that failed leaves the tokens of an earlier one, if that is young enough.
            use = self._use(sensor, reused=action == "reuse" or sensor in failed)
            if use is not None:
                uses[sensor] = use
        return Scene(plan, uses, {**dropped, **failed}, frozenset(filter(connected, uses)))

    def observe(self, clock: StageClock) -> dict[str, SensorTokens]:
        """Tokens of all sensors whose frames are young enough, also of those that are not wanted.

        Args:
            clock: gets the stages of the encoders.
        """
        waiting = [
            frame
            for sensor, frame in self._held.items()
            if self._unusable(sensor) is None and self._perception.is_new(frame)
        ]
        self._perception.encode(waiting, clock)
        found: dict[str, SensorTokens] = {}
        for sensor in self._held:
            tokens = self._perception.tokens(sensor)
            if tokens is not None and self._use(sensor, reused=True) is not None:
                found[sensor] = tokens
        return found

    def _unusable(self, sensor: str) -> str | None:
        """Why the newest frame of a sensor cannot be used, as far as is known before encoding."""
        frame = self._held.get(sensor)
        if frame is None:
            return "it has sent no frame yet"
        age_ms = self._age_ms(frame)
        if age_ms > self._max_age_ms:
            return f"its frame is {age_ms:.0f} ms old, allowed {self._max_age_ms:.0f}"
        return self._perception.refusal(frame) or self._known.get(sensor)

    def _age_ms(self, frame: SensorFrame) -> float:
        return (self.newest_ns - frame.stamp_ns) / 1e6

    def _use(self, sensor: str, *, reused: bool) -> SensorUse | None:
        tokens = self._perception.tokens(sensor)
        if tokens is None:
            return None
        age_ms = self._age_ms(tokens.frame)
        if age_ms > self._max_age_ms:
            return None
        return SensorUse(
            stamp_ns=tokens.frame.stamp_ns,
            age_ms=age_ms,
            reused=reused,
            carried=self._perception.carries(sensor, self._here),
        )
