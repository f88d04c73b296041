"""Transforms of a robot that runs: what is old is forgotten, what is asked for stays right."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tailwire.simulation.bags.transforms import Transforms

SECOND_NS = 1_000_000_000


def message(stamp_ns: int, parent: str, child: str, x: float) -> Any:
    stamp = SimpleNamespace(sec=stamp_ns // SECOND_NS, nanosec=stamp_ns % SECOND_NS)
    transform = SimpleNamespace(
        translation=SimpleNamespace(x=x, y=0.0, z=0.0),
        rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0),
    )
    header = SimpleNamespace(stamp=stamp, frame_id=parent)
    one = SimpleNamespace(header=header, child_frame_id=child, transform=transform)
    return SimpleNamespace(transforms=[one])


def test_a_robot_that_runs_for_long_remembers_a_while() -> None:
    tree = Transforms("robot/base")
    tree.add(message(0, "robot/base", "eye", 2.0), static=True)
    for place in range(1000):
        tree.add(message(place * SECOND_NS // 10, "odom", "robot/base", float(place)), static=False)
        tree.forget_before_newest(2 * SECOND_NS)
        assert len(tree.ego_stamps()) <= 45
    held = tree.ego_stamps()
    assert held[-1] == 999 * SECOND_NS // 10
    assert held[0] <= held[-1] - 2 * SECOND_NS
    pose = tree.odometry(held[-1] - SECOND_NS // 20)
    assert pose is not None
    assert pose[0, 3] == 998.5
    mounted = tree.to_ancestor("eye", held[-1], "robot/base")
    assert mounted is not None
    np.testing.assert_array_equal(mounted[:3, 3], [2, 0, 0])


def test_motion_is_forgotten_and_mounts_are_kept() -> None:
    tree = Transforms()
    tree.add(message(0, "base_link", "eye", 2.0), static=True)
    tree.add(message(SECOND_NS, "odom", "base_link", 1.0), static=False)
    tree.forget_motion()
    assert tree.odometry(SECOND_NS) is None
    assert tree.to_ancestor("eye", 0, "base_link") is not None
