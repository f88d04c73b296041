"""Packs that know one sense each, for composing: which sensors and encoders they have, and files.

Cameras and LiDAR are seen through the detectors of another pack, summed up by direction; radar
returns and levels of sound need no weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save

from ..kernels.direction_tokens import DIRECTION_WIDTH, DIRECTIONS
from ..runtime.adaptation.samples import Choice, choices_of
from ..runtime.connections import ConnectionSpec
from ..runtime.encoder_specs import EncoderSpec, RadarInput, SoundInput
from ..runtime.errors import PackError
from ..runtime.files import open_atomic, sha256_of, write_atomic
from ..runtime.language_model import LanguageModel
from ..runtime.new_pack import new_pack
from ..runtime.pack import (
    MANIFEST_NAME,
    BaseModelSpec,
    FileSpec,
    Pack,
    PackManifest,
    PromptSpec,
    SensorSpec,
    check_pack,
    load_pack,
    read_weights,
)
from ..runtime.questions import AnswerTrie
from ..simulation.rig import CAMERAS, LIDAR

Sense = Literal["image", "point", "radar", "audio"]
SENSE_SENSORS: Mapping[Sense, tuple[str, ...]] = {
    "image": tuple(mount.channel.lower() for mount in CAMERAS),
    "point": (LIDAR.channel.lower(),),
    "radar": ("radar",),
    "audio": ("microphones",),
}
#: Short, since each token of a question costs the tail in each step of training.
PROMPT = PromptSpec(template="{question}", answer_prefix=" ")
ANSWERS = ("yes", "no")

_DETECTORS: Mapping[Sense, str] = {"image": "camera_detector", "point": "bev_detector"}
_HOW_MADE = "TRAINING.md"


@dataclass(frozen=True)
class SensePack:
    """What goes into a pack of senses.

    Attributes:
        name: of the pack.
        senses: that it knows.
        connection: its shape.
        weights: of the connection.
        base: the language model.
        how_made: as Markdown.
    """

    name: str
    senses: Sequence[Sense]
    connection: ConnectionSpec
    weights: Mapping[str, NDArray[np.float32]]
    base: BaseModelSpec
    how_made: str


def answer_choice(model: LanguageModel) -> Choice:
    """The decision between yes and no; its target is yes."""
    encode = model.tokenizer.encode
    trie = AnswerTrie(
        ANSWERS,
        lambda answer: encode(PROMPT.answer_prefix + answer, add_special_tokens=False).ids,
        -1,
    )
    (choice,) = choices_of(trie, ANSWERS[0])
    return choice


def answer_tokens(model: LanguageModel) -> tuple[int, int]:
    """The tokens of yes and no."""
    choice = answer_choice(model)
    return choice.allowed[choice.target], choice.allowed[1 - choice.target]


def sense_encoders(senses: Sequence[Sense], detectors: PackManifest) -> dict[str, EncoderSpec]:
    """Encoders by sense.

    Args:
        senses: that are wanted.
        detectors: of the pack whose detectors cameras and LiDAR are seen through.

    Raises:
        PackError: it has no such detector.
    """
    found: dict[str, EncoderSpec] = {}
    for sense in senses:
        if sense in _DETECTORS:
            found[sense] = _by_direction(detectors, _DETECTORS[sense])
            continue
        is_radar = sense == "radar"
        found[sense] = EncoderSpec(
            modality="radar" if is_radar else "audio",
            kind="radar_directions" if is_radar else "sound_directions",
            input=RadarInput() if is_radar else SoundInput(),
            tokens=DIRECTIONS,
            width=DIRECTION_WIDTH,
            licence="Apache-2.0",
            source="no weights",
        )
    return found


def _by_direction(detectors: PackManifest, kind: str) -> EncoderSpec:
    """A detector whose objects are summed up."""
    for spec in detectors.encoders.values():
        if spec.kind == kind and spec.objects is None:
            changed = spec.model_dump() | {"objects": spec.tokens, "tokens": DIRECTIONS}
            return EncoderSpec.model_validate(changed)
    raise PackError(
        f"the pack {detectors.name} has no encoder of kind {kind}",
        field="--encoders-from",
        remedy="name a pack with detectors for cameras and LiDAR",
    )


def sense_sensors(senses: Sequence[Sense], detectors: PackManifest) -> tuple[SensorSpec, ...]:
    """Sensors by sense; those that the other pack has sit where they sit there."""
    known = {sensor.name: sensor for sensor in detectors.sensors}
    found: list[SensorSpec] = []
    for sense in senses:
        for name in SENSE_SENSORS[sense]:
            mount = known[name].mount if name in known else None
            found.append(SensorSpec(name=name, encoder=sense, mount=mount))
    return tuple(found)


def write_sense_pack(folder: Path, content: SensePack, detectors: Pack) -> Pack:
    """Write a pack and load it again.

    Args:
        folder: to make.
        content: of it.
        detectors: the pack whose detectors it has.

    Raises:
        ConfigError: something is at the folder already.
        PackError: weights do not fit.
        CacheError: it cannot be written.
    """
    encoders = sense_encoders(content.senses, detectors.manifest)
    with new_pack(folder) as aside:
        files: dict[str, FileSpec] = {}
        for name in dict.fromkeys(file for spec in encoders.values() for file in spec.files):
            files[name] = detectors.manifest.files[name]
            if files[name].registry is None:
                shutil.copyfile(detectors.folder / name, aside / name)
        arrays = {name: np.ascontiguousarray(one) for name, one in content.weights.items()}
        with open_atomic(aside / content.connection.file) as file:
            file.write(save(arrays))
        write_atomic(aside / _HOW_MADE, content.how_made)
        for name in (content.connection.file, _HOW_MADE):
            files[name] = FileSpec(sha256=sha256_of(aside / name))
        manifest = PackManifest(
            format=1,
            name=content.name,
            version="1",
            description="Says what moves in which direction; made for composing",
            trained=True,
            licences=("Apache-2.0",),
            base_model=content.base,
            prompt=PROMPT,
            sensors=sense_sensors(content.senses, detectors.manifest),
            encoders=encoders,
            connection=content.connection,
            tail_blocks=content.connection.tail_blocks,
            files=files,
        )
        text = yaml.safe_dump(
            manifest.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
        )
        write_atomic(aside / MANIFEST_NAME, text)
        check_pack(aside, read_weights)
    return load_pack(folder)
