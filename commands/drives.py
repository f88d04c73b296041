"""The drive that a command works on: the user's nuScenes, or the clip that ships with Tailwire."""

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
    sync_folder,
)

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime
    from ..simulation.nuscenes import NuScenes, Sample, Snapshot

_LONE_KEYFRAME_GAP_NS = 500_000_000


@dataclass(frozen=True)
class Drive:
    """An opened data set.

    Attributes:
        data: the data set.
        title: what to call it in front of the user.
        plays_all: whether a demo plays all scenes one after the other, not the first alone.
    """

    data: NuScenes
    title: str
    plays_all: bool = False

    def scenes(self) -> tuple[tuple[Sample, ...], ...]:
        """The keyframes of the scenes that a demo plays.

        Raises:
            DataError: there is no keyframe.
        """
        if not self.plays_all:
            return (self.first_scene(),)
        played = (self.data.samples(scene) for scene in self.data.scenes if scene.num_samples)
        return tuple(played) or (self.first_scene(),)

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
    """Open the user's data set, or the clip where none is named.

    Args:
        nuscenes: dataroot; None takes `$TAILWIRE_NUSCENES`.
        version: of the user's data set.
        progress: told while the clip is unpacked.

    Raises:
        DataError: the data set is missing or broken, or the clip is.
        ConfigError: a version is given, but no data set.
        CacheError: the clip cannot be kept.
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
    return Drive(NuScenes.open(clip_dataroot(progress)), "the clip", plays_all=True)


def clip_dataroot(progress: Progress) -> Path:
    """The dataroot of the clip that ships with Tailwire, unpacked now if the cache lacks it.

    Raises:
        DataError: the archive is missing or not the one that was shipped.
        CacheError: the cache cannot be written, or its disk is full.
    """
    from ..simulation.clip import clip_archive, read_record

    drives = cache_dir() / "drives"
    # Named after its content, so that one of another version is not used again.
    folder = drives / f"clip-{read_record(clip_archive()).sha256[:16]}"
    if folder.is_dir():
        return folder
    waiting = "waiting for another process that is unpacking the clip"
    with folder_lock(drives, on_wait=lambda _: progress(waiting)):
        if not folder.is_dir():
            progress("unpacking the clip, once")
            _unpack(folder)
    return folder


def _unpack(folder: Path) -> None:
    """Unpack the clip and give it its name; the caller holds the lock of the folder around it."""
    from ..simulation.clip import unpack_clip

    _remove_leftovers(folder.parent)
    partial = folder.parent / partial_name(folder.name)
    try:
        unpack_clip(partial)
        # The name of the clip is given to a whole one only; see `runtime/files.py`.
        partial.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise cache_error(error, folder) from error
    finally:
        _remove_leftovers(folder.parent)


def _remove_leftovers(drives: Path) -> None:
    for partial in drives.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(partial, ignore_errors=True)


def perceiving(runtime: Runtime) -> tuple[str, ...]:
    """The sensors that are on and perceive; given objects are no sensor of a drive."""
    pack = runtime.pack
    return tuple(
        name
        for name in runtime.sensors
        if pack.encoders[pack.sensor_encoders[name]].modality != "objects"
    )


@dataclass(frozen=True)
class Moment:
    """What there is to see at a step.

    Attributes:
        snapshot: the frames, with stamps that only go forward.
        sample_token: of the keyframe.
        condition: light and weather, as the scene's description has it.
        begins: whether this is another place than the step before, so that nothing seen there
            says anything here.
    """

    snapshot: Snapshot
    sample_token: str
    condition: str
    begins: bool


@dataclass(frozen=True)
class _Place:
    """A keyframe in the order of the playback."""

    sample: Sample
    condition: str
    begins: bool
    #: From its own stamp to that of the playback.
    later_ns: int


class Playback:
    """The keyframes of a drive, over and over, in a time that only goes forward."""

    def __init__(self, drive: Drive) -> None:
        """Play what a demo plays of `drive`.

        Raises:
            DataError: it has no keyframe.
        """
        from ..simulation.questions.conditions import condition_of

        self._drive = drive
        self.title = drive.title
        self.data = drive.data
        scenes = drive.scenes()
        gaps = sorted(b.stamp_ns - a.stamp_ns for scene in scenes for a, b in pairwise(scene))
        #: Time between two keyframes.
        self.gap_ns = gaps[len(gaps) // 2] if gaps else _LONE_KEYFRAME_GAP_NS
        described = {scene.token: scene.description for scene in drive.data.scenes}
        self._several = len(scenes) > 1
        self._places: list[_Place] = []
        next_ns = scenes[0][0].stamp_ns
        for scene in scenes:
            condition = condition_of(described[scene[0].scene_token])
            later_ns = next_ns - scene[0].stamp_ns
            for place, sample in enumerate(scene):
                self._places.append(_Place(sample, condition, place == 0, later_ns))
            next_ns = scene[-1].stamp_ns + later_ns + self.gap_ns
        self._period_ns = next_ns - scenes[0][0].stamp_ns

    def __len__(self) -> int:
        """Keyframes before it begins anew."""
        return len(self._places)

    @property
    def plays_all(self) -> bool:
        """Whether it is meant to be played from its beginning to its end."""
        return self._drive.plays_all

    @property
    def sample_tokens(self) -> list[str]:
        """Of all keyframes, in their order."""
        return [place.sample.token for place in self._places]

    def read(self, step: int, sensors: Iterable[str]) -> Moment:
        """What the sensors see at a step.

        Args:
            step: from 0, without an end.
            sensors: names; those that the drive lacks are among the dropped.
        """
        turn, index = divmod(step, len(self._places))
        place = self._places[index]
        seen = self._drive.snapshot(place.sample.token, sensors)
        # Stamps that jumped back would be late frames, and dropped as such.
        later_ns = place.later_ns + turn * self._period_ns
        frames = {
            name: replace(frame, stamp_ns=frame.stamp_ns + later_ns)
            for name, frame in seen.frames.items()
        }
        return Moment(
            replace(seen, frames=frames),
            place.sample.token,
            place.condition,
            # A single scene that begins anew is shown as one that goes on.
            place.begins and self._several and step > 0,
        )
