"""What `tailwire replay` plays: the path decides the loader, and what was found can be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ..simulation.bags import BagDrive, BagReport
    from ..simulation.nuscenes import NuScenes
    from ..simulation.source import DriveSource

_BAG_SUFFIXES = (".mcap", ".db3")
#: Bags of large robots have many topics that are none of ours.
_NAMED_TOPICS = 5


@dataclass(frozen=True)
class DriveEntry:
    """One drive that can be opened.

    Attributes:
        name: of the scene or the bag; names its folder of answers.
        sample_tokens: of its keyframes.
        open: opens it; cheap to call, no sensor file is read.
    """

    name: str
    sample_tokens: Sequence[str]
    open: Callable[[], DriveSource]


@dataclass(frozen=True)
class Found:
    """What lies at a path.

    Attributes:
        sentence: for the user.
        entries: the drives, in the order in which they are played.
        notes: what is damaged or not used, a line each.
        dataset: where boxes are, None of a bag.
    """

    sentence: str
    entries: Sequence[DriveEntry]
    notes: Sequence[str] = ()
    dataset: NuScenes | None = field(default=None)


def find_drives(
    path: Path, version: str | None, scene: str | None, *, objects: bool = False
) -> Found:
    """Open what lies at a path.

    Args:
        path: dataroot of a nuScenes data set, a bag or a folder of bags.
        version: of the data set.
        scene: None takes all.
        objects: whether drives of a data set also give annotations as the sensor `objects`, and
            no hint is needed that a bag has boxes.

    Raises:
        DataError: there is nothing that can be played, or not this scene.
        ConfigError: a version is given for a bag.
    """
    if not path.exists():
        raise DataError("there is nothing here", field=str(path), remedy="check the path")
    if path.is_dir() and any(one.is_dir() for one in path.glob("v1.0-*")):
        return _nuscenes(path, version, scene, objects)
    if version is not None:
        raise ConfigError(
            f"version '{version}' is given, but this is no nuScenes data set",
            field="--version",
            remedy="leave it out for a bag",
        )
    return _bags(path, scene, objects)


def _nuscenes(path: Path, version: str | None, scene: str | None, objects: bool) -> Found:
    from ..simulation.annotated_objects import AnnotatedDrive
    from ..simulation.nuscenes import NuScenes
    from ..simulation.nuscenes.source import NuScenesDrive

    data = NuScenes.open(path, version)
    kind = AnnotatedDrive if objects else NuScenesDrive
    entries: list[DriveEntry] = []
    for one in data.scenes:
        if scene not in (None, one.name, one.token) or not one.num_samples:
            continue
        tokens = tuple(sample.token for sample in data.samples(one))
        entries.append(DriveEntry(one.name, tokens, lambda one=one: kind(data, one)))
    if not entries:
        if scene is not None:
            data.samples(scene)  # Says so if there is no such scene.
        raise DataError(
            "there is no scene with a keyframe" if scene is None else f"{scene} has no keyframe",
            field=str(path / data.version),
            remedy="play another one",
        )
    keyframes = sum(len(entry.sample_tokens) for entry in entries)
    what = f"{len(entries)} scenes" if len(entries) > 1 else entries[0].name
    return Found(f"nuScenes {data.version}: {what}, {keyframes} keyframes", entries, dataset=data)


def _bags(path: Path, scene: str | None, objects: bool) -> Found:
    from ..simulation.bags.read import open_bag
    from ..simulation.bags.storage import is_bag_folder

    folders: list[Path] = []
    if path.is_dir() and not is_bag_folder(path):
        folders = [one for one in sorted(path.iterdir()) if one.is_dir() and is_bag_folder(one)]
        if not folders:
            raise DataError(
                "this is neither a nuScenes data set nor a bag",
                field=str(path),
                remedy="give a folder with v1.0-* in it, a rosbag2 folder, or a "
                f"{' or '.join(_BAG_SUFFIXES)} file",
            )
    if scene is not None or len(folders) <= 1:
        drives: list[BagDrive] = [open_bag(path, scene)]
    else:
        drives = [open_bag(folder) for folder in folders]
    entries = [
        DriveEntry(
            drive.scene or drive.path.stem,
            tuple(keyframe.sample_token for keyframe in drive.keyframes),
            lambda drive=drive: drive,
        )
        for drive in drives
    ]
    messages = sum(sum(drive.report.counts.values()) for drive in drives)
    keyframes = sum(len(entry.sample_tokens) for entry in entries)
    what = f"{len(drives)} bags" if len(drives) > 1 else f"bag of {entries[0].name}"
    notes = [note for drive in drives for note in (*drive.report.notes(), *_unused(drive.report))]
    if not objects:
        notes += [note for drive in drives for note in _not_asked_for(drive)]
    return Found(f"{what}: {messages} messages, {keyframes} keyframes", entries, notes)


def _not_asked_for(drive: BagDrive) -> list[str]:
    return [
        f"boxes on {drive.topics[name]} take part only where they are named: --sensors {name},..."
        for name in drive.boxes
    ]


def _unused(report: BagReport) -> list[str]:
    """One line for the topics whose type no drive uses; none for those that our own bags have."""
    from ..simulation.bags.contract import ANSWER, CLOCK, MARKER_ARRAY, ODOMETRY, STRING, TF_MESSAGE

    ours = {ANSWER, CLOCK, MARKER_ARRAY, ODOMETRY, STRING, TF_MESSAGE}
    topics = [
        f"{topic} ({report.types[topic] or 'no type'}, {report.counts[topic]} messages)"
        for topic, reason in report.skipped.items()
        if reason.startswith("the type ") and report.types[topic] not in ours
    ]
    if not topics:
        return []
    more = f" and {len(topics) - _NAMED_TOPICS} more" if len(topics) > _NAMED_TOPICS else ""
    return [f"topics of types that are not used: {', '.join(topics[:_NAMED_TOPICS])}{more}"]
