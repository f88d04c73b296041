"""What a robot's pack learns from when it is adapted: tokens and right answers, made of drives.

Tokens are made by the encoders of the pack itself and lie in a cache folder, by drives and
encoders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..runtime.adaptation.data import AdaptationData, KnownQuestion
from ..runtime.encoders import Encoder
from ..runtime.errors import ConfigError, DataError
from ..runtime.pack import PackManifest
from ..runtime.questions import NUSCENES_QA_ANSWERS
from ..simulation.annotated_objects import OBJECTS
from ..simulation.questions.items import QaItem
from .moments import TrainingMoment
from .sensor_tokens import sensor_tokens


def adaptation_data(
    moments: Sequence[TrainingMoment],
    items: Sequence[QaItem],
    sensors: Sequence[str],
    pack: PackManifest,
    encoders: Mapping[str, Encoder],
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
) -> AdaptationData:
    """Encode keyframes and put their questions beside them; blocks are scenes.

    Scenes of the split `val` are held out; where there is only one split, scenes are drawn later.

    Args:
        moments: the keyframes.
        items: questions about them; those about others are left out.
        sensors: that tokens are made of.
        pack: names the encoders.
        encoders: by name, as they run.
        cache: folder for tokens.
        progress: told keyframes done and keyframes in all.

    Raises:
        DataError: a sensor is in no drive, or a drive has no annotations to make objects of.
        ConfigError: no question is about these keyframes.
    """
    asked = {item.sample_token for item in items}
    moments = [moment for moment in moments if moment.token in asked]
    if not moments:
        raise ConfigError(
            "no question is about these keyframes",
            field="data",
            remedy="give the questions that belong to the data sets",
        )
    check_sensors(moments, sensors)
    chosen = {sensor: name for sensor, name in pack.sensor_encoders.items() if sensor in sensors}
    tokens = sensor_tokens(
        moments, chosen, encoders, encoders_identity(pack, set(chosen.values())), cache, progress
    )
    rows = {moment.token: row for row, moment in enumerate(moments)}
    known = [item for item in items if item.sample_token in rows]
    blocks = _blocks(moments)
    splits = {item.split for item in known}
    held_out = {blocks[rows[item.sample_token]] for item in known if item.split == "val"}
    return AdaptationData(
        tokens,
        blocks,
        [
            KnownQuestion(
                rows[item.sample_token],
                item.question,
                item.answer,
                NUSCENES_QA_ANSWERS,
                item.template_type,
            )
            for item in known
        ],
        held_out if len(splits) > 1 else None,
    )


def _blocks(moments: Sequence[TrainingMoment]) -> list[str]:
    """Scenes, with a number in front where data sets may have scenes of one name."""
    numbers: dict[int, int] = {}
    for moment in moments:
        numbers.setdefault(id(moment.data), len(numbers) + 1)
    if len(numbers) == 1:
        return [moment.scene for moment in moments]
    return [f"{numbers[id(moment.data)]}/{moment.scene}" for moment in moments]


def check_sensors(moments: Sequence[TrainingMoment], sensors: Sequence[str]) -> None:
    """Refuse sensors that no drive has.

    Raises:
        DataError: naming the sensor.
    """
    drives = {id(moment.data): moment.data for moment in moments}.values()
    for sensor in sensors:
        if sensor == OBJECTS:
            there = any(data.has_annotations for data in drives)
        else:
            there = any(sensor in data.sensors for data in drives)
        if not there:
            raise DataError(
                "no data set has this sensor",
                field=sensor,
                remedy="give drives that were recorded with it"
                if sensor != OBJECTS
                else "give drives with annotations",
            )


def encoders_identity(pack: PackManifest, names: set[str]) -> str:
    """What tells the weights of these encoders of a pack apart from others."""
    digest = hashlib.sha256()
    for name in sorted(names):
        spec = pack.encoders[name]
        digest.update(f"{name} {spec.model_dump_json()}".encode())
        for file in spec.files:
            digest.update(pack.files[file].sha256.encode())
    return digest.hexdigest()
