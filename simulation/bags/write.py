"""A scene of nuScenes as a ROS 2 bag: every message in log-time order, one file in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ...runtime.errors import DataError, SensorError
from ..annotated_objects import OBJECTS, AnnotatedDrive, objects_frame_of
from ..nuscenes.reader import NuScenes
from ..nuscenes.records import RigidNumbers, Sample, SampleData, Scene
from ..nuscenes.source import NuScenesDrive
from ..source import Keyframe
from . import detections
from . import messages as ros
from .contract import (
    ANNOTATIONS_TOPIC,
    BASE_FRAME,
    CAMERA_INFO,
    CLOCK,
    CLOCK_TOPIC,
    COMPRESSED_IMAGE,
    DETECTIONS,
    KEYFRAME_TOPIC,
    MAP_FRAME,
    MARKER_ARRAY,
    OBJECT_VELOCITIES,
    OBJECTS_TOPIC,
    ODOM_FRAME,
    ODOM_TOPIC,
    ODOMETRY,
    POINT_CLOUD,
    STRING,
    TF_MESSAGE,
    TF_STATIC_TOPIC,
    TF_TOPIC,
    camera_info_topic,
    image_topic,
    points_topic,
    sensor_frame,
    velocities_topic,
)
from .motion import twists
from .writer import BagWriter

#: ROS counts seconds in 32 bits with a sign.
_END_OF_TIME_NS = 2**31 * 1_000_000_000
_MAX_SIDE = 2**31


class BagMessage(NamedTuple):
    """One message to be written.

    Attributes:
        log_time_ns: when it was captured.
        topic: its topic.
        type: its type.
        data: CDR.
    """

    log_time_ns: int
    topic: str
    type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class DroppedFrame:
    """A sensor file that could not go into the bag, and why."""

    sensor: str
    stamp_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class TopicSummary:
    """How many messages went to a topic."""

    topic: str
    type: str
    count: int


@dataclass(frozen=True, slots=True)
class BagSummary:
    """What was written.

    Attributes:
        path: folder of the bag.
        title: of the drive in it.
        topics: in the order of their first messages.
        start_ns: log time of the first message.
        duration_ns: from the first message to the last.
        size_bytes: of the whole folder.
        dropped: sensor files that could not be read.
        num_frames: sensor messages in the bag.
        notes: what else the user should know.
    """

    path: Path
    title: str
    topics: tuple[TopicSummary, ...]
    start_ns: int
    duration_ns: int
    size_bytes: int
    dropped: tuple[DroppedFrame, ...]
    num_frames: int
    notes: tuple[str, ...] = ()


def write_bag(
    drive: NuScenes,
    scene: Scene | str,
    out: Path | str,
    *,
    sensors: Sequence[str] | None = None,
    objects: bool = False,
    compress: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> BagSummary:
    """Write one scene as a rosbag2 folder.

    Args:
        drive: the data set.
        scene: the record, its token or its name.
        out: folder to make; must not exist.
        sensors: names; None takes every camera and LiDAR of the scene.
        objects: also write the annotations of keyframes as the sensor `objects`.
        compress: zstd in chunks.
        on_progress: told how many of how many sensor files are written.

    Returns:
        What was written; files that could not be read are in `dropped`.

    Raises:
        DataError: there is no such scene, no file of it can be read, `objects` are asked for and
            there are no annotations, or `out` cannot be written.
        SensorError: a sensor is unknown.
    """
    source = (AnnotatedDrive if objects else NuScenesDrive)(drive, scene)
    messages = SceneMessages(source, sensors, on_progress)
    return record(Path(out), messages, messages, compress=compress)


def record(
    out: Path, source: SceneMessages, stream: Iterator[BagMessage], *, compress: bool = False
) -> BagSummary:
    """Write the messages of a scene, and others that were merged with them.

    Args:
        out: folder to make.
        source: where the messages of the scene come from.
        stream: all messages, in log-time order.
        compress: zstd in chunks.

    Raises:
        DataError: no sensor file of the scene can be read, or `out` cannot be written.
    """
    counts: Counter[tuple[str, str]] = Counter()
    first_ns = last_ns = None
    with BagWriter(out, source.custom_data, compress=compress) as writer:
        for log_time_ns, topic, type_name, data in stream:
            writer.add_topic(topic, type_name)
            writer.write(topic, type_name, log_time_ns, data)
            counts[topic, type_name] += 1
            first_ns = log_time_ns if first_ns is None else first_ns
            last_ns = log_time_ns
        source.check_not_empty()
    return BagSummary(
        path=out,
        title=source.drive.title,
        topics=tuple(TopicSummary(*key, count) for key, count in counts.items()),
        start_ns=first_ns or 0,
        duration_ns=(last_ns or 0) - (first_ns or 0),
        size_bytes=folder_bytes(out),
        dropped=tuple(source.dropped),
        num_frames=source.num_frames,
        notes=source.notes(),
    )


def folder_bytes(folder: Path) -> int:
    """Size of the files in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir())


@dataclass
class SceneMessages:
    """The messages of a scene in log-time order; iterate once.

    At one stamp the clock comes first, then the pose, then what was seen, then what is known of
    it, so that a listener can place each message when it arrives.

    Attributes:
        drive: the scene; an `AnnotatedDrive` brings the sensor `objects`.
        sensors: names of cameras and LiDARs; None takes all.
        on_progress: told how many of how many sensor files are done.
        dropped: filled on the way.
        num_frames: of cameras and LiDARs, counted on the way.
    """

    drive: NuScenesDrive
    sensors: Sequence[str] | None = None
    on_progress: Callable[[int, int], None] | None = None
    dropped: list[DroppedFrame] = field(default_factory=list)
    num_frames: int = 0

    def __post_init__(self) -> None:
        data, scene = self.drive.data, self.drive.scene
        self._files = data.drive_data(scene, self.sensors)
        if not self._files:
            raise DataError(
                "the scene has no camera or LiDAR file of these sensors",
                field=scene.name,
                remedy="name other sensors, or another scene",
            )
        self._samples = data.samples(scene)
        # The poses of all sensors, also of those that are left out.
        self._other_poses = 0
        self._poses = self._collect_poses(data.drive_data(scene))
        self._mounts = self._collect_mounts()
        self._messages = self._make()

    @property
    def custom_data(self) -> dict[str, str]:
        """Goes into `metadata.yaml`."""
        scene = self.drive.scene
        texts = {
            "source": f"nuScenes {self.drive.data.version}",
            "scene": scene.name,
            "scene_token": scene.token,
            "description": scene.description,
        }
        return {key: ros.encodable(text) for key, text in texts.items()}

    def __iter__(self) -> Iterator[BagMessage]:
        return self._messages

    def __next__(self) -> BagMessage:
        return next(self._messages)

    def notes(self) -> tuple[str, ...]:
        """What the user should know besides the dropped files."""
        if not self._other_poses:
            return ()
        return (
            f"{self._other_poses} files have an ego pose that differs from another of the same "
            "stamp; the bag holds one pose a stamp",
        )

    def check_not_empty(self) -> None:
        """Refuse a bag without any frame.

        Raises:
            DataError: no sensor file could be read.
        """
        if not self.num_frames:
            raise DataError(
                f"none of the {len(self.dropped)} sensor files can be read; "
                f"the first: {self.dropped[0].reason}",
                field=self.drive.scene.name,
                remedy="unpack the sensor archives into the dataroot",
            )

    def _collect_poses(self, files: Sequence[SampleData]) -> dict[int, RigidNumbers]:
        poses: dict[int, RigidNumbers] = {}
        for file in files:
            pose = self.drive.data.ego_pose_numbers(file)
            if poses.setdefault(file.stamp_ns, pose) != pose:
                self._other_poses += 1
        return poses

    def _collect_mounts(self) -> dict[str, RigidNumbers]:
        """One calibration a sensor, as `/tf_static` can hold no more."""
        mounts: dict[str, RigidNumbers] = {}
        for file in self._files:
            mount = self.drive.data.calibration_numbers(file)
            frame = sensor_frame(file.sensor, file.modality)
            if mounts.setdefault(frame, mount) != mount:
                raise DataError(
                    f"the calibration of {file.sensor} changes within the scene, "
                    "which static transforms cannot tell",
                    field=self.drive.scene.name,
                    remedy="leave the sensor out with the list of sensors",
                )
        return mounts

    def _make(self) -> Iterator[BagMessage]:
        files_at: dict[int, list[SampleData]] = {}
        for file in self._files:
            files_at.setdefault(file.stamp_ns, []).append(file)
        samples_at = {sample.stamp_ns: sample for sample in self._samples}
        velocities = twists(self._poses)
        stamps = sorted({*self._poses, *samples_at})
        if not 0 <= stamps[0] <= stamps[-1] < _END_OF_TIME_NS:
            raise DataError(
                f"the stamps from {stamps[0]} to {stamps[-1]} ns are not between 1970 and 2038",
                field=self.drive.scene.name,
                remedy="mend the timestamps, which are microseconds since 1970",
            )
        yield BagMessage(stamps[0], TF_STATIC_TOPIC, TF_MESSAGE, self._static(stamps[0]))
        done = 0
        for stamp in stamps:
            yield BagMessage(stamp, CLOCK_TOPIC, CLOCK, ros.clock(stamp))
            pose = self._poses.get(stamp)
            if pose is not None:
                moving = ros.transforms(stamp, [(ODOM_FRAME, BASE_FRAME, pose)])
                yield BagMessage(stamp, TF_TOPIC, TF_MESSAGE, moving)
                odometry = ros.odometry(stamp, pose, *velocities[stamp])  # pyright: ignore[reportArgumentType]
                yield BagMessage(stamp, ODOM_TOPIC, ODOMETRY, odometry)
            for file in files_at.get(stamp, ()):
                yield from self._sensor_messages(file)
                done += 1
                if self.on_progress is not None:
                    self.on_progress(done, len(self._files))
            if stamp in samples_at:
                yield from self._keyframe_messages(samples_at[stamp])

    def _static(self, stamp_ns: int) -> bytes:
        edges = [(BASE_FRAME, frame, mount) for frame, mount in sorted(self._mounts.items())]
        return ros.transforms(stamp_ns, [(MAP_FRAME, ODOM_FRAME, ros.IDENTITY), *edges])

    def _sensor_messages(self, file: SampleData) -> Iterator[BagMessage]:
        data, stamp = self.drive.data, file.stamp_ns
        try:
            frame = data.read(file)
        except SensorError as error:
            self.dropped.append(DroppedFrame(file.sensor, stamp, str(error)))
            return
        name = sensor_frame(file.sensor, file.modality)
        intrinsic = data.calibration_of(file).intrinsic
        if isinstance(frame.payload, bytes) and intrinsic is not None:
            if not (0 <= file.width < _MAX_SIDE and 0 <= file.height < _MAX_SIDE):
                reason = f"the table gives its image {file.width} x {file.height} pixels"
                self.dropped.append(DroppedFrame(file.sensor, stamp, reason))
                return
            yield BagMessage(
                stamp,
                camera_info_topic(file.sensor),
                CAMERA_INFO,
                ros.camera_info(stamp, name, intrinsic, file.width, file.height),
            )
            image = ros.compressed_image(stamp, name, frame.payload)
            yield BagMessage(stamp, image_topic(file.sensor), COMPRESSED_IMAGE, image)
        else:
            # The file itself: the reader has left out points that are not finite.
            content = (data.dataroot / file.filename).read_bytes()
            cloud = ros.point_cloud(stamp, name, content)
            yield BagMessage(stamp, points_topic(file.sensor), POINT_CLOUD, cloud)
        self.num_frames += 1

    def _keyframe_messages(self, sample: Sample) -> Iterator[BagMessage]:
        stamp = sample.stamp_ns
        yield BagMessage(stamp, KEYFRAME_TOPIC, STRING, ros.string(sample.token))
        boxes = self.drive.data.annotations(sample.token)
        markers = ros.annotation_markers(stamp, boxes)
        yield BagMessage(stamp, ANNOTATIONS_TOPIC, MARKER_ARRAY, markers)
        if isinstance(self.drive, AnnotatedDrive):
            yield from self._object_messages(Keyframe(sample.token, stamp))

    def _object_messages(self, keyframe: Keyframe) -> Iterator[BagMessage]:
        stamp = keyframe.stamp_ns
        try:
            frame = objects_frame_of(self.drive.data, keyframe)
        except SensorError as error:
            self.dropped.append(DroppedFrame(OBJECTS, stamp, str(error)))
            return
        frame = replace(frame, frame_id=BASE_FRAME)
        yield BagMessage(stamp, OBJECTS_TOPIC, DETECTIONS, detections.detections(frame))
        velocities = detections.velocities(frame)
        yield BagMessage(stamp, velocities_topic(OBJECTS_TOPIC), OBJECT_VELOCITIES, velocities)
