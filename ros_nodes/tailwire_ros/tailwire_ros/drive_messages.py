"""The messages of a drive as its robot sent them: of a bag as they are, of nuScenes as made.

Knows nothing of rclpy; messages stay serialised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tailwire.runtime.errors import ConfigError, DataError
from tailwire.simulation.annotated_objects import AnnotatedDrive
from tailwire.simulation.bags.contract import (
    ANSWER_TEXT_TOPIC,
    ANSWERS_TOPIC,
    SENSOR_MODALITIES,
    TF_STATIC_TOPIC,
    sensor_of_topic,
)
from tailwire.simulation.bags.read import BagDrive, in_order, open_bag
from tailwire.simulation.bags.storage import Channel
from tailwire.simulation.bags.write import BagMessage, SceneMessages
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.nuscenes.source import NuScenesDrive

#: What others publish while a drive is replayed.
_OTHERS = (ANSWERS_TOPIC, ANSWER_TEXT_TOPIC)


class DriveMessages:
    """One drive; every iteration begins anew."""

    def __init__(self, path: Path, scene: str = "", *, objects: bool = False) -> None:
        """Open a drive.

        Args:
            path: a nuScenes dataroot, a bag, or a folder of bags.
            scene: its name; empty takes the only one, or the first of a data set.
            objects: whether annotations of a data set are published as boxes.

        Raises:
            DataError: there is nothing that can be replayed.
        """
        if not path.exists():
            raise DataError("there is nothing here", field=str(path), remedy="check the path")
        self.source: BagDrive | NuScenesDrive
        if path.is_dir() and any(one.is_dir() for one in path.glob("v1.0-*")):
            data = NuScenes.open(path)
            kind = AnnotatedDrive if objects else NuScenesDrive
            named = scene or next((one.name for one in data.scenes if one.num_samples), "")
            if not named:
                raise DataError("no scene has a keyframe", field=str(path), remedy="make another")
            self.source = kind(data, named)
        else:
            self.source = open_bag(path, scene or None)

    @property
    def title(self) -> str:
        """What to call it in front of the user."""
        return self.source.title

    def check_sensors(self, sensors: Sequence[str], option: str) -> None:
        """Refuse names of sensors that the drive has not.

        Raises:
            ConfigError: naming the first.
        """
        known = self.source.sensors
        for sensor in sensors:
            if sensor not in known:
                raise ConfigError(
                    f"the drive has no sensor '{sensor}'",
                    field=option,
                    remedy=f"use some of {', '.join(known)}",
                )

    def __iter__(self) -> Iterator[BagMessage]:
        if isinstance(self.source, NuScenesDrive):
            yield from SceneMessages(self.source)
        else:
            yield from _of_bag(self.source)


def sensor_of(message: BagMessage) -> str | None:
    """The sensor whose frame a message is; None of all others."""
    return sensor_of_topic(message.topic) if message.type in SENSOR_MODALITIES else None


def _of_bag(drive: BagDrive) -> Iterator[BagMessage]:
    """In log-time order; static transforms, which a late recorder has late, come first."""

    def wanted(channel: Channel) -> int | None:
        return 0 if channel.topic in _OTHERS else None

    times: list[tuple[int, int]] = []
    for place, message in enumerate(drive.files.messages(lambda _: 0)):
        if message.channel.topic not in _OTHERS:
            first = message.channel.topic == TF_STATIC_TOPIC
            times.append((0 if first else message.log_time_ns, place))
    times.sort()
    places = np.array([place for _, place in times], np.int64)
    begins_ns = next((time for time, _ in times if time), 0)
    for message in in_order(drive.files.messages(wanted), places):
        channel = message.channel
        static = channel.topic == TF_STATIC_TOPIC
        time_ns = begins_ns if static else message.log_time_ns
        yield BagMessage(time_ns, channel.topic, channel.type, message.data)
