# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Events of the middleware, told without the executor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from std_msgs.msg import String

from tailwire_ros.reading import Elsewhere, poll_events

from .robot import wait_for

RELIABLE = QoSProfile(depth=1)
BEST_EFFORT = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)


@pytest.fixture
def node() -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context)
    made = rclpy.create_node("events", context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


def listen(node: Any, told: list[Any], group: Any) -> Any:
    """A reliable subscription whose events end up in a list."""
    found = node.create_subscription(
        String, "/talk", lambda _: None, RELIABLE, callback_group=group
    )
    for handler in found.event_handlers:
        handler.callback = told.append
    return found


def test_a_publisher_that_does_not_fit_is_told_once(node: Any) -> None:
    told: list[Any] = []
    subscription = listen(node, told, Elsewhere())
    assert poll_events(node.context, [subscription]) == 0
    node.create_publisher(String, "/talk", BEST_EFFORT)
    wait_for(lambda: poll_events(node.context, [subscription]))
    assert len(told) == 1 and told[0].total_count == 1
    assert poll_events(node.context, [subscription]) == 0


def test_the_executor_leaves_them_alone(node: Any) -> None:
    beside, within = list[Any](), list[Any]()
    apart = listen(node, beside, Elsewhere())
    listen(node, within, None)
    node.create_publisher(String, "/talk", BEST_EFFORT)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end_s = time.monotonic() + 20
    while not within and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    assert len(within) == 1 and not beside
    wait_for(lambda: poll_events(node.context, [apart]))
    assert len(beside) == 1


def test_what_is_destroyed_has_none(node: Any) -> None:
    told: list[Any] = []
    subscription = listen(node, told, Elsewhere())
    node.create_publisher(String, "/talk", BEST_EFFORT)
    node.destroy_subscription(subscription)
    assert poll_events(node.context, [subscription]) == 0
    assert poll_events(node.context, []) == 0
    assert not told
