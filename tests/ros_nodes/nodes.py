# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Runtime nodes for tests, with two standing questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tailwire_ros.runtime_node import RuntimeNode

from .conftest import Setup
from .robot import overrides

QUESTIONS = {
    "questions": ["bus", "count"],
    "question.bus.text": "Is there a bus behind me?",
    "question.bus.answers": ["yes", "no"],
    "question.count.text": "How many cars are there?",
    "question.count.answers": ["0", "1", "2", "3"],
}
Spin = Callable[[Any], Any]


def make(spin: Spin, setup: Setup, namespace: str = "", **changes: Any) -> RuntimeNode:
    """A node that is spun and not configured."""
    values = {**setup.parameters, **QUESTIONS, **changes}
    return spin(RuntimeNode(namespace=namespace, parameter_overrides=overrides(values)))


def start(spin: Spin, setup: Setup, namespace: str = "", **changes: Any) -> RuntimeNode:
    """A node that is active."""
    node = make(spin, setup, namespace, **changes)
    assert node.start()
    return node


def state(node: RuntimeNode) -> int:
    """A constant of `lifecycle_msgs/State`."""
    return node._state_machine.current_state[0]  # pyright: ignore[reportPrivateUsage]
