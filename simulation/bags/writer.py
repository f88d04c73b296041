"""A rosbag2 folder written aside, synced and then named: MCAP, CDR, metadata of version 9.

What is written is the caller's matter, see `contract.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ...runtime.errors import DataError
from ..nuscenes.disk import begin_partial, cannot_write, partial_of, sync_folder
from .contract import QOS, TopicQos
from .storage import Channel
from .typestore import missing_rosbags, ros_types, type_hash

if TYPE_CHECKING:
    from rosbags.interfaces import Connection, Qos

_DEFAULT_QOS = TopicQos()


class BagWriter:
    """Writes one bag; use it in a `with` block.

    The bag grows in `<out>.partial` and takes its name when the block ends well; when it ends
    with an error, what was written is removed. Messages shall come in log-time order.
    """

    def __init__(
        self, out: Path, custom_data: Mapping[str, str] | None = None, *, compress: bool = False
    ) -> None:
        """Check that the name is free; nothing is written yet.

        Args:
            out: folder of the bag to make; must not exist.
            custom_data: kept in `metadata.yaml`.
            compress: zstd in chunks of about 1 MB.

        Raises:
            DataError: `out` or the rest of an earlier write is in the way, or `rosbags` is not
                installed.
        """
        try:
            from rosbags.rosbag2 import StoragePlugin, Writer
            from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
        except ImportError as error:
            raise missing_rosbags(error) from error
        out = Path(out)
        if not out.name:
            raise DataError("this names no folder", field=str(out), remedy="name a new folder")
        self._out = out
        self._partial = partial_of(out)
        # Inside `.partial` under the final name, for the library names the file in it likewise.
        self._writer = Writer(
            self._partial / out.name, version=9, storage_plugin=StoragePlugin.MCAP
        )
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        for key, value in (custom_data or {}).items():
            self._writer.set_custom_data(key, value)
        self._connections: dict[tuple[str, str], Connection] = {}

    def __enter__(self) -> BagWriter:
        begin_partial(self._partial)
        try:
            self._writer.open()
        except OSError as error:
            raise cannot_write(error, self._out) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        published = False
        try:
            if kind is None:
                self._publish()
                published = True
            else:
                with suppress(OSError):
                    self._writer.abort()
        finally:
            if not published:
                shutil.rmtree(self._partial, ignore_errors=True)

    def add_topic(self, topic: str, type_name: str) -> None:
        """Declare a topic with the QoS of the contract; once more does nothing."""
        if (topic, type_name) in self._connections:
            return
        self._connections[topic, type_name] = self._writer.add_connection(
            topic,
            type_name,
            typestore=ros_types(),
            offered_qos_profiles=[_profile(QOS.get(topic, _DEFAULT_QOS))],
        )

    def add_channel(self, channel: Channel) -> None:
        """Declare a topic as another bag has declared it; once more does nothing.

        Raises:
            DataError: its type is defined neither in that bag nor in ROS 2.
        """
        if (channel.topic, channel.type) in self._connections:
            return
        definition = channel.definition
        if not definition:
            if channel.type not in ros_types().fielddefs:
                raise DataError(
                    f"the type {channel.type or 'without a name'} is defined nowhere",
                    field=channel.topic,
                    remedy="leave the topic out",
                )
            definition, _ = ros_types().generate_msgdef(channel.type, ros_version=2)
        self._connections[channel.topic, channel.type] = self._writer.add_connection(
            channel.topic,
            channel.type,
            msgdef=definition,
            rihs01=channel.type_hash or type_hash(channel.type, channel.definition),
            serialization_format=channel.encoding,
            offered_qos_profiles=_recorded_profiles(channel),
        )

    def write(self, topic: str, type_name: str, log_time_ns: int, data: bytes) -> None:
        """Write one serialised message of a declared topic.

        Raises:
            DataError: the disk is full or cannot be written.
        """
        try:
            self._writer.write(self._connections[topic, type_name], log_time_ns, data)
        except OSError as error:
            raise cannot_write(error, self._out) from error

    def _publish(self) -> None:
        inner = self._partial / self._out.name
        try:
            self._writer.close()
            for file in inner.iterdir():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
            sync_folder(inner)
            # Not over a folder that has come in the way, even an empty one.
            if self._out.exists():
                raise FileExistsError(None, "something has come in the way", str(self._out))
            inner.rename(self._out)
            self._partial.rmdir()
            sync_folder(self._out.parent)
        except OSError as error:
            raise cannot_write(error, self._out) from error


def _profile(qos: TopicQos) -> Qos:
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )

    # What rosbag2 writes for a duration that is not set.
    endless = QosTime(9223372036, 854775807)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=qos.depth,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if qos.latched else QosDurability.VOLATILE,
        deadline=endless,
        lifespan=endless,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=endless,
        avoid_ros_namespace_conventions=False,
    )


def _recorded_profiles(channel: Channel) -> list[Qos]:
    """The profiles of another bag; that of the contract where they cannot be read."""
    from rosbags.rosbag2.errors import ReaderError
    from rosbags.rosbag2.metadata import parse_qos

    try:
        profiles = parse_qos(channel.qos)
    except (ReaderError, KeyError, TypeError, AttributeError, ValueError):
        profiles = []
    return profiles or [_profile(QOS.get(channel.topic, _DEFAULT_QOS))]
