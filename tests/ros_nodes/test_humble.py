"""What rclpy of Humble offers, held against what the nodes use of it.

Humble itself is not on PyPI. `humble_rclpy.json` holds names and parameters that its rclpy 3.3.15
has, read from its sources as far as the nodes use them, and what the rclpy of Jazzy has beside it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODES = sorted((ROOT / "ros_nodes" / "tailwire_ros").rglob("*.py"))
SOURCES = [*NODES, *sorted((ROOT / "benchmarks").glob("ros_*.py"))]
#: Names that rclpy has in common with others: `Time` of messages, `Node` of launch files.
OTHERS = {"Time", "Node"}


@lru_cache(maxsize=1)
def humble() -> Any:
    """By module, the names it has; by function or class, its parameters; what only Jazzy has."""
    return json.loads(Path(__file__).with_name("humble_rclpy.json").read_text())


def unknown(source: str) -> Iterator[str]:
    """What a source uses that rclpy of Humble does not have."""
    names, parameters = humble()["names"], humble()["parameters"]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rclpy":
            for one in node.names:
                if one.name not in names.get(node.module or "", ()):
                    yield f"{node.lineno}: {node.module}.{one.name}"
        if isinstance(node, ast.Attribute) and node.attr in humble()["only_jazzy"]:
            yield f"{node.lineno}: .{node.attr}"
        if isinstance(node, ast.Call):
            called = node.func
            name = getattr(called, "id", None) or getattr(called, "attr", "")
            known = parameters.get(name)
            if name in OTHERS or known is None or "**" in known:
                continue
            for keyword in node.keywords:
                if keyword.arg is not None and keyword.arg not in known:
                    yield f"{node.lineno}: {name}({keyword.arg}=)"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nodes_use_only_what_humble_has(path: Path) -> None:
    assert list(unknown(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "from rclpy.experimental import EventsExecutor",
        "node.add_post_set_parameters_callback(f)",
        "node.create_timer(1.0, f, autostart=False)",
        "executor.spin_once(timeout=1.0)",
    ],
)
def test_what_came_later_is_found(source: str) -> None:
    assert len(list(unknown(source))) == 1


@pytest.mark.parametrize("path", NODES, ids=lambda path: path.name)
def test_nodes_are_python_3_10(path: Path) -> None:
    compile(ast.parse(path.read_text(), feature_version=(3, 10)), str(path), "exec")
