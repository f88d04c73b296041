"""The drive that a command works on: the user's nuScenes, or a sketch that is made here once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError, DataError, SensorError
from ..runtime.files import (
    PARTIAL_PREFIX,
    Progress,
    cache_dir,
    cache_error,
    folder_lock,
    partial_name,
)

if TYPE_CHECKING:
    from ..simulation.nuscenes import NuScenes, Sample, Snapshot

#: To be changed when the sketch would come out different, so that old ones are not used again.
_SKETCH = "sketch-1"
_LONE_KEYFRAME_GAP_NS = 500_000_000


@dataclass(frozen=True)
class Drive:
    """An opened data set.

    Attributes:
        data: the data set.
        title: what to call it in front of the user.
    """

    data: NuScenes
    title: str

    def first_scene(self) -> tuple[Sample, ...]:
        """The keyframes of the first scene that has any.

        Raises:
            DataError: none has.
        """
        for scene in self.data.scenes:
            if scene.num_samples:
                return self.data.samples(scene)
        raise DataError(
            "the data set has no keyframe",
            field=str(self.data.dataroot / self.data.version),
            remedy="give a data set with at least one scene",
        )

    def check_sensors(self, sensors: Iterable[str] | None) -> None:
        """Refuse unknown sensors before models are built for minutes.

        Args:
            sensors: that are to be switched on; None for all.

        Raises:
            SensorError: the drive has no sensor of this name.
        """
        for sensor in sensors or ():
            if sensor not in self.data.sensors:
                raise SensorError(
                    f"the drive ({self.title}) has no sensor '{sensor}'",
                    field="sensors",
                    remedy=f"use some of {', '.join(self.data.sensors)}",
                )

    def snapshot(self, sample_token: str, sensors: Iterable[str]) -> Snapshot:
        """As `NuScenes.snapshot`; sensors that the drive does not have are among the dropped."""
        wanted = tuple(sensors)
        found = self.data.snapshot(sample_token, [s for s in wanted if s in self.data.sensors])
        absent = [sensor for sensor in wanted if sensor not in self.data.sensors]
        reasons = {sensor: f"{sensor}: the drive has no such sensor" for sensor in absent}
        return replace(found, dropped={**found.dropped, **reasons})


def open_drive(nuscenes: Path | None, version: str | None, progress: Progress) -> Drive:
    """Open the user's data set, or the sketch drive where none is named.

    Args:
        nuscenes: dataroot; None takes `$TAILWIRE_NUSCENES`.
        version: of the user's data set.
        progress: told while the sketch is made.

    Raises:
        DataError: the data set is missing or broken.
        ConfigError: a version is given, but no data set.
        CacheError: the sketch cannot be kept.
    """
    from ..simulation.nuscenes import NuScenes

    named = os.environ.get("TAILWIRE_NUSCENES", "")
    root = nuscenes or (Path(named) if named else None)
    if root is not None:
        data = NuScenes.open(root, version)
        return Drive(data, f"nuScenes {data.version}")
    if version is not None:
        raise ConfigError(
            f"version '{version}' is given, but no data set",
            field="--version",
            remedy="name its dataroot with --nuscenes DIR",
        )
    return Drive(NuScenes.open(sketch_drive(progress)), "sketch drive")


def sketch_drive(progress: Progress) -> Path:
    """The dataroot of the sketch drive, made now if the cache lacks it.

    Raises:
        CacheError: the cache cannot be written, or its disk is full.
    """
    drives = cache_dir() / "drives"
    folder = drives / _SKETCH
    if folder.is_dir():
        return folder
    waiting = "waiting for another process that is drawing the sketch drive"
    with folder_lock(drives, on_wait=lambda _: progress(waiting)):
        if not folder.is_dir():
            progress("drawing the sketch drive, once (about ten seconds)")
            _draw(folder)
    return folder


def _draw(folder: Path) -> None:
    """Draw the sketch and give it its name; the caller holds the lock of the folder around it."""
    from ..simulation.sketch_drive import make_sketch_drive

    _remove_leftovers(folder.parent)
    try:
        # The name of the drive is given to a whole one only; see `runtime/files.py`.
        make_sketch_drive(folder.parent / partial_name(folder.name)).rename(folder)
    except OSError as error:
        raise cache_error(error, folder) from error
    finally:
        _remove_leftovers(folder.parent)


def _remove_leftovers(drives: Path) -> None:
    for partial in drives.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(partial, ignore_errors=True)


class Playback:
    """The keyframes of a scene, over and over, in a time that only goes forward."""

    def __init__(self, drive: Drive) -> None:
        """Play the first scene of `drive`.

        Raises:
            DataError: it has no keyframe.
        """
        self._drive = drive
        self.title = drive.title
        self._samples = drive.first_scene()
        stamps = [sample.stamp_ns for sample in self._samples]
        gaps = sorted(b - a for a, b in pairwise(stamps))
        #: Time between two keyframes.
        self.gap_ns = gaps[len(gaps) // 2] if gaps else _LONE_KEYFRAME_GAP_NS
        self._period_ns = stamps[-1] - stamps[0] + self.gap_ns

    def read(self, step: int, sensors: Iterable[str]) -> Snapshot:
        """What the sensors see at a step.

        Args:
            step: from 0, without an end.
            sensors: names; those that the drive lacks are among the dropped.
        """
        turn, place = divmod(step, len(self._samples))
        seen = self._drive.snapshot(self._samples[place].token, sensors)
        # Stamps that jumped back would be late frames, and dropped as such.
        later_ns = turn * self._period_ns
        frames = {
            name: replace(frame, stamp_ns=frame.stamp_ns + later_ns)
            for name, frame in seen.frames.items()
        }
        return replace(seen, frames=frames)
