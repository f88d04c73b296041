"""The first pass over a bag: what it holds, who is which sensor, and when each frame was taken.

Of sensor messages only the header is read here; transforms, calibration and keyframes are read
whole, as they are small.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Mapping

import numpy as np

from ...runtime.errors import DataError, SensorError
from ...runtime.frames import SensorGeometry
from ..annotated_objects import OBJECTS
from ..source import Keyframe
from .contract import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    DETECTIONS,
    KEYFRAME_TOPIC,
    OBJECT_VELOCITIES,
    OBJECTS_TOPIC,
    ODOMETRY,
    SENSOR_MODALITIES,
    STRING,
    TF_MESSAGE,
    TF_STATIC_TOPIC,
    TF_TOPIC,
    sensor_of_topic,
)
from .detections import velocity_rows
from .storage import BagFiles, Channel, RawMessage
from .transforms import Transforms
from .typestore import check_definition, deserialize

#: Encapsulation, stamp and frame of a header; frames with longer names are cut.
_HEADER_BYTES = 256


class Scan:
    """What one pass over a bag has found.

    Attributes:
        counts: messages by topic.
        skipped: topics that are not used, with the reason.
        bad: messages that could not be decoded in this pass, by topic.
        channel_of: sensor name to the channel that carries it.
        frame_of: sensor name to its coordinate frame, from its first message.
        without_stamp: sensor name to how many of its headers hold no stamp.
        stamps: of all sensor messages, ns, in the order of the bag.
        places: number of each of them among all messages of the bag.
        owners: index into `sensors` of each.
        keyframes: from the topic of keyframes.
        transforms: from `/tf`, `/tf_static` and odometry.
        intrinsics: sensor name to the matrix of its first valid calibration message.
        image_sizes: sensor name to width and height in that message, where it tells of them.
        velocities: of boxes, by topic and stamp in ns, float64 `[n, 3]`.
    """

    def __init__(self, files: BagFiles, topics: Mapping[str, str] | None) -> None:
        """Go through the bag.

        Args:
            files: of the bag.
            topics: topic to sensor name for those that shall not go by the rule; None for none.

        Raises:
            DataError: a file cannot be read at all.
        """
        self._names = dict(topics or {})
        self._usable: dict[Channel, bool] = {}
        self._have_info: set[str] = set()
        self.counts: Counter[Channel] = Counter()
        self.skipped: dict[str, str] = {}
        self.bad: Counter[str] = Counter()
        self.frame_of_channel: dict[Channel, str] = {}
        self._no_stamp: Counter[Channel] = Counter()
        self.stamps, self.places, self._owners = array("q"), array("q"), array("i")
        self._candidates: dict[Channel, int] = {}
        self.keyframes: list[Keyframe] = []
        self.transforms = Transforms()
        self.intrinsics: dict[str, np.ndarray] = {}
        self.image_sizes: dict[str, tuple[int, int]] = {}
        self.velocities: dict[tuple[str, int], np.ndarray] = {}
        for place, message in enumerate(files.messages(self._wanted, files.damage)):
            self.counts[message.channel] += 1
            self._take(place, message)
        for channel in files.channels():
            # Topics that were declared and never sent on are told of, too.
            self.counts.setdefault(channel, 0)
        self._settle_sensors()

    def _wanted(self, channel: Channel) -> int | None:
        if not self._check(channel):
            return 0
        if channel.type in SENSOR_MODALITIES:
            return _HEADER_BYTES
        if channel.type == CAMERA_INFO:
            return 0 if channel.topic in self._have_info else None
        return None

    def _check(self, channel: Channel) -> bool:
        """Whether messages of this channel are used."""
        usable = self._usable.get(channel)
        if usable is None:
            usable = self._usable[channel] = self._is_usable(channel)
        return usable

    def _is_usable(self, channel: Channel) -> bool:
        is_read = (
            channel.type in (*SENSOR_MODALITIES, CAMERA_INFO, ODOMETRY, OBJECT_VELOCITIES)
            or (channel.type == TF_MESSAGE and channel.topic in (TF_TOPIC, TF_STATIC_TOPIC))
            or (channel.type == STRING and channel.topic == KEYFRAME_TOPIC)
        )
        if not is_read:
            self.skipped[channel.topic] = f"the type {channel.type or 'without a name'} is not used"
            return False
        if channel.encoding != "cdr":
            self.skipped[channel.topic] = f"the encoding {channel.encoding!r} is not CDR"
            return False
        try:
            check_definition(channel.type, channel.definition)
        except DataError as error:
            self.skipped[channel.topic] = error.problem
            return False
        return True

    def _take(self, place: int, message: RawMessage) -> None:
        channel = message.channel
        if not self._check(channel):
            return
        if channel.type in SENSOR_MODALITIES:
            self._take_sensor(place, message)
            return
        if channel.type == CAMERA_INFO and channel.topic in self._have_info:
            return
        try:
            decoded = deserialize(message.data, channel.type)
        except ValueError:
            self.bad[channel.topic] += 1
            return
        if channel.type == TF_MESSAGE:
            self.bad[channel.topic] += self.transforms.add(
                decoded, channel.topic == TF_STATIC_TOPIC
            )
        elif channel.type == ODOMETRY:
            # Odometry of a wheel or a camera is none of the vehicle, and no fault.
            self.transforms.add_odometry(decoded)
        elif channel.type == STRING:
            self.keyframes.append(Keyframe(decoded.data, message.log_time_ns))
        elif channel.type == OBJECT_VELOCITIES:
            stamp_ns, _ = _header(message.data)
            self.velocities[channel.topic, stamp_ns] = velocity_rows(decoded)
        else:
            self._take_camera_info(channel.topic, decoded)

    def _take_sensor(self, place: int, message: RawMessage) -> None:
        stamp_ns, frame = _header(message.data)
        if stamp_ns <= 0:
            self._no_stamp[message.channel] += 1
            stamp_ns = message.log_time_ns
        self.frame_of_channel.setdefault(message.channel, frame)
        self.stamps.append(stamp_ns)
        self.places.append(place)
        self._owners.append(self._candidates.setdefault(message.channel, len(self._candidates)))

    def _take_camera_info(self, topic: str, decoded: object) -> None:
        matrix = np.array(decoded.k, dtype=np.float64).reshape(3, 3)  # pyright: ignore[reportAttributeAccessIssue]
        size = (int(decoded.width), int(decoded.height))  # pyright: ignore[reportAttributeAccessIssue]
        try:
            checked = SensorGeometry(np.eye(4), matrix).intrinsic
        except SensorError:
            # Uncalibrated drivers send zeros.
            self.bad[topic] += 1
            return
        assert checked is not None
        name = self._names.get(topic) or sensor_of_topic(topic)
        self.intrinsics[name] = checked
        if min(size) > 0:
            self.image_sizes[name] = size
        self._have_info.add(topic)

    def _settle_sensors(self) -> None:
        """Give each sensor one topic.

        A camera that comes twice is taken compressed; boxes that come twice from our own topic.
        """
        named: dict[str, Channel] = {}
        order = sorted(
            self._candidates,
            key=lambda c: (
                c.topic not in self._names,
                c.type != COMPRESSED_IMAGE,
                c.topic != OBJECTS_TOPIC,
                c.topic,
            ),
        )
        for channel in order:
            name = self._names.get(channel.topic) or _sensor_of(channel)
            if name in named:
                self.skipped[channel.topic] = (
                    f"it is {name} like {named[name].topic}; name it otherwise to use both"
                )
            else:
                named[name] = channel
        self.sensors = tuple(sorted(named))
        self.channel_of = {name: named[name] for name in self.sensors}
        self.frame_of = {n: self.frame_of_channel[c] for n, c in self.channel_of.items()}
        self.without_stamp = {
            name: self._no_stamp[channel]
            for name, channel in self.channel_of.items()
            if self._no_stamp[channel]
        }
        index = {channel: self.sensors.index(name) for name, channel in named.items()}
        renumbered = np.full(len(self._candidates) + 1, -1)
        for channel, number in self._candidates.items():
            renumbered[number] = index.get(channel, -1)
        owners = renumbered[np.asarray(self._owners, dtype=np.int64)]
        kept = owners >= 0
        self.owners = owners[kept]
        self.stamps_ns = np.asarray(self.stamps, dtype=np.int64)[kept]
        self.places_in_bag = np.asarray(self.places, dtype=np.int64)[kept]
        self.keyframes.sort(key=lambda keyframe: keyframe.stamp_ns)


def _sensor_of(channel: Channel) -> str:
    # A robot has one list of things around it, and no pack could know its topic.
    return OBJECTS if channel.type == DETECTIONS else sensor_of_topic(channel.topic)


def _header(data: bytes) -> tuple[int, str]:
    """Stamp in ns and frame of a message that begins with a header; 0 and "" where cut off."""
    if len(data) < 16:
        return 0, ""
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds, size = struct.unpack_from(f"{order}iII", data, 4)
    text = data[16 : 16 + size].rstrip(b"\0")
    return seconds * 1_000_000_000 + nanoseconds, text.decode("utf-8", "replace")
