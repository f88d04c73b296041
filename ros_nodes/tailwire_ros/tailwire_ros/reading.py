"""Takes the messages of an active node's sensors, in one thread beside the executor.

rclpy's executor looks at everything that a node has (services, actions, timers, events) before and
after every message, and holds Python's interpreter lock meanwhile: at hundreds of messages a second
answers waited for that. Here only subscriptions are waited for, with what `rclpy.wait_for_message`
is made of, in Humble and Jazzy alike.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.subscription import Subscription

from tailwire.simulation.bags.contract import CLOCK_TOPIC

#: A message and what the middleware knows of it, e.g. when it came.
Take = Callable[[Any, Mapping[str, Any]], None]

_TICK_NS = 50_000_000
_PAUSE_S = 0.05


class Elsewhere(ReentrantCallbackGroup):
    """Keeps subscriptions, and events of the middleware about topics, from the executor.

    Each event that it waits for costs it time whenever anything wakes it: with two for each topic
    a replayed clock of 40 ticks a second kept two thirds of a core busy.
    """

    def can_execute(self, entity: Any) -> bool:
        """Whether the executor may wait for it."""
        del entity
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Whether the executor may execute it."""
        return self.can_execute(entity)


def poll_events(context: Any, topics: Iterable[Any]) -> int:
    """Tell what the middleware has noticed about topics, e.g. a publisher whose QoS does not fit.

    Args:
        context: of rclpy.
        topics: subscriptions and publishers in a group `Elsewhere`; those that are destroyed
            meanwhile are left out.

    Returns:
        Events that were told.
    """
    handlers: list[Any] = []
    with ExitStack() as kept:
        for handler in (one for topic in topics for one in topic.event_handlers):
            with suppress(_rclpy.InvalidHandle):
                kept.enter_context(handler)
                handlers.append(handler)
        if not handlers:
            return 0
        kept.enter_context(context.handle)
        wait_set = _rclpy.WaitSet(0, 0, 0, 0, 0, len(handlers), context.handle)
        wait_set.clear_entities()
        for handler in handlers:
            handler.add_to_wait_set(wait_set)
        wait_set.wait(0)
        happened = [handler for handler in handlers if handler.is_ready(wait_set)]
        taken = [(handler, handler.take_data()) for handler in happened]
    for handler, data in taken:
        handler.callback(data)
    return len(taken)


class Reader:
    """Waits for subscriptions and hands their messages on; made when they are open."""

    def __init__(
        self,
        context: Any,
        subscriptions: Sequence[tuple[Subscription, Take]],
        complain: Callable[[str], None],
    ) -> None:
        """Start.

        Args:
            context: of rclpy.
            subscriptions: in a group `Elsewhere`, with what takes their messages. Of messages
                that are there together, those of earlier ones are handed on first.
            complain: told of what nobody foresaw.
        """
        self._context, self._subscriptions = context, list(subscriptions)
        self._complain = complain
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tailwire-sensors", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; the subscriptions can be destroyed then."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read()
            except Exception:  # noqa: BLE001 - one message must not end the node
                if self._stopping.is_set() or not self._context.ok():
                    return
                self._complain(traceback.format_exc())
                time.sleep(_PAUSE_S)

    def _read(self) -> None:
        with self._context.handle:
            wait_set = _rclpy.WaitSet(len(self._subscriptions), 0, 0, 0, 0, 0, self._context.handle)
        while not self._stopping.is_set() and self._context.ok():
            wait_set.clear_entities()
            for subscription, _ in self._subscriptions:
                wait_set.add_subscription(subscription.handle)
            # Others run meanwhile.
            wait_set.wait(_TICK_NS)
            ready = wait_set.get_ready_entities("subscription")
            for subscription, take in self._subscriptions:
                if subscription.handle.pointer in ready:
                    with subscription.handle:
                        taken = subscription.handle.take_message(
                            subscription.msg_type, subscription.raw
                        )
                    if taken is not None:
                        take(*taken)


class ClockBeside(Node):
    """A node whose simulated clock is read beside the executor, too.

    It ticks dozens of times a second, and each tick would have the executor look at everything.
    """

    _ticks: tuple[Any, Reader] | None = None

    def create_subscription(
        self, msg_type: Any, topic: str, callback: Any, qos_profile: Any, **options: Any
    ) -> Any:
        """As rclpy's; the one that rclpy's source of time makes is read elsewhere."""
        if topic != CLOCK_TOPIC:
            return super().create_subscription(msg_type, topic, callback, qos_profile, **options)
        options["callback_group"] = Elsewhere()
        made = super().create_subscription(msg_type, topic, callback, qos_profile, **options)
        takes = [(made, lambda message, _: callback(message))]
        self._ticks = made, Reader(self.context, takes, self.get_logger().error)
        return made

    def destroy_subscription(self, subscription: Any) -> bool:
        """As rclpy's."""
        if self._ticks is not None and subscription is self._ticks[0]:
            self.stop_clock()
        return super().destroy_subscription(subscription)

    def stop_clock(self) -> None:
        """Read it no more; before the node is destroyed."""
        clock, self._ticks = self._ticks, None
        if clock is not None:
            clock[1].stop()
