"""Runs one or several nodes in this process until it is told to end."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor

from tailwire.runtime.errors import TailwireError

#: Sensors are converted side by side, and cancels are seen while goals are worked on.
_THREADS = 6


def run(
    *make: Callable[[], Any], start: Callable[[Any], bool] | None = None, threads: int = _THREADS
) -> int:
    """Make nodes and spin them.

    Args:
        *make: makes a node.
        start: called with the first node once all are spun; False ends the process with an error.
        threads: of the executor.

    Returns:
        Exit code: 0, or 1 where a node cannot be made or started.
    """
    rclpy.init()
    nodes: list[Any] = []
    failed = threading.Event()
    executor = MultiThreadedExecutor(num_threads=threads)
    try:
        for one in make:
            nodes.append(one())
            executor.add_node(nodes[-1])
        if start is not None:
            threading.Thread(
                target=_start, args=(start, nodes[0], executor, failed), daemon=True
            ).start()
        while rclpy.ok() and not failed.is_set():
            executor.spin_once(timeout_sec=0.5)
    except TailwireError as error:
        sys.stderr.write(f"error: {error}\n")
        failed.set()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown()
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    return int(failed.is_set())


def _start(
    start: Callable[[Any], bool],
    node: Any,
    executor: MultiThreadedExecutor,
    failed: threading.Event,
) -> None:
    if not start(node):
        failed.set()
        executor.wake()
