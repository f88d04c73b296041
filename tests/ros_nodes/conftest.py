"""The nodes of ROS 2 with the real rclpy and Fast DDS, from a ROS installation or from PyPI."""

from __future__ import annotations

import importlib.util
import os

import pytest

#: A domain of the tests' own, and nobody else's network.
os.environ.setdefault("ROS_DOMAIN_ID", str(30 + os.getpid() % 60))
os.environ.setdefault("ROS_LOCALHOST_ONLY", "1")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


def missing() -> str:
    """What of ROS is not there; empty where all is."""
    for name in ("rclpy", "sensor_msgs", "tf2_msgs", "vision_msgs", "tailwire_msgs"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not there; `make test-ros` runs this with ROS 2 from PyPI"
    return ""


@pytest.fixture(scope="session")
def ros() -> None:
    """Skips, with the reason, where ROS is not there."""
    if reason := missing():
        pytest.skip(reason)
