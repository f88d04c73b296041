"""One scene written: its sensor files, and its records as thirteen small tables of its own.

A data set is many of these joined (`writer.py`). A scene's tables appear under their name only
when all of it is on the disk and our own reader has accepted them, so a folder of tables that is
there is a finished scene, whatever happened to the scenes after it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import DataError
from ...runtime.frames import Modality
from .disk import sync_folder
from .reader import NuScenes
from .schema import TABLES
from .sensor_files import encode
from .table_files import Row, token_of, write_tables

VISIBILITY_LEVELS = ("v0-40", "v40-60", "v60-80", "v80-100")
SCENE_TABLES_FOLDER = ".scenes"
"""Folder beside `samples/` that holds the tables of finished scenes, a folder for each."""

PLAIN_NAME = re.compile(r"[A-Za-z0-9_.+-]+")


class Mounts:
    """The sensors of a vehicle as their records."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Row]] = {"sensor": {}, "calibrated_sensor": {}}
        self._modality_of: dict[str, Modality] = {}
        self._calibration_of: dict[str, str] = {}

    def add(
        self,
        channel: str,
        modality: Modality,
        translation: Sequence[float],
        rotation: Sequence[float],
        intrinsic: NDArray[np.float64] | None = None,
    ) -> None:
        """Mount a sensor; see `NuScenesWriter.add_sensor`."""
        if not PLAIN_NAME.fullmatch(channel):
            raise DataError(
                f"{channel!r} makes no folder name", field="channel", remedy="take A-Z 0-9 _"
            )
        sensor = token_of("sensor", channel)
        if channel not in self._modality_of:
            row = {"token": sensor, "channel": channel, "modality": modality}
            self.rows["sensor"][sensor] = row
        self._modality_of[channel] = modality
        calibrations = self.rows["calibrated_sensor"]
        token = token_of("calibrated_sensor", channel, str(len(calibrations)))
        calibrations[token] = {
            "token": token,
            "sensor_token": sensor,
            "translation": _floats(translation),
            "rotation": _floats(rotation),
            "camera_intrinsic": [] if intrinsic is None else np.asarray(intrinsic, float).tolist(),
        }
        self._calibration_of[channel] = token

    def of(self, channel: str) -> tuple[Modality, str]:
        """Modality and newest calibration token of a sensor.

        Raises:
            DataError: it is not mounted.
        """
        if channel not in self._modality_of:
            raise DataError("no such sensor is mounted", field=channel, remedy="call add_sensor")
        return self._modality_of[channel], self._calibration_of[channel]


class SceneWriter:
    """Writes one scene below a data set's folder; `finish` ends it."""

    def __init__(
        self,
        root: Path,
        mounts: Mounts,
        name: str,
        description: str,
        *,
        logfile: str,
        location: str,
        date_captured: str,
        data_set: str = "",
    ) -> None:
        """Begin a scene.

        Args:
            root: the data set's folder, while it is written.
            mounts: the sensors; those added later count for frames added later.
            name: e.g. `scene-0001`; each only once in a data set.
            description: free text.
            logfile: name of the log, also the first part of every file name.
            location: where the drive took place.
            date_captured: `YYYY-MM-DD`.
            data_set: what tells the data set from others: its tokens shall be no other's, so that
                several can be read together.
        """
        for field, text in (("scene", name), ("logfile", logfile)):
            if not PLAIN_NAME.fullmatch(text) or text.startswith("."):
                raise DataError(
                    f"{text!r} makes no file name", field=field, remedy="take A-Z a-z 0-9 _.+-"
                )
        self._root, self._mounts, self._logfile = root, mounts, logfile
        self._space = (data_set,) if data_set else ()
        self._rows: dict[str, dict[str, Row]] = {table: {} for table in TABLES}
        self._last_of_chain: dict[tuple[str, ...], Row] = {}
        self._sample: Row | None = None
        self._sweeps: list[Row] = []
        self._files: list[Path] = []
        for level_token, level in enumerate(VISIBILITY_LEVELS, start=1):
            self._add("visibility", str(level_token), level=level, description="")
        log = self._add(
            "log",
            token_of("log", *self._space, logfile),
            logfile=logfile,
            vehicle="",
            date_captured=date_captured,
            location=location,
        )
        self._scene = self._add(
            "scene",
            token_of("scene", *self._space, name),
            log_token=log["token"],
            nbr_samples=0,
            first_sample_token="",
            last_sample_token="",
            name=name,
            description=description,
        )

    def begin_sample(self, stamp_ns: int) -> str:
        """Begin a keyframe and give its token; stamps must grow."""
        scene = self._scene
        sample = self._add(
            "sample",
            token_of("sample", *self._space, scene["name"], str(stamp_ns)),
            timestamp=_microseconds(stamp_ns),
            scene_token=scene["token"],
        )
        self._chain(sample, "sample")
        # A sweep belongs to the keyframe that follows it, says the schema of nuScenes.
        for row in self._sweeps:
            row["sample_token"] = sample["token"]
        self._sweeps.clear()
        scene["nbr_samples"] += 1
        scene["first_sample_token"] = scene["first_sample_token"] or sample["token"]
        scene["last_sample_token"] = sample["token"]
        self._sample = sample
        return sample["token"]

    def add_frame(
        self,
        channel: str,
        stamp_ns: int,
        payload: bytes | NDArray[np.float32],
        ego_translation: Sequence[float],
        ego_rotation: Sequence[float],
        *,
        is_key_frame: bool = True,
    ) -> str:
        """Write one sensor file; see `NuScenesWriter.add_frame`."""
        sample = self._begun_sample()
        modality, calibration = self._mounts.of(channel)
        content, suffix, (width, height) = encode(modality, payload, channel)
        stamp_us = _microseconds(stamp_ns)
        folder = "samples" if is_key_frame else "sweeps"
        filename = f"{folder}/{channel}/{self._logfile}__{channel}__{stamp_us}{suffix}"
        token = token_of("sample_data", *self._space, self._scene["name"], channel, str(stamp_us))
        self._add(
            "ego_pose",
            token,
            timestamp=stamp_us,
            rotation=_floats(ego_rotation),
            translation=_floats(ego_translation),
        )
        row = self._add(
            "sample_data",
            token,
            sample_token=sample["token"],
            ego_pose_token=token,
            calibrated_sensor_token=calibration,
            timestamp=stamp_us,
            fileformat="jpg" if suffix == ".jpg" else "png" if suffix == ".png" else "pcd",
            is_key_frame=is_key_frame,
            height=height,
            width=width,
            filename=filename,
        )
        self._chain(row, "sample_data", channel)
        if not is_key_frame:
            self._sweeps.append(row)
        self._write(self._root / filename, content)
        return token

    def add_annotation(
        self,
        instance: str,
        category: str,
        attributes: Sequence[str],
        translation: Sequence[float],
        size_wlh: Sequence[float],
        rotation: Sequence[float],
        *,
        num_lidar_pts: int,
        visibility: str,
        num_radar_pts: int = 0,
    ) -> str:
        """Annotate one box of the keyframe; see `NuScenesWriter.add_annotation`."""
        sample = self._begun_sample()
        if visibility not in VISIBILITY_LEVELS:
            raise DataError(
                f"{visibility!r} is no visibility level",
                field=instance,
                remedy=f"take one of {', '.join(VISIBILITY_LEVELS)}",
            )
        token = token_of("sample_annotation", sample["token"], instance)
        instance_token = token_of("instance", *self._space, self._scene["name"], instance)
        track = self._rows["instance"].get(instance_token) or self._add(
            "instance",
            instance_token,
            category_token=self._named("category", category),
            nbr_annotations=0,
            first_annotation_token=token,
            last_annotation_token=token,
        )
        row = self._add(
            "sample_annotation",
            token,
            sample_token=sample["token"],
            instance_token=instance_token,
            visibility_token=str(VISIBILITY_LEVELS.index(visibility) + 1),
            attribute_tokens=[self._named("attribute", name) for name in attributes],
            translation=_floats(translation),
            size=_floats(size_wlh),
            rotation=_floats(rotation),
            num_lidar_pts=int(num_lidar_pts),
            num_radar_pts=int(num_radar_pts),
        )
        self._chain(row, "sample_annotation", instance_token)
        track["nbr_annotations"] += 1
        track["last_annotation_token"] = token
        return token

    def finish(self) -> Path:
        """Sync the files, check the tables and give them their name.

        Returns:
            The folder of the scene's tables.

        Raises:
            DataError: a record is wrong, or the scene has no keyframe with a file.
        """
        # At the end, when most of the bytes are on the disk already, this costs half as much as
        # file by file.
        for path in self._files:
            _sync(path)
        for folder in {path.parent for path in self._files}:
            sync_folder(folder)
        place = self._root / SCENE_TABLES_FOLDER
        place.mkdir(exist_ok=True)
        done, writing = place / self._scene["name"], place / f".{self._scene['name']}.writing"
        if done.exists():
            raise DataError(
                "a scene of this name is there already",
                field=self._scene["name"],
                remedy="give each scene its own name",
            )
        shutil.rmtree(writing, ignore_errors=True)
        write_tables(writing, self._rows | self._mounts.rows)
        try:
            NuScenes.open(self._root, f"{SCENE_TABLES_FOLDER}/{writing.name}").check()
        except DataError:
            shutil.rmtree(writing)
            raise
        sync_folder(writing)
        writing.rename(done)
        sync_folder(place)
        return done

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file aside and name it; `finish` syncs all of them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        writing = path.with_name(f".{path.name}.writing")
        writing.write_bytes(content)
        writing.rename(path)
        self._files.append(path)

    def _begun_sample(self) -> Row:
        if self._sample is None:
            raise DataError(
                "there is nothing to add this to",
                field="begin_sample",
                remedy="call begin_sample first",
            )
        return self._sample

    def _add(self, table: str, token: str, **fields: Any) -> Row:
        rows = self._rows[table]
        if token in rows:
            raise DataError(
                f"a record of this name is there already: {fields}",
                field=table,
                remedy="give each scene its own name and each frame of a sensor its own stamp",
            )
        rows[token] = {"token": token, **fields}
        return rows[token]

    def _named(self, table: str, name: str) -> str:
        token = token_of(table, name)
        if token not in self._rows[table]:
            self._add(table, token, name=name, description="")
        return token

    def _chain(self, row: Row, *key: str) -> None:
        """Set `prev` and `next` of a record and of the one before it in its chain."""
        last = self._last_of_chain.get(key)
        row["prev"], row["next"] = (last["token"] if last else ""), ""
        if last:
            if row.get("timestamp", 1) <= last.get("timestamp", 0):
                raise DataError(
                    f"the stamp {row['timestamp']} us does not follow {last['timestamp']} us",
                    field=key[0],
                    remedy="add frames in stamp order",
                )
            last["next"] = row["token"]
        self._last_of_chain[key] = row


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _floats(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values]


def _microseconds(stamp_ns: int) -> int:
    if stamp_ns % 1000:
        raise DataError(
            f"the stamp {stamp_ns} ns is no whole microsecond, the unit of nuScenes",
            field="stamp_ns",
            remedy="round it before",
        )
    return stamp_ns // 1000
