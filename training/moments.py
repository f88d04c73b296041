"""Keyframes of several data sets, with split and condition: what all training starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import ConfigError, DataError
from ..simulation.nuscenes import NuScenes
from ..simulation.nuscenes.records import SampleData
from ..simulation.questions.conditions import CONDITIONS, check_conditions, condition_of
from ..simulation.questions.generate import split_of_scenes


@dataclass(frozen=True)
class TrainingMoment:
    """One keyframe.

    Attributes:
        data: its data set.
        token: of the sample.
        scene: name.
        split: `train` or `val`, by scene.
        condition: of light and weather, as the scene's description says.
    """

    data: NuScenes
    token: str
    scene: str
    split: str
    condition: str


def moments_of(
    dataroots: Sequence[Path], conditions: Sequence[str] = CONDITIONS
) -> list[TrainingMoment]:
    """All keyframes of some data sets.

    Args:
        dataroots: in nuScenes format.
        conditions: to keep.

    Raises:
        DataError: a data set cannot be read, or two have the same keyframes.
        ConfigError: a condition is unknown, or no keyframe is left.
    """
    check_conditions(conditions)
    found: list[TrainingMoment] = []
    owner: dict[str, Path] = {}
    for root in dataroots:
        data = NuScenes.open(root)
        splits = split_of_scenes(data)
        for scene in data.scenes:
            condition = condition_of(scene.description)
            if condition not in conditions:
                continue
            for sample in data.samples(scene):
                if owner.setdefault(sample.token, root) != root:
                    raise DataError(
                        f"it has the keyframe {sample.token}, and so has {owner[sample.token]}: "
                        "nobody could tell whose question is whose",
                        field=str(root),
                        remedy="give each data set once; make drives again that are older than "
                        "tokens which differ by seed",
                    )
                found.append(
                    TrainingMoment(data, sample.token, scene.name, splits[scene.token], condition)
                )
    if not found:
        raise ConfigError(
            f"no keyframe is of the conditions {', '.join(conditions)}",
            field="dataroot",
            remedy="give drives of these conditions",
        )
    return found


def identity_of(moments: Sequence[TrainingMoment]) -> str:
    """A hash of the keyframes in their order, for telling runs apart; paths do not matter."""
    digest = hashlib.sha256()
    for moment in moments:
        digest.update(f"{moment.token} {moment.split} {moment.condition}\n".encode())
    return digest.hexdigest()[:24]


def earlier_sweeps(data: NuScenes, scene: str, sensor: str) -> dict[str, list[SampleData]]:
    """By sample token, the files of a sensor up to its keyframe's, the newest first."""
    files = data.drive_data(scene, [sensor])
    found: dict[str, list[SampleData]] = {}
    for place, file in enumerate(files):
        if file.is_key_frame:
            found[file.sample_token] = [*files[max(0, place - 20) : place + 1]][::-1]
    return found
