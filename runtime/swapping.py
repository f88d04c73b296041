"""The part of a runtime that exchanges what answers: weights, sensors, depth, all between frames.

Heads that a change needs run before, so that the change itself is a few assignments.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

from .adaptable import Adaptable
from .answering import AskedQuestion
from .asking import Preparer
from .connections import Connection
from .errors import ConfigError, SensorError
from .frame_loop import FrameLoop
from .language_model import LanguageModel
from .pack import PackManifest
from .parts import RuntimeParts
from .questions import Question
from .serving import Serving, check_swap


class Swapping(Adaptable):
    """What `Runtime` is made of as far as exchanging parts needs it."""

    def __init__(
        self,
        parts: RuntimeParts,
        *,
        tail_blocks: int | None,
        sensors: Sequence[str] | None,
        now: Callable[[], float],
    ) -> None:
        super().__init__(parts)
        self._loop = FrameLoop(parts, self._buffer, now=now)
        self._previous: Serving | None = None
        self._preparer = Preparer(parts.model, parts.pack.prompt)
        depth = parts.pack.tail_blocks if tail_blocks is None else tail_blocks
        self._tail_blocks = parts.checked_depth(depth)
        self._sensors = parts.checked_sensors(sensors)

    @property
    def pack(self) -> PackManifest:
        """The manifest of the loaded pack."""
        return self._parts.pack

    @property
    def model(self) -> LanguageModel:
        """The language model."""
        return self._parts.model

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sensors that are switched on."""
        return self._sensors

    @property
    def known_sensors(self) -> tuple[str, ...]:
        """All sensors of the pack."""
        return self._parts.perception.sensors

    @property
    def tail_blocks(self) -> int:
        """Depth of the tail that attends to the sensors."""
        return self._tail_blocks

    @property
    def parts(self) -> RuntimeParts:
        """What it is made of, to be looked at; the runtime exchanges some of it itself."""
        return self._parts

    @abstractmethod
    def _depths_at(self, tail_blocks: int) -> tuple[int, ...]:
        """Depths that the policy of now may choose where this one is configured."""

    def switch_sensors(self, sensors: Sequence[str] | None) -> None:
        """Choose which sensors are on, from the next frame; None for all.

        Raises:
            SensorError: a sensor is unknown.
        """
        with self._lock:
            self._sensors = self._parts.checked_sensors(sensors)

    def set_tail(self, tail_blocks: int) -> None:
        """Choose the tail depth, from the next frame.

        Raises:
            ConfigError: the depth does not fit the pack.
        """
        with self._lock:
            depth = self._parts.checked_depth(tail_blocks)
            # Only heads that end too early run again.
            self._watched |= {
                key: self._prepare(asked.question, depth)
                for key, asked in self._lacking(depth).items()
            }
            self._tail_blocks = depth

    def _lacking(self, depth: int) -> dict[int, AskedQuestion]:
        """Standing questions whose head has not all states that a depth and its like need."""
        boundaries = {self.model.boundary(one) for one in (depth, *self._depths_at(depth))}
        with self._lock:
            watched = self._watched.items()
            return {k: asked for k, asked in watched if not boundaries <= asked.head.states.keys()}

    def _prepare(self, question: Question, depth: int) -> AskedQuestion:
        self._check_open()
        unknown = [one for one in question.sensors if one not in self.known_sensors]
        if unknown:
            raise SensorError(
                f"there is no sensor '{unknown[0]}'",
                field="question.sensors",
                remedy=f"use some of {', '.join(self.known_sensors)}",
            )
        # Conditioned connections read the states at the deepest boundary, whatever the depth.
        deepest = self._parts.connection.spec.tail_blocks
        return self._preparer.prepare(question, (depth, *self._depths_at(depth), deepest))

    def swap_connection(self, connection: Connection) -> Connection:
        """Use other connection weights from the next frame.

        Args:
            connection: made by `Connection.with_weights`; both share one engine.

        Returns:
            The old one, for roll-back.

        Raises:
            ConfigError: the connection is of another shape.
        """
        with self._lock:
            return self.serve(replace(self.serving, connection=connection)).connection

    @property
    def connection(self) -> Connection:
        """The connection in use."""
        return self._parts.connection

    @property
    def serving(self) -> Serving:
        """All that answers now."""
        with self._lock:
            parts = self._parts
            return Serving(parts.connection, self._sensors, self._tail_blocks, parts.pack)

    def serve(self, serving: Serving) -> Serving:
        """Use other weights, sensors and depth, all from the same frame on.

        Heads that the new depth needs run before, question by question between frames, so that
        the swap itself is a few assignments.

        Returns:
            What served before, for roll-back.

        Raises:
            ConfigError: the connection is of another shape, or the depth does not fit.
            SensorError: a sensor is unknown.
        """
        parts, depth = self._parts, serving.tail_blocks
        check_swap(parts.connection, serving.connection)
        parts.checked_depth(depth)
        sensors = parts.checked_sensors(serving.sensors)
        ready = self._made_ready(depth)
        with self._lock:
            self._check_open()
            old = self.serving
            self._take_ready(depth, ready)
            parts.connection, parts.pack = serving.connection, serving.pack
            self._sensors, self._tail_blocks = sensors, depth
            self._loop.refresh()
            self._previous = old
            return old

    def _made_ready(self, depth: int) -> dict[int, AskedQuestion]:
        """Standing questions with the heads that they lack for a depth, one between two frames."""
        ready: dict[int, AskedQuestion] = {}
        for key, asked in self._lacking(depth).items():
            with self._lock:
                ready[key] = self._prepare(asked.question, depth)
        return ready

    def _take_ready(self, depth: int, ready: dict[int, AskedQuestion]) -> None:
        for key, asked in self._lacking(depth).items():
            # One that was watched meanwhile has none ready.
            self._watched[key] = ready.get(key) or self._prepare(asked.question, depth)

    def roll_back(self) -> Serving:
        """Serve with what served before the last swap; a second call takes that back.

        Returns:
            What served until now.

        Raises:
            ConfigError: nothing was swapped yet.
        """
        with self._lock:
            previous = self._previous
        if previous is None:
            raise ConfigError(
                "nothing was swapped yet", field="roll_back", remedy="adapt or swap first"
            )
        return self.serve(previous)
