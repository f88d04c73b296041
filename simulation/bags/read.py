"""A ROS 2 bag of this or any other robot as a drive: frames, keyframes, poses, calibration.

A bag is gone through once when it is opened, for its order and what is in it, and once a replay.
Messages are held back only as long as an older one is still to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import DataError, SensorError
from ...runtime.frames import SensorFrame, SensorGeometry
from ..nuscenes.records import Calibration
from ..source import Keyframe
from .clouds import cloud_points
from .contract import (
    BASE_FRAME,
    COMPRESSED_IMAGE,
    DETECTIONS,
    IMAGE,
    MAP_FRAME,
    ODOM_FRAME,
    SENSOR_MODALITIES,
    velocities_topic,
)
from .detections import detected_objects
from .images import compressed_payload, raw_image
from .scan import Scan
from .storage import BagFiles, Channel, RawMessage, is_bag_folder, open_files
from .typestore import deserialize, ros_types


@dataclass(frozen=True, slots=True)
class BagReport:
    """What is in a bag, and what of it is not used.

    Attributes:
        counts: messages by topic.
        types: type by topic.
        skipped: topic to the reason why its messages are not used.
        bad: topic to how many of its transforms, keyframes or calibrations are unusable.
        without_stamp: sensor to how many of its headers hold no stamp, so that the log time is
            taken.
        damage: a line for each kind of damage of the files.
    """

    counts: Mapping[str, int]
    types: Mapping[str, str]
    skipped: Mapping[str, str]
    bad: Mapping[str, int]
    without_stamp: Mapping[str, int]
    damage: tuple[str, ...]

    def notes(self) -> tuple[str, ...]:
        """What a user should be told, a line each; nothing of a bag without fault.

        Topics that a drive does not use, such as `/clock`, are no fault.
        """
        lines = list(self.damage)
        lines += [
            f"{topic}: {self.counts[topic]} messages skipped, {reason}"
            for topic, reason in self.skipped.items()
            if not reason.startswith("the type ")
        ]
        lines += [f"{topic}: {count} unusable" for topic, count in self.bad.items() if count]
        lines += [
            f"{sensor}: {count} headers without a stamp, the log time is taken"
            for sensor, count in self.without_stamp.items()
        ]
        return tuple(lines)


def open_bag(
    path: Path | str, scene: str | None = None, *, topics: Mapping[str, str] | None = None
) -> BagDrive:
    """Open a bag and go through it once.

    Args:
        path: folder of a rosbag2 bag, one `.mcap` or `.db3` file, or a folder of bags as
            `tailwire bag --all` writes it.
        scene: name of the scene; needed where the folder holds several bags.
        topics: topic to sensor name, for topics whose name does not tell; others go by the rule
            of `contract.sensor_of_topic`.

    Returns:
        The drive. What was damaged or is not used is in its `report`.

    Raises:
        DataError: there is no bag, none of the scene, or no sensor message in it.
    """
    folder = _find(Path(path), scene)
    ros_types()
    drive = BagDrive(open_files(folder), topics)
    if scene is not None and drive.scene not in (None, scene):
        raise DataError(
            f"the bag is of {drive.scene}, not of {scene}",
            field=str(path),
            remedy="leave the scene out, or give the bag of that scene",
        )
    return drive


def _find(path: Path, scene: str | None) -> Path:
    """The bag itself, which may be one of several in a folder."""
    if not path.is_dir() or is_bag_folder(path):
        return path
    bags = {one.name: one for one in sorted(path.iterdir()) if is_bag_folder(one)}
    if scene in bags:
        return bags[scene]
    if scene is None and len(bags) == 1:
        return next(iter(bags.values()))
    if not bags:
        return path
    some = ", ".join(list(bags)[:8]) + (", ..." if len(bags) > 8 else "")
    raise DataError(
        f"the folder holds {len(bags)} bags: {some}", field=str(path), remedy="name one as scene"
    )


class BagDrive:
    """One opened bag; implements `DriveSource`."""

    def __init__(self, files: BagFiles, topics: Mapping[str, str] | None = None) -> None:
        """Go through the bag; `open_bag` also finds it.

        Args:
            files: of the bag.
            topics: topic to sensor name.

        Raises:
            DataError: it cannot be read, or holds no sensor message.
        """
        self.files = files
        self._scan = scan = Scan(files, topics)
        self.path = files.path
        custom = files.metadata.get("custom_data")
        name = custom.get("scene") if isinstance(custom, dict) else None
        self.scene: str | None = name if isinstance(name, str) else None
        types: dict[str, str] = {}
        counts: dict[str, int] = {}
        for channel, count in scan.counts.items():
            types[channel.topic] = channel.type
            counts[channel.topic] = counts.get(channel.topic, 0) + count
        expected, total = files.metadata.get("message_count"), sum(counts.values())
        if isinstance(expected, int) and expected != total:
            files.damage.note(
                f"it counts {expected} messages, but {total} are found", "metadata.yaml"
            )
        self.report = BagReport(
            counts, types, scan.skipped, scan.bad, scan.without_stamp, files.damage.notes
        )
        if not scan.sensors:
            raise _nothing_found(files.path, self.report)

    @property
    def title(self) -> str:
        """The scene, or the name of the bag where it tells of none."""
        return f"{self.scene or self.path.stem}, bag"

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of its cameras and LiDARs, see `contract.sensor_of_topic`, and of its boxes.

        A topic of `vision_msgs/Detection3DArray` is called `objects` unless it was named otherwise.
        """
        return self._scan.sensors

    @property
    def boxes(self) -> tuple[str, ...]:
        """Those of its sensors that give boxes."""
        channels = self._scan.channel_of
        return tuple(name for name in self.sensors if channels[name].type == DETECTIONS)

    @property
    def keyframes(self) -> tuple[Keyframe, ...]:
        """From the topic of keyframes, in stamp order; none in a bag of another robot."""
        return tuple(self._scan.keyframes)

    @property
    def topics(self) -> Mapping[str, str]:
        """Sensor name to the topic it is read from."""
        return {name: channel.topic for name, channel in self._scan.channel_of.items()}

    def poses(self) -> Mapping[int, NDArray[np.float64]]:
        """Where the vehicle was: stamp in ns to global_from_ego, float64 `[4, 4]`.

        One for each transform of `base_link`; "global" is the root of the tree of frames. Those
        of a bag made from nuScenes equal `NuScenes.ego_pose` in every bit.
        """
        transforms = self._scan.transforms
        poses = {
            stamp: transforms.to_ancestor(BASE_FRAME, stamp, None)
            for stamp in transforms.ego_stamps()
        }
        return {stamp: pose for stamp, pose in poses.items() if pose is not None}

    def calibrations(self) -> Mapping[str, Calibration]:
        """How its sensors are mounted, of those whose frames hang below `base_link`."""
        found: dict[str, Calibration] = {}
        last_ns = int(self._scan.stamps_ns.max())
        for name, frame in self._scan.frame_of.items():
            transform = self._scan.transforms.to_ancestor(frame.lstrip("/"), last_ns, BASE_FRAME)
            if transform is not None:
                transform.flags.writeable = False
                found[name] = Calibration(transform, self._scan.intrinsics.get(name))
        return found

    def frames(
        self,
        sensors: Sequence[str] | None = None,
        on_drop: Callable[[str, int, SensorError], None] | None = None,
    ) -> Iterator[SensorFrame]:
        """Its frames in stamp order, one message decoded a step.

        Args:
            sensors: names; None takes all but boxes, which may be ground truth, so that they
                take part only where they are named.
            on_drop: told sensor, stamp in ns and reason of a message that is no frame, and the
                drive goes on; None raises instead.

        Raises:
            SensorError: a sensor is unknown, or a message is bad and there is no `on_drop`.
        """
        seeing = [name for name in self.sensors if name not in self.boxes]
        wanted = tuple(seeing if sensors is None else dict.fromkeys(sensors))
        for name in wanted:
            if name not in self.sensors:
                raise SensorError(
                    f"the sensor is unknown; known are {', '.join(self.sensors)}",
                    field=name,
                    remedy="name sensors of this bag",
                )
        return self._replay(wanted, on_drop)

    def _replay(
        self, wanted: Sequence[str], on_drop: Callable[[str, int, SensorError], None] | None
    ) -> Iterator[SensorFrame]:
        scan = self._scan
        chosen = np.isin(scan.owners, [self.sensors.index(name) for name in wanted])
        rows = np.flatnonzero(chosen)
        rows = rows[np.lexsort((scan.places_in_bag[rows], scan.stamps_ns[rows]))]
        channels = {scan.channel_of[name] for name in wanted}

        def size(channel: Channel) -> int | None:
            return None if channel in channels else 0

        messages = in_order(self.files.messages(size), scan.places_in_bag[rows])
        for row, message in zip(rows.tolist(), messages, strict=True):
            name = self.sensors[int(scan.owners[row])]
            stamp_ns = int(scan.stamps_ns[row])
            try:
                frame = self._frame(name, stamp_ns, message)
            except SensorError as error:
                if on_drop is None:
                    raise
                on_drop(name, stamp_ns, error)
                continue
            yield frame

    def _frame(self, sensor: str, stamp_ns: int, message: RawMessage) -> SensorFrame:
        kind = message.channel.type
        try:
            decoded = deserialize(message.data, kind)
            if kind == DETECTIONS:
                return self._objects(sensor, stamp_ns, decoded)
            if kind == COMPRESSED_IMAGE:
                payload = compressed_payload(decoded)
            else:
                payload = raw_image(decoded) if kind == IMAGE else cloud_points(decoded)
        except ValueError as error:
            raise SensorError(
                f"{error} ({message.channel.topic} at {stamp_ns} ns)",
                field=sensor,
                remedy="leave the sensor out, or record it again",
            ) from error
        frame_id = decoded.header.frame_id
        geometry = self._geometry(sensor, frame_id, stamp_ns)
        return SensorFrame(sensor, SENSOR_MODALITIES[kind], stamp_ns, frame_id, payload, geometry)

    def _objects(self, sensor: str, stamp_ns: int, decoded: Any) -> SensorFrame:
        """Boxes, moved to `base_link` where the bag tells how: a camera's frame lies on its side.

        Raises:
            ValueError: they are no objects, or nobody knows where.
        """
        scan, frame_id = self._scan, decoded.header.frame_id
        velocities = scan.velocities.get(
            (velocities_topic(scan.channel_of[sensor].topic), stamp_ns)
        )
        mounted = scan.transforms.to_base(frame_id.lstrip("/"), stamp_ns)
        payload = detected_objects(decoded, velocities, mounted)
        if mounted is not None:
            pose = scan.transforms.odometry(stamp_ns)
            geometry = SensorGeometry(np.eye(4), global_from_ego=pose)
            return SensorFrame(sensor, "objects", stamp_ns, BASE_FRAME, payload, geometry)
        if frame_id.lstrip("/") in (MAP_FRAME, ODOM_FRAME):
            raise ValueError(f"nobody knows where '{BASE_FRAME}' is in '{frame_id}' of the boxes")
        return SensorFrame(sensor, "objects", stamp_ns, frame_id, payload)

    def _geometry(self, sensor: str, frame_id: str, stamp_ns: int) -> SensorGeometry | None:
        """As far as the bag tells of it; None where nobody knows how the sensor is mounted."""
        scan = self._scan
        mounted = scan.transforms.to_ancestor(frame_id.lstrip("/"), stamp_ns, BASE_FRAME)
        if mounted is None:
            return None
        pose = scan.transforms.odometry(stamp_ns)
        return SensorGeometry(
            mounted, scan.intrinsics.get(sensor), scan.image_sizes.get(sensor), pose
        )


def in_order(messages: Iterator[RawMessage], places: NDArray[np.int64]) -> Iterator[RawMessage]:
    """Messages in another order than that of the bag, each held no longer than needed.

    Args:
        messages: all of the bag.
        places: numbers of those to give out, in the order to give them out.

    Raises:
        DataError: the bag has become shorter meanwhile.
    """
    sought = set(places.tolist())
    held: dict[int, RawMessage] = {}
    numbered = enumerate(messages)
    for place in places.tolist():
        while place not in held:
            number, message = next(numbered, (-1, None))
            if message is None:
                raise DataError(
                    "the bag has changed since it was opened",
                    field="bag",
                    remedy="open it again when nothing writes to it any more",
                )
            if number in sought:
                held[number] = message
        yield held.pop(place)


def _nothing_found(path: Path, report: BagReport) -> DataError:
    total = sum(report.counts.values())
    if total:
        topics = ", ".join(f"{topic} ({report.types[topic]})" for topic in list(report.counts)[:6])
        problem = (
            f"no image, point cloud or box is among its {total} messages; its topics are {topics}"
        )
    else:
        problem = "there is no message in it"
    if notes := report.notes():
        problem += f" ({'; '.join(notes[:3])})"
    return DataError(
        problem,
        field=str(path),
        remedy="record sensor_msgs Image, CompressedImage or PointCloud2, or vision_msgs "
        "Detection3DArray, or mend the bag with `ros2 bag reindex` or `mcap recover`",
    )
