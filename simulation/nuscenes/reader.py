"""The nuScenes data set as a drive: scenes, keyframes, calibrated sensors, frames and boxes.

Tables are checked when the set is opened, sensor files when they are read; annotations are read
when the first is asked for. Radar is listed by nuScenes and not replayed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import DataError, SensorError
from ...runtime.frames import Modality, SensorFrame, SensorGeometry
from .annotations import Annotations
from .dataroot import REPLAYED, check_filenames, check_sensors, find_version
from .geometry import rigid_transform
from .records import Annotation, Calibration, RigidNumbers, Sample, SampleData, Scene, Snapshot
from .schema import LABEL_TABLES, REPLAY_TABLES, TABLES
from .sensor_files import read_cloud, read_image
from .tables import Table, Tables

_NS_PER_US = 1000


class NuScenes:
    """One opened data set of one version; safe to share between readers, nothing is written."""

    def __init__(self, dataroot: Path, version: str) -> None:
        """Read and check the replay tables; `NuScenes.open` also finds the version.

        Args:
            dataroot: the folder that holds `samples/`, `sweeps/` and the version folder.
            version: e.g. `v1.0-mini`.

        Raises:
            DataError: a table is missing or wrong; the message names table, record and field.
        """
        self.dataroot = dataroot
        self.version = version
        self._tables = Tables(dataroot / version)
        self._tables.load((*REPLAY_TABLES, "log"))
        self._scene, self._sample = self._tables["scene"], self._tables["sample"]
        self._data, self._sensor = self._tables["sample_data"], self._tables["sensor"]
        self._calibrated, self._pose = self._tables["calibrated_sensor"], self._tables["ego_pose"]
        self._sensor_names = [channel.lower() for channel in self._sensor.texts["channel"]]
        check_sensors(self._sensor, self._sensor_names, self._calibrated)
        check_filenames(self._data)
        self._sensor_of_data = self._calibrated.rows["sensor_token"][
            self._data.rows["calibrated_sensor_token"]
        ]
        self._scene_of_data = self._sample.rows["scene_token"][self._data.rows["sample_token"]]
        self._keyframe_keys, self._keyframe_rows = self._index_keyframes()

    @classmethod
    def open(cls, dataroot: Path | str, version: str | None = None) -> NuScenes:
        """Open a data set.

        Args:
            dataroot: the folder that holds `samples/`, `sweeps/` and the version folder.
            version: e.g. `v1.0-trainval`; None takes the only `v1.0-*` folder there is.

        Raises:
            DataError: there is no such folder, no version or more than one, or a table is
                missing or wrong.
        """
        dataroot = Path(dataroot)
        return cls(dataroot, find_version(dataroot, version))

    def check(self) -> None:
        """Read the tables that a replay does not need, and check them like the others.

        Raises:
            DataError: one of the thirteen tables is wrong.
        """
        self._tables.load(name for name in TABLES if name not in LABEL_TABLES)
        self._tables.load(LABEL_TABLES)

    @cached_property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, in the order of the table."""
        names, texts = self._scene.texts["name"], self._scene.texts["description"]
        counts = np.bincount(self._sample.rows["scene_token"], minlength=len(names)).tolist()
        return tuple(map(Scene, self._scene.tokens, names, texts, counts))

    @cached_property
    def sensors(self) -> tuple[str, ...]:
        """Names of the cameras and LiDARs, e.g. `cam_front`: the channels in lower case."""
        modalities = self._sensor.texts["modality"]
        return tuple(
            name
            for name, modality in zip(self._sensor_names, modalities, strict=True)
            if modality in REPLAYED
        )

    def samples(self, scene: Scene | str) -> tuple[Sample, ...]:
        """The keyframes of a scene in stamp order.

        Args:
            scene: the record, its token or its name.

        Raises:
            DataError: there is no such scene.
        """
        rows = np.flatnonzero(self._sample.rows["scene_token"] == self._scene_row(scene))
        ordered = rows[np.argsort(self._sample.numbers["timestamp"][rows], kind="stable")]
        return tuple(map(self._sample_record, ordered.tolist()))

    def sample(self, token: str) -> Sample:
        """The keyframe of this token.

        Raises:
            DataError: there is no such keyframe.
        """
        return self._sample_record(self._sample_row(token))

    def sample_data(self, sensor: str, sample_token: str) -> SampleData:
        """The file record of one sensor at one keyframe.

        Raises:
            SensorError: the sensor is unknown, or has no file at this keyframe.
            DataError: there is no such keyframe.
        """
        (sensor_row,) = self._sensor_rows([sensor])
        return self._data_record(self._keyframe_row(sensor_row, self._sample_row(sample_token)))

    def calibration(self, sensor: str, sample_token: str) -> Calibration:
        """How a sensor was mounted at a keyframe.

        Raises:
            SensorError: the sensor is unknown, or has no file at this keyframe.
            DataError: there is no such keyframe.
        """
        return self.calibration_of(self.sample_data(sensor, sample_token))

    def calibration_of(self, sample_data: SampleData) -> Calibration:
        """How the sensor of one file, keyframe or sweep, was mounted."""
        row = int(self._data.rows["calibrated_sensor_token"][self._data_row(sample_data)])
        numbers = self._calibrated.numbers
        transform = rigid_transform(numbers["translation"][row], numbers["rotation"][row])
        transform.flags.writeable = False
        is_camera = sample_data.modality == "camera"
        intrinsic = self._calibrated.intrinsics["camera_intrinsic"][row] if is_camera else None
        return Calibration(transform, intrinsic)

    def ego_pose(self, sample_data: SampleData) -> NDArray[np.float64]:
        """Where the vehicle was when a file was captured: global_from_ego, float64 `[4, 4]`.

        Every sensor of a keyframe has its own pose, for the vehicle moves between their stamps.
        """
        row = int(self._data.rows["ego_pose_token"][self._data_row(sample_data)])
        return rigid_transform(
            self._pose.numbers["translation"][row], self._pose.numbers["rotation"][row]
        )

    def ego_pose_numbers(self, sample_data: SampleData) -> RigidNumbers:
        """`ego_pose` as its table writes it: a quaternion cannot be had back from a matrix."""
        row = int(self._data.rows["ego_pose_token"][self._data_row(sample_data)])
        return _numbers(self._pose, row)

    def calibration_numbers(self, sample_data: SampleData) -> RigidNumbers:
        """How the sensor of one file was mounted, ego from sensor, as its table writes it."""
        row = int(self._data.rows["calibrated_sensor_token"][self._data_row(sample_data)])
        return _numbers(self._calibrated, row)

    def annotations(self, sample_token: str) -> tuple[Annotation, ...]:
        """The annotated boxes of a keyframe; none in a split without annotations.

        Raises:
            DataError: there is no such keyframe, or a table of annotations is wrong. The first
                call reads these tables, which takes a while for a large split.
        """
        return self._annotations.of_sample(self._sample_row(sample_token))

    def velocities(self, sample_token: str) -> NDArray[np.float64]:
        """How the annotated boxes of a keyframe move, in the order of `annotations`.

        From the box before to the one behind of the same instance, as the devkit has it.

        Returns:
            float64 `[n, 3]`, m/s, global frame; NaN where no box within 1.5 s tells.

        Raises:
            DataError: as `annotations`.
        """
        return self._annotations.velocities_of_sample(self._sample_row(sample_token))

    @property
    def has_annotations(self) -> bool:
        """Whether there is any box; a split for testing has none."""
        return len(self._annotations) > 0

    def read(self, sample_data: SampleData) -> SensorFrame:
        """The frame in one file: undecoded image bytes, or a float32 cloud `[n, 5]`.

        Raises:
            SensorError: the file is missing, cut off, empty or of another format.
        """
        path = self.dataroot / sample_data.filename
        return SensorFrame(
            sensor=sample_data.sensor,
            modality=sample_data.modality,
            stamp_ns=sample_data.stamp_ns,
            frame_id=sample_data.sensor,
            payload=read_image(path) if sample_data.modality == "camera" else read_cloud(path),
            geometry=self.geometry_of(sample_data),
        )

    def geometry_of(self, sample_data: SampleData) -> SensorGeometry:
        """Where the sensor of one file, keyframe or sweep, was when it was captured."""
        calibration = self.calibration_of(sample_data)
        size = (sample_data.width, sample_data.height)
        return SensorGeometry(
            calibration.ego_from_sensor,
            calibration.intrinsic,
            size if min(size) > 0 else None,
            self.ego_pose(sample_data),
        )

    def frames(
        self, sample_token: str, sensors: Sequence[str] | None = None
    ) -> dict[str, SensorFrame]:
        """The frames of a keyframe, all of them or an error.

        Args:
            sample_token: the keyframe.
            sensors: names; None takes every camera and LiDAR.

        Returns:
            Sensor name to frame, in the order asked for.

        Raises:
            SensorError: a sensor is unknown, has no file at this keyframe, or its file is bad.
            DataError: there is no such keyframe.
        """
        sample_row = self._sample_row(sample_token)
        rows = (self._keyframe_row(sensor, sample_row) for sensor in self._sensor_rows(sensors))
        frames = [self.read(self._data_record(row)) for row in rows]
        return {frame.sensor: frame for frame in frames}

    def snapshot(self, sample_token: str, sensors: Sequence[str] | None = None) -> Snapshot:
        """The frames of a keyframe that can be read, with the reason for each that cannot.

        Args:
            sample_token: the keyframe.
            sensors: names; None takes every camera and LiDAR.

        Raises:
            SensorError: a sensor is unknown; that is the caller's mistake, not a bad frame.
            DataError: there is no such keyframe.
        """
        sample_row = self._sample_row(sample_token)
        frames: dict[str, SensorFrame] = {}
        dropped: dict[str, str] = {}
        for sensor_row in self._sensor_rows(sensors):
            name = self._sensor_names[sensor_row]
            try:
                frames[name] = self.read(
                    self._data_record(self._keyframe_row(sensor_row, sample_row))
                )
            except SensorError as error:
                dropped[name] = str(error)
        return Snapshot(frames, dropped)

    def drive_data(
        self, scene: Scene | str, sensors: Sequence[str] | None = None, sweeps: bool = True
    ) -> tuple[SampleData, ...]:
        """The file records of a scene in stamp order, no file read.

        Args:
            scene: the record, its token or its name.
            sensors: names; None takes every camera and LiDAR.
            sweeps: also the files between keyframes.

        Raises:
            SensorError: a sensor is unknown.
            DataError: there is no such scene.
        """
        chosen = np.isin(self._sensor_of_data, self._sensor_rows(sensors))
        chosen &= self._scene_of_data == self._scene_row(scene)
        if not sweeps:
            chosen &= self._data.numbers["is_key_frame"]
        rows = np.flatnonzero(chosen)
        order = np.lexsort((self._sensor_of_data[rows], self._data.numbers["timestamp"][rows]))
        return tuple(map(self._data_record, rows[order].tolist()))

    def drive(
        self,
        scene: Scene | str,
        sensors: Sequence[str] | None = None,
        sweeps: bool = True,
        on_drop: Callable[[SampleData, SensorError], None] | None = None,
        wanted: Callable[[SampleData], bool] | None = None,
    ) -> Iterator[SensorFrame]:
        """The frames of a scene in stamp order, one file read a step.

        Args:
            scene: the record, its token or its name.
            sensors: names; None takes every camera and LiDAR.
            sweeps: also the frames between keyframes.
            on_drop: called for a frame that cannot be read, and the drive goes on; None
                raises instead.
            wanted: tells which files are read; None reads all.

        Raises:
            SensorError: a sensor is unknown, or a file is bad and there is no `on_drop`.
            DataError: there is no such scene.
        """
        # Not a generator itself: a wrong scene or sensor shall fail here, not at the first step.
        files = self.drive_data(scene, sensors, sweeps)
        return self._replay(files if wanted is None else tuple(filter(wanted, files)), on_drop)

    def _replay(
        self,
        files: Sequence[SampleData],
        on_drop: Callable[[SampleData, SensorError], None] | None,
    ) -> Iterator[SensorFrame]:
        for file in files:
            try:
                frame = self.read(file)
            except SensorError as error:
                if on_drop is None:
                    raise
                on_drop(file, error)
                continue
            yield frame

    def _index_keyframes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sorted keys of (keyframe, sensor) and the rows they belong to."""
        rows = np.flatnonzero(self._data.numbers["is_key_frame"])
        keys = self._data.rows["sample_token"][rows] * len(self._sensor)
        keys += self._sensor_of_data[rows]
        order = np.argsort(keys, kind="stable")
        keys, rows = keys[order], rows[order]
        doubled = np.flatnonzero(keys[1:] == keys[:-1])
        if doubled.size:
            row = int(rows[doubled[0] + 1])
            channel = self._sensor.texts["channel"][self._sensor_of_data[row]]
            self._data.fail(
                row, "sample_token", f"the keyframe has a second keyframe file of {channel}"
            )
        return keys, rows

    def _keyframe_row(self, sensor_row: int, sample_row: int) -> int:
        key = sample_row * len(self._sensor) + sensor_row
        place = int(np.searchsorted(self._keyframe_keys, key))
        if place == len(self._keyframe_keys) or self._keyframe_keys[place] != key:
            raise SensorError(
                f"the sensor has no file at keyframe {self._sample.tokens[sample_row]}",
                field=self._sensor_names[sensor_row],
                remedy="leave the sensor out, or take a snapshot, which reports it as dropped",
            )
        return int(self._keyframe_rows[place])

    def _sensor_rows(self, sensors: Sequence[str] | None) -> list[int]:
        names = self.sensors if sensors is None else sensors
        for name in names:
            if name not in self.sensors:
                why = "a radar, which is not replayed" if name in self._sensor_names else "unknown"
                raise SensorError(
                    f"the sensor is {why}; known are {', '.join(self.sensors)}",
                    field=name,
                    remedy="name sensors of this data set",
                )
        return [self._sensor_names.index(name) for name in dict.fromkeys(names)]

    def _scene_row(self, scene: Scene | str) -> int:
        key = scene.token if isinstance(scene, Scene) else scene
        row = self._scene.row_of.get(key)
        if row is not None:
            return row
        names = self._scene.texts["name"]
        if key not in names:
            some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise DataError(
                f"there is no scene {key!r}; there are {len(names)}: {some}",
                field=f"{self.version}/scene.json",
                remedy="take the name or token of a scene of this data set",
            )
        return names.index(key)

    def _sample_row(self, token: str) -> int:
        return self._row(self._sample, token)

    def _data_row(self, sample_data: SampleData) -> int:
        return self._row(self._data, sample_data.token)

    def _row(self, table: Table, token: str) -> int:
        row = table.row_of.get(token)
        if row is None:
            raise DataError(
                f"there is no record {token!r}",
                field=table.file,
                remedy=f"take a token of {self.dataroot}, version {self.version}",
            )
        return row

    def _sample_record(self, row: int) -> Sample:
        scene_row = int(self._sample.rows["scene_token"][row])
        return Sample(
            token=self._sample.tokens[row],
            scene_token=self._scene.tokens[scene_row],
            stamp_ns=int(self._sample.numbers["timestamp"][row]) * _NS_PER_US,
        )

    def _data_record(self, row: int) -> SampleData:
        data, sensor_row = self._data, int(self._sensor_of_data[row])
        return SampleData(
            token=data.tokens[row],
            sample_token=self._sample.tokens[int(data.rows["sample_token"][row])],
            sensor=self._sensor_names[sensor_row],
            modality=cast(Modality, self._sensor.texts["modality"][sensor_row]),
            stamp_ns=int(data.numbers["timestamp"][row]) * _NS_PER_US,
            is_key_frame=bool(data.numbers["is_key_frame"][row]),
            filename=data.texts["filename"][row],
            width=int(data.numbers["width"][row]),
            height=int(data.numbers["height"][row]),
        )

    @cached_property
    def _annotations(self) -> Annotations:
        return Annotations(self._tables)


def _numbers(table: Table, row: int) -> RigidNumbers:
    translation, rotation = (table.numbers[name][row].tolist() for name in RigidNumbers._fields)
    return RigidNumbers(tuple(translation), tuple(rotation))
