"""A drive written as a nuScenes v1.0 data set: thirteen tables, `samples/` and `sweeps/`.

What the frames and boxes show is the caller's matter. Nothing stands under the final name until
the whole set is on the disk and our own reader has accepted it, scene by scene: the memory that
is needed is that of one scene's records, however many scenes there are.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...runtime.errors import DataError
from ...runtime.frames import Modality
from .disk import begin_partial, partial_of, sync_folder, write_synced
from .scene_writer import (
    PLAIN_NAME,
    SCENE_TABLES_FOLDER,
    VISIBILITY_LEVELS,
    Mounts,
    SceneWriter,
)
from .table_files import Row, join_tables, token_of

__all__ = ["VISIBILITY_LEVELS", "NuScenesWriter", "check_version", "name_dataset", "write_dataset"]


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
        check_version(version)
        self._out, self._version = out, version
        self._partial = partial_of(out)
        begin_partial(self._partial)
        self._mounts = Mounts()
        self._scene: SceneWriter | None = None
        self._finished: list[Path] = []

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
                self._end_scene()
                write_dataset(self._partial, self._finished, self._version)
                name_dataset(self._partial, self._out)
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
        self._mounts.add(channel, modality, translation, rotation, intrinsic)

    def begin_scene(
        self, name: str, description: str, *, logfile: str, location: str, date_captured: str
    ) -> None:
        """Begin a scene; samples added from now on belong to it. The scene before it is finished.

        Args:
            name: e.g. `scene-0001`; each only once.
            description: free text.
            logfile: name of the log, also the first part of every file name.
            location: where the drive took place.
            date_captured: `YYYY-MM-DD`.
        """
        self._end_scene()
        self._scene = SceneWriter(
            self._partial,
            self._mounts,
            name,
            description,
            logfile=logfile,
            location=location,
            date_captured=date_captured,
        )

    def begin_sample(self, stamp_ns: int) -> str:
        """Begin a keyframe of the scene and give its token; stamps must grow."""
        return self._begun_scene().begin_sample(stamp_ns)

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
            is_key_frame: False for a sweep; it belongs to the keyframe that is begun next, the
                sweeps behind the last keyframe to that one.
        """
        return self._begun_scene().add_frame(
            channel, stamp_ns, payload, ego_translation, ego_rotation, is_key_frame=is_key_frame
        )

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
        return self._begun_scene().add_annotation(
            instance,
            category,
            attributes,
            translation,
            size_wlh,
            rotation,
            num_lidar_pts=num_lidar_pts,
            visibility=visibility,
            num_radar_pts=num_radar_pts,
        )

    def _begun_scene(self) -> SceneWriter:
        if self._scene is None:
            raise DataError(
                "there is nothing to add this to",
                field="begin_scene",
                remedy="call begin_scene first",
            )
        return self._scene

    def _end_scene(self) -> None:
        if self._scene is not None:
            self._finished.append(self._scene.finish())
            self._scene = None


def check_version(version: str) -> None:
    """Refuse what is no name of a folder of tables.

    Raises:
        DataError: the version is no `v1.0-` name.
    """
    if not version.startswith("v1.0-") or not PLAIN_NAME.fullmatch(version):
        raise DataError(
            f"{version!r} is no version name", field="version", remedy="take v1.0-mini or such"
        )


def write_dataset(folder: Path, scenes: Sequence[Path], version: str) -> None:
    """Make one data set of finished scenes, still under the name that it has.

    May be called again after it was cut off.

    Args:
        folder: that the scenes were written below.
        scenes: what `SceneWriter.finish` gave, in the order of the table.
        version: name of the folder of tables.

    Raises:
        DataError: there is no scene.
    """
    if not scenes:
        raise DataError("no scene was written", field=str(folder), remedy="write one at least")
    # The devkit needs a map picture that covers every log; ours is one grey pixel.
    blank = io.BytesIO()
    Image.new("L", (1, 1), 128).save(blank, format="PNG")
    write_synced(folder / "maps" / "blank.png", blank.getvalue())
    covered: Row = {
        "token": token_of("map", "blank"),
        "log_tokens": _log_tokens(scenes),
        "category": "semantic_prior",
        "filename": "maps/blank.png",
    }
    # A folder without a v1.0-* name in it is no data set to any reader.
    unnamed = folder / ".tables"
    shutil.rmtree(unnamed, ignore_errors=True)
    shutil.rmtree(folder / version, ignore_errors=True)
    join_tables(scenes, unnamed, {"map": [covered]})
    sync_folder(unnamed)
    unnamed.rename(folder / version)
    sync_folder(folder)


def name_dataset(folder: Path, out: Path) -> None:
    """Give a written data set its final name.

    Raises:
        DataError: something stands there.
    """
    try:
        folder.rename(out)
    except OSError as error:
        raise DataError(
            f"the folder cannot take its name: {error.strerror}",
            field=str(out),
            remedy="remove what came in the way",
        ) from error
    # Last of all: as long as these are there, an interrupted write goes on from them.
    shutil.rmtree(out / SCENE_TABLES_FOLDER, ignore_errors=True)
    sync_folder(out)
    sync_folder(out.parent)


def _log_tokens(scenes: Sequence[Path]) -> list[str]:
    tokens: dict[str, None] = {}
    for scene in scenes:
        rows = json.loads((scene / "log.json").read_text(encoding="utf-8"))
        tokens.update((row["token"], None) for row in rows)
    return list(tokens)
