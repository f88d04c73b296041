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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.subscription import Subscription

#: A message and what the middleware knows of it, e.g. when it came.
Take = Callable[[Any, Mapping[str, Any]], None]

_TICK_NS = 50_000_000
_PAUSE_S = 0.05


class ReadElsewhere(ReentrantCallbackGroup):
    """Keeps subscriptions from the executor; their events stay with it."""

    def can_execute(self, entity: Any) -> bool:
        """Whether the executor may wait for it."""
        return not isinstance(entity, Subscription)

    def beginning_execution(self, entity: Any) -> bool:
        """Whether the executor may execute it."""
        return self.can_execute(entity)


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
            subscriptions: in a group `ReadElsewhere`, with what takes their messages. Of messages
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
