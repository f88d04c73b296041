"""Bags of the tiny data set and of the real keyframe, and bags as other robots record them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.simulation.bags import open_bag, write_bag
from tailwire.simulation.bags.contract import VISION_DEFINITIONS
from tailwire.simulation.nuscenes import NuScenes

pytest.importorskip("rosbags", reason="bags need the package rosbags: pip install 'tailwire[sim]'")

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

TYPES = get_typestore(Stores.ROS2_HUMBLE)
for _name, _definition in VISION_DEFINITIONS.items():
    TYPES.register(get_types_from_msg(_definition, _name))
STAMP_NS = 1_700_000_000_123_456_789


def ros(name: str, /, **fields: Any) -> Any:
    """A message of a type, e.g. `std_msgs/msg/String`."""
    return TYPES.types[name](**fields)


def header(stamp_ns: int, frame: str = "somewhere") -> Any:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    stamp = ros("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return ros("std_msgs/msg/Header", stamp=stamp, frame_id=frame)


def image(pixels: np.ndarray, encoding: str, stamp_ns: int = STAMP_NS, pad: int = 0) -> Any:
    """A `sensor_msgs/Image` whose rows are longer than the picture by `pad` bytes."""
    rows = pixels.reshape(len(pixels), -1)
    padded = np.hstack([rows, np.full((len(rows), pad), 99, np.uint8)])
    return ros(
        "sensor_msgs/msg/Image",
        header=header(stamp_ns),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=padded.shape[1],
        data=np.ascontiguousarray(padded).reshape(-1),
    )


def cloud(
    points: np.ndarray, stamp_ns: int = STAMP_NS, *, height: int = 1, row_pad: int = 0
) -> Any:
    """A `sensor_msgs/PointCloud2` of a structured array, laid out as its dtype says."""
    codes = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
    layout = points.dtype.fields
    assert layout is not None
    fields = [
        ros(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=offset,
            datatype=codes[kind.str[1:]],
            count=1,
        )
        for name, (kind, offset, *_) in layout.items()
    ]
    big = any(kind.str[0] == ">" for kind, *_ in layout.values())
    rows = points.reshape(height, -1)
    data = b"".join(row.tobytes() + b"\xee" * row_pad for row in rows)
    step = points.dtype.itemsize
    return ros(
        "sensor_msgs/msg/PointCloud2",
        header=header(stamp_ns),
        height=height,
        width=rows.shape[1],
        fields=fields,
        is_bigendian=big,
        point_step=step,
        row_step=step * rows.shape[1] + row_pad,
        data=np.frombuffer(data, np.uint8),
        is_dense=False,
    )


Message = tuple[str, str, int, Any]
"""Topic, type, log time, message or its bytes."""


def write_foreign(
    out: Path,
    messages: Sequence[Message],
    plugin: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
    on_write: Callable[[bytes], bytes] = bytes,
) -> Path:
    """A bag written by rosbags alone."""
    writer = Writer(out, version=9, storage_plugin=plugin)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    connections: dict[tuple[str, str], Any] = {}
    with writer:
        for topic, kind, log_time_ns, message in messages:
            if (topic, kind) not in connections:
                connections[topic, kind] = writer.add_connection(topic, kind, typestore=TYPES)
            if not isinstance(message, bytes):
                message = bytes(TYPES.serialize_cdr(message, kind))
            writer.write(connections[topic, kind], log_time_ns, on_write(message))
    return out


@pytest.fixture(scope="session")
def tiny_bag(written_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set as a bag; tests must not change it."""
    out = tmp_path_factory.mktemp("bags") / "scene-0001"
    write_bag(NuScenes.open(written_root), "scene-0001", out)
    return out


@pytest.fixture(scope="session")
def tiny_mcap(tiny_bag: Path) -> bytes:
    """The bytes of its MCAP file."""
    return (tiny_bag / "scene-0001.mcap").read_bytes()


@pytest.fixture(scope="session")
def real_bag(keyframe_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real keyframe as a bag."""
    out = tmp_path_factory.mktemp("bags") / "scene-0061"
    write_bag(NuScenes.open(keyframe_root), "scene-0061", out)
    return out


def frames_of(path: Path) -> tuple[list[Any], list[str], tuple[str, ...]]:
    """Frames, reasons of drops, and notes of a bag."""
    drops: list[str] = []
    drive = open_bag(path)
    frames = list(drive.frames(on_drop=lambda sensor, stamp, error: drops.append(str(error))))
    return frames, drops, drive.report.notes()
