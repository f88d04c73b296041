"""A drive written as a nuScenes v1.0 data set: thirteen tables, `samples/` and `sweeps/`.

What the frames and boxes show is the caller's matter. Nothing stands under the final name until
the whole set is on the disk and our own reader has accepted it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...runtime.errors import DataError
from ...runtime.frames import Modality
from .disk import sync_folder, write_synced
from .reader import NuScenes
from .schema import TABLES
from .sensor_files import encode

VISIBILITY_LEVELS = ("v0-40", "v40-60", "v60-80", "v80-100")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.+-]+")


class NuScenesWriter:
    """Writes one data set; use it in a `with` block.

    Everything goes to `<out>.partial`. When the block ends well, the tables are written, synced
    and checked, and the folder takes its name; when it ends with an error the folder is removed.
    Tokens are md5 sums of names, so the same drive gives the same bytes.
    """

    def __init__(self, out: Path, version: str = "v1.0-mini") -> None:
        """Make the folder to write into.

        Args:
            out: the dataroot to make; must not exist.
            version: name of the folder of tables, `v1.0-...`.

        Raises:
            DataError: `out` or the rest of an earlier write is in the way, or the version is
                no `v1.0-` name.
        """
        if not version.startswith("v1.0-") or not _PLAIN_NAME.fullmatch(version):
            raise DataError(
                f"{version!r} is no version name", field="version", remedy="take v1.0-mini or such"
            )
        self._out, self._version = out, version
        self._partial = out.with_name(f"{out.name}.partial")
        if out.exists():
            raise DataError(
                "this is there already", field=str(out), remedy="remove it, or write elsewhere"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._partial.mkdir()
        except FileExistsError as error:
            raise DataError(
                "an earlier write was cut off here, or another is at work",
                field=str(self._partial),
                remedy="remove it if nothing else writes there",
            ) from error
        self._rows: dict[str, dict[str, dict[str, Any]]] = {table: {} for table in TABLES}
        self._modality_of: dict[str, Modality] = {}
        self._calibration_of: dict[str, str] = {}
        self._scene: dict[str, Any] | None = None
        self._sample: dict[str, Any] | None = None
        self._last_of_chain: dict[tuple[str, ...], dict[str, Any]] = {}
        for level_token, level in enumerate(VISIBILITY_LEVELS, start=1):
            self._add("visibility", str(level_token), level=level, description="")

    def __enter__(self) -> NuScenesWriter:
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
        finally:
            if not published:
                shutil.rmtree(self._partial, ignore_errors=True)

    def add_sensor(
        self,
        channel: str,
        modality: Modality,
        translation: Sequence[float],
        rotation: Sequence[float],
        intrinsic: NDArray[np.float64] | None = None,
    ) -> None:
        """Mount a sensor; frames added from now on carry this calibration.

        Args:
            channel: the nuScenes name, e.g. `CAM_FRONT`.
            modality: `camera` or `lidar`.
            translation: x y z of the sensor in the ego frame, metres.
            rotation: w x y z, ego from sensor.
            intrinsic: `[3, 3]` for a camera.
        """
        if not _PLAIN_NAME.fullmatch(channel):
            raise DataError(
                f"{channel!r} makes no folder name", field="channel", remedy="take A-Z 0-9 _"
            )
        sensor_token = _token("sensor", channel)
        if channel not in self._modality_of:
            self._add("sensor", sensor_token, channel=channel, modality=modality)
        self._modality_of[channel] = modality
        number = len(self._rows["calibrated_sensor"])
        self._calibration_of[channel] = self._add(
            "calibrated_sensor",
            _token("calibrated_sensor", channel, str(number)),
            sensor_token=sensor_token,
            translation=_floats(translation),
            rotation=_floats(rotation),
            camera_intrinsic=[] if intrinsic is None else np.asarray(intrinsic, float).tolist(),
        )["token"]

    def begin_scene(
        self, name: str, description: str, *, logfile: str, location: str, date_captured: str
    ) -> None:
        """Begin a scene; samples added from now on belong to it.

        Args:
            name: e.g. `scene-0001`; each only once.
            description: free text.
            logfile: name of the log, also the first part of every file name.
            location: where the drive took place.
            date_captured: `YYYY-MM-DD`.
        """
        if not _PLAIN_NAME.fullmatch(logfile):
            raise DataError(
                f"{logfile!r} makes no file name", field="logfile", remedy="take A-Z a-z 0-9 _.+-"
            )
        log_token = _token("log", logfile)
        if log_token not in self._rows["log"]:
            self._add(
                "log",
                log_token,
                logfile=logfile,
                vehicle="",
                date_captured=date_captured,
                location=location,
            )
        self._scene = self._add(
            "scene",
            _token("scene", name),
            log_token=log_token,
            nbr_samples=0,
            first_sample_token="",
            last_sample_token="",
            name=name,
            description=description,
        )
        self._sample = None

    def begin_sample(self, stamp_ns: int) -> str:
        """Begin a keyframe of the scene and give its token; stamps must grow."""
        scene = _begun(self._scene, "begin_scene")
        sample = self._add(
            "sample",
            _token("sample", scene["name"], str(stamp_ns)),
            timestamp=_microseconds(stamp_ns),
            scene_token=scene["token"],
        )
        self._chain(sample, "sample", scene["token"])
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
        """Write one sensor file and give its token; stamps of a channel must grow.

        Args:
            channel: a mounted sensor.
            stamp_ns: nanoseconds, whole microseconds.
            payload: JPEG or PNG bytes of a camera; float32 `[n, 5]` x y z intensity ring.
            ego_translation: x y z of the vehicle at this stamp, global frame, metres.
            ego_rotation: w x y z, global from ego.
            is_key_frame: False for a sweep.
        """
        scene, sample = _begun(self._scene, "begin_scene"), _begun(self._sample, "begin_sample")
        if channel not in self._modality_of:
            raise DataError("no such sensor is mounted", field=channel, remedy="call add_sensor")
        content, suffix, (width, height) = encode(self._modality_of[channel], payload, channel)
        stamp_us = _microseconds(stamp_ns)
        logfile = self._rows["log"][scene["log_token"]]["logfile"]
        folder = "samples" if is_key_frame else "sweeps"
        filename = f"{folder}/{channel}/{logfile}__{channel}__{stamp_us}{suffix}"
        token = _token("sample_data", scene["name"], channel, str(stamp_us))
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
            calibrated_sensor_token=self._calibration_of[channel],
            timestamp=stamp_us,
            fileformat="jpg" if suffix == ".jpg" else "png" if suffix == ".png" else "pcd",
            is_key_frame=is_key_frame,
            height=height,
            width=width,
            filename=filename,
        )
        self._chain(row, "sample_data", scene["token"], channel)
        write_synced(self._partial / filename, content)
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
        """Annotate one box of the keyframe and give its token.

        Args:
            instance: name of the object, the same over its track in this scene.
            category: e.g. `vehicle.car`.
            attributes: e.g. `["vehicle.moving"]`.
            translation: the centre, global frame, metres.
            size_wlh: width, length, height, metres.
            rotation: w x y z, global from box.
            num_lidar_pts: LiDAR points in the box.
            visibility: one of `VISIBILITY_LEVELS`.
            num_radar_pts: radar points in the box.
        """
        scene, sample = _begun(self._scene, "begin_scene"), _begun(self._sample, "begin_sample")
        if visibility not in VISIBILITY_LEVELS:
            raise DataError(
                f"{visibility!r} is no visibility level",
                field=instance,
                remedy=f"take one of {', '.join(VISIBILITY_LEVELS)}",
            )
        token = _token("sample_annotation", sample["token"], instance)
        instance_token = _token("instance", scene["name"], instance)
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

    def _add(self, table: str, token: str, **fields: Any) -> dict[str, Any]:
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
        token = _token(table, name)
        if token not in self._rows[table]:
            self._add(table, token, name=name, description="")
        return token

    def _chain(self, row: dict[str, Any], *key: str) -> None:
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

    def _publish(self) -> None:
        # The devkit needs a map picture that covers every log; ours is one grey pixel.
        blank = io.BytesIO()
        Image.new("L", (1, 1), 128).save(blank, format="PNG")
        write_synced(self._partial / "maps" / "blank.png", blank.getvalue())
        self._add(
            "map",
            _token("map", "blank"),
            log_tokens=list(self._rows["log"]),
            category="semantic_prior",
            filename="maps/blank.png",
        )
        # A folder without a v1.0-* name in it is no data set to any reader.
        unnamed = self._partial / ".tables"
        for table, rows in self._rows.items():
            write_synced(unnamed / f"{table}.json", _json(table, list(rows.values())))
        unnamed.rename(self._partial / self._version)
        NuScenes.open(self._partial, self._version).check()
        sync_folder(self._partial)
        try:
            self._partial.rename(self._out)
        except OSError as error:
            raise DataError(
                f"the folder cannot take its name: {error.strerror}",
                field=str(self._out),
                remedy="remove what came in the way",
            ) from error
        sync_folder(self._out.parent)


def _token(*names: str) -> str:
    return hashlib.md5("/".join(names).encode(), usedforsecurity=False).hexdigest()


def _floats(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values]


def _begun(record: dict[str, Any] | None, call: str) -> dict[str, Any]:
    if record is None:
        raise DataError("there is nothing to add this to", field=call, remedy=f"call {call} first")
    return record


def _microseconds(stamp_ns: int) -> int:
    if stamp_ns % 1000:
        raise DataError(
            f"the stamp {stamp_ns} ns is no whole microsecond, the unit of nuScenes",
            field="stamp_ns",
            remedy="round it before",
        )
    return stamp_ns // 1000


def _json(table: str, rows: list[dict[str, Any]]) -> bytes:
    try:
        return json.dumps(rows, indent=0, allow_nan=False).encode()
    except ValueError as error:
        raise DataError(
            "a number is not finite", field=table, remedy="check poses, sizes and calibration"
        ) from error
