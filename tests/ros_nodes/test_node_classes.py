# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""What the nodes' classes must not do to those of rclpy that they are made from."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from .conftest import missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

from rclpy.lifecycle import LifecycleNode

FOLDER = Path(__file__).resolve().parents[2] / "ros_nodes" / "tailwire_ros" / "tailwire_ros"


def own_attributes(source: str) -> set[str]:
    """Attributes that classes of nodes set on themselves."""
    found: set[str] = set()
    for kind in ast.walk(ast.parse(source)):
        if not isinstance(kind, ast.ClassDef) or not kind.name.endswith("Node"):
            continue
        found |= {
            one.attr
            for one in ast.walk(kind)
            if isinstance(one, ast.Attribute)
            and isinstance(one.ctx, ast.Store)
            and isinstance(one.value, ast.Name)
            and one.value.id == "self"
        }
    return found


@pytest.mark.parametrize("name", ["runtime_node", "replay_node", "recorder_node"])
def test_nothing_of_rclpy_is_overwritten(name: str, ros: None) -> None:
    own = own_attributes((FOLDER / f"{name}.py").read_text())
    assert own
    node = LifecycleNode("plain")
    try:
        # A publisher called `_clock` took the node's clock away, and with it its parameters.
        assert own & set(vars(node)) == set()
    finally:
        node.destroy_node()
