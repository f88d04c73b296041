"""What packs get of the moments that commonality items are made of: tokens by sense, and facts.

Tokens are made by the encoders that run, once, and lie in a cache folder. Facts say which concepts
hold for each sense, and which are open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..kernels.direction_tokens import DIRECTIONS, radar_directions, sound_directions
from ..kernels.object_tokens import SECTOR_MIDDLES_DEG
from ..runtime.encoders import Encoder
from ..runtime.files import open_atomic
from ..simulation.nuscenes import NuScenes
from ..simulation.questions.conditions import condition_of
from ..training.moments import TrainingMoment
from ..training.sense_packs import SENSE_SENSORS, Sense
from ..training.sensor_tokens import sensor_tokens
from .commonality_inputs import array
from .commonality_items import CONCEPTS, KINDS, NOTHING, SENSES, Concept, Moment, moments_of

Tokens = NDArray[np.float16]
#: By direction as an option names it, the middle of its sector.
_MIDDLES = {
    "front": 0.0,
    "front left": 60.0,
    "back left": 120.0,
    "back": 180.0,
    "back right": -120.0,
    "front right": -60.0,
}
Progress = Callable[[int, int], None]


def place_of(concept: Concept) -> tuple[int, int]:
    """Kind and direction of a concept as numbers, the direction as direction tokens have it."""
    kind, where = concept
    return list(KINDS).index(kind), SECTOR_MIDDLES_DEG.index(_MIDDLES[where])


def number_of(concept: Concept) -> int:
    """A concept's number among the questions of `asked_concepts`."""
    kind, direction = place_of(concept)
    return kind * DIRECTIONS + direction


def asked_concepts() -> list[str]:
    """By number, the question whether a concept holds: short, since each token costs the tail."""
    ordered = sorted(CONCEPTS, key=number_of)
    return [
        f"{'No vehicle' if kind == NOTHING else f'Moving {kind}'}, {where}?"
        for kind, where in ordered
    ]


@dataclass(frozen=True, eq=False)
class SenseData:
    """Tokens and facts of moments.

    Attributes:
        moments: keyframes.
        tokens: by sense and sensor, `[moments, 6, 64]`.
        facts: by sense, int8 `[moments, kinds, 6]`: 1 holds, 0 does not, -1 is open; see
            `place_of`.
    """

    moments: Sequence[Moment]
    tokens: Mapping[Sense, Mapping[str, Tokens]]
    facts: Mapping[Sense, NDArray[np.int8]]

    def rows(self, scenes: set[str]) -> NDArray[np.int64]:
        """Numbers of the moments of some scenes."""
        return np.flatnonzero([moment.scene in scenes for moment in self.moments])


def thinned(moments: Sequence[Moment], every: int) -> list[Moment]:
    """Every so many-th moment of each scene; neighbours are nearly the same."""
    found: list[Moment] = []
    counts: dict[str, int] = {}
    for moment in moments:
        number = counts[moment.scene] = counts.get(moment.scene, -1) + 1
        if number % every == 0:
            found.append(moment)
    return found


def moments_of_drives(
    dataroots: Sequence[Path], version: str | None = None, every: int = 1
) -> list[Moment]:
    """Moments of all scenes of some data sets.

    Raises:
        DataError: a data set cannot be read, or has no annotations.
    """
    return [
        moment
        for root in dataroots
        for moment in thinned(moments_of(NuScenes.open(root, version)), every)
    ]


def sense_data(
    moments: Sequence[Moment],
    senses: Sequence[Sense],
    encoders: Mapping[str, Encoder],
    identities: Mapping[str, str],
    cache: Path,
    progress: Progress = lambda done, count: None,
) -> SenseData:
    """Encode moments, and say what holds in them; what is made of a scene is kept.

    Args:
        moments: of any scenes.
        senses: whose tokens are wanted.
        encoders: by sense, of those that need an engine.
        identities: by sense, what tells their weights apart from others.
        cache: folder for tokens.
        progress: told keyframes done and keyframes in all.

    Returns:
        Moments scene by scene.

    Raises:
        SensorError: a frame is missing or broken.
    """
    tokens: dict[Sense, dict[str, list[Tokens]]] = {}
    facts: dict[Sense, list[NDArray[np.int8]]] = {sense: [] for sense in SENSES}
    done = 0
    for scene in _by_scene(moments):
        made = _without_engine(scene, cache)
        for sense in SENSES:
            facts[sense].append(made[f"facts.{sense}"].astype(np.int8))
            if sense not in senses:
                continue
            if sense in made:
                found = {SENSE_SENSORS[sense][0]: made[sense].astype(np.float16)}
            else:
                keyframes = [_keyframe(moment) for moment in scene]
                sensors = dict.fromkeys(SENSE_SENSORS[sense], sense)
                found = sensor_tokens(keyframes, sensors, encoders, identities[sense], cache)
            by_sensor = tokens.setdefault(sense, {sensor: [] for sensor in found})
            for sensor, rows in found.items():
                by_sensor[sensor].append(rows)
        done += len(scene)
        progress(done, len(moments))
    return SenseData(
        [moment for scene in _by_scene(moments) for moment in scene],
        {
            sense: {sensor: np.concatenate(parts) for sensor, parts in one.items()}
            for sense, one in tokens.items()
        },
        {sense: np.concatenate(parts) for sense, parts in facts.items()},
    )


def _by_scene(moments: Sequence[Moment]) -> list[list[Moment]]:
    """Moments of one scene together, scenes in the order in which they come first."""
    found: dict[str, list[Moment]] = {}
    for moment in moments:
        found.setdefault(moment.scene, []).append(moment)
    return list(found.values())


def _keyframe(moment: Moment) -> TrainingMoment:
    scene = next(one for one in moment.data.scenes if one.token == moment.scene)
    condition = condition_of(scene.description)
    return TrainingMoment(moment.data, moment.token, scene.name, "all", condition)


def _without_engine(moments: Sequence[Moment], cache: Path) -> dict[str, NDArray[np.generic]]:
    """Tokens of radar and sound, and facts; from the cache where they are there."""
    key = hashlib.sha256(b"senses 2")
    for moment in moments:
        key.update(f"{moment.data.dataroot.resolve()} {moment.token}".encode())
    path = cache / f"senses-{key.hexdigest()[:24]}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    radar, audio = (np.zeros((len(moments), DIRECTIONS, 64), np.float32) for _ in range(2))
    facts = {
        sense: np.full((len(moments), len(KINDS), DIRECTIONS), -1, np.int8) for sense in SENSES
    }
    for number, moment in enumerate(moments):
        radar[number] = radar_directions(array("radar", moment))
        audio[number] = sound_directions(array("audio", moment))
        for sense in SENSES:
            holds = moment.holds(sense)
            for concept in CONCEPTS:
                if (known := holds[concept]) is not None:
                    kind, direction = place_of(concept)
                    facts[sense][number, kind, direction] = known
    made = {"radar": radar, "audio": audio, **{f"facts.{s}": one for s, one in facts.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        np.savez(file, **made)
    return made
