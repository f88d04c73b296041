"""Runs a node in this process until it is told to end, or has done its work."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.signals import SignalHandlerOptions

from tailwire.runtime.errors import TailwireError

#: Python lets another thread wait 5 ms for its turn; answers shall not wait that long for messages
#: that are taken in meanwhile.
_TURN_S = 0.0005
#: Cancels are seen while goals are worked on, and services beside them.
_THREADS = 6
_TICK_S = 0.2
_PATIENCE_S = 5.0


def run(
    make: Callable[[], Any],
    *,
    start: Callable[[Any], bool] | None = None,
    close: Callable[[Any], None] = lambda _: None,
    over: Callable[[Any], bool] = lambda _: False,
    failed: Callable[[Any], bool] = lambda _: False,
) -> int:
    """Make a node and spin it.

    Args:
        make: makes the node.
        start: called with it, in a thread, once it is spun; False ends the process with an error.
        close: called at the end, while what the node does in the background goes on.
        over: asked several times a second whether the node has done its work.
        failed: asked at the end whether the node has failed.

    Returns:
        Exit code: 0, or 1 where the node cannot be made or started, or has failed.
    """
    sys.setswitchinterval(_TURN_S)
    # rclpy's own handler would take the ground from under goals that are worked on.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    ending, broken = threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    node: Any = None
    starting: threading.Thread | None = None
    executor = MultiThreadedExecutor(num_threads=_THREADS)
    try:
        node = make()
        executor.add_node(node)
        if start is not None:
            starting = threading.Thread(
                target=_start, args=(start, node, ending, broken), daemon=True
            )
            starting.start()
        spin(executor, lambda: ending.is_set() or over(node), node.get_logger().error)
    except TailwireError as error:
        sys.stderr.write(f"error: {error}\n")
        broken.set()
    finally:
        if starting is not None:
            # What is being built takes minutes, and is built again next time.
            starting.join(_PATIENCE_S)
        if node is not None:
            close(node)
            if failed(node):
                broken.set()
        executor.shutdown(_PATIENCE_S)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return int(broken.is_set())


def spin(executor: Any, is_over: Callable[[], bool], complain: Callable[[str], None]) -> None:
    """Spin until all is over, whatever a callback raises.

    Args:
        executor: of rclpy, which passes on what callbacks raise.
        is_over: asked several times a second.
        complain: told of what nobody foresaw.
    """
    while not is_over():
        try:
            executor.spin_once(timeout_sec=_TICK_S)
        except ExternalShutdownException:
            return
        except _rclpy.InvalidHandle:
            # Something was waiting for a subscription or an action that is closed meanwhile.
            continue
        except Exception:  # noqa: BLE001 - one callback must not end the node
            complain(traceback.format_exc())


def _start(
    start: Callable[[Any], bool], node: Any, ending: threading.Event, broken: threading.Event
) -> None:
    if not start(node) and not ending.is_set():
        broken.set()
        ending.set()
