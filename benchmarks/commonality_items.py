"""Makes items of `commonality.py` from drives: moments that share one thing, by four senses.

Each input of an item is of another scene and by another sense: a picture of all cameras, a LiDAR
sweep, radar returns, or a second of street sound. One option holds in all of them; each of the
others is false in at least one, and where possible true in another, so that no input alone tells
the answer. What is true and what is false comes from annotations; what they leave open counts for
neither.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..kernels.object_tokens import OBJECT_CLASSES, OBJECT_COLUMNS, OBJECT_STATUSES
from ..runtime.errors import ConfigError, DataError
from ..simulation.annotated_objects import annotated_objects
from ..simulation.nuscenes import NuScenes
from ..simulation.questions.scene_graph import DIRECTIONS, direction_of, keyframe_pose
from ..simulation.street_sound import street_levels
from .commonality import LETTERS, CommonalityItem

Float = NDArray[np.float32]
Sense = Literal["image", "point", "radar", "audio"]
#: Names of inputs; those that the published files have too are called as there.
SENSES: tuple[Sense, ...] = ("image", "point", "radar", "audio")

#: That nothing of the other kinds is there is a thing that inputs can have in common too.
NOTHING = "no vehicle"
#: What an option is about, and the classes that are of this kind.
KINDS: Mapping[str, tuple[str, ...]] = {
    "car": ("car",),
    "bus or truck": ("bus", "truck"),
    "motorcycle": ("motorcycle",),
    NOTHING: (),
}
#: Kind and direction.
Concept = tuple[str, str]
CONCEPTS: tuple[Concept, ...] = tuple((kind, where) for kind in KINDS for where in DIRECTIONS)

#: What moves slower may as well stand.
_MOVING_MPS = 1.0
#: A thing is heard where two bands rise so far above all else at one microphone.
_HEARD_DB, _HEARD_BANDS = 2.0, 2
_PLACES = {
    "front": "in front of the vehicle",
    "front left": "to the front left of the vehicle",
    "front right": "to the front right of the vehicle",
    "back": "behind the vehicle",
    "back left": "to the back left of the vehicle",
    "back right": "to the back right of the vehicle",
}
_ASKED = "What do these inputs have in common?"
_TRIES = 60
#: Wrong options that are tried with each other: that hold in an input, and that hold in none.
_TRIED, _FILL = 8, 2
#: Draws of which the one is taken that a blind guess gains least from.
_CANDIDATES = 8
_RIGHT, _WRONG = 0, 1


@dataclass(frozen=True, eq=False)
class Moment:
    """A keyframe that inputs can be made of.

    Attributes:
        data: that it is in.
        scene: its token.
        token: of the keyframe.
        own_speed_mps: of the vehicle.
    """

    data: NuScenes
    scene: str
    token: str
    own_speed_mps: float

    @cached_property
    def objects(self) -> Float:
        """Seen and barely seen ones, see `annotated_objects`."""
        return annotated_objects(self.data, self.token)

    def rng(self, sense: Sense) -> np.random.Generator:
        """For what is drawn of this moment: the same whenever it is asked."""
        digest = hashlib.sha256(f"{self.token} {sense}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))

    @cached_property
    def seen(self) -> dict[Concept, bool | None]:
        """What holds, what does not, and what annotations leave open (None), for eyes."""
        return concepts_of(self.objects)

    @cached_property
    def heard(self) -> dict[Concept, bool | None]:
        """As `seen`, for ears: what drowns in all else is open."""
        return {
            (kind, where): self._silence(where)
            if kind == NOTHING
            else None
            if holds and not self._is_heard((kind, where))
            else holds
            for (kind, where), holds in self.seen.items()
        }

    def holds(self, sense: Sense) -> dict[Concept, bool | None]:
        """What holds in the input that a sense gives."""
        return self.heard if sense == "audio" else self.seen

    def _silence(self, where: str) -> bool | None:
        """Whether nothing drives there, by ear: what drives and drowns leaves it open."""
        holds = self.seen[NOTHING, where]
        heard = any(
            self.seen[kind, where] and self._is_heard((kind, where))
            for kind in KINDS
            if kind != NOTHING
        )
        return None if holds is False and not heard else holds

    def _is_heard(self, concept: Concept) -> bool:
        if concept not in self._heard:
            mine = np.array([_concept(row) == concept and _is_moving(row) for row in self.objects])
            without = street_levels(self.objects[~mine], self.own_speed_mps)
            raised = (self._levels - without).mean(axis=0) >= _HEARD_DB
            self._heard[concept] = bool((raised.sum(axis=1) >= _HEARD_BANDS).any())
        return self._heard[concept]

    @cached_property
    def _levels(self) -> NDArray[np.float64]:
        return street_levels(self.objects, self.own_speed_mps)

    @cached_property
    def _heard(self) -> dict[Concept, bool]:
        return {}


def concepts_of(objects: Float) -> dict[Concept, bool | None]:
    """Which concepts hold for objects around the vehicle; None where that is open.

    True: one that moves is seen. False: none of the kind is there, moving or not. Of `NOTHING`,
    true: none of any kind is there, or parked ones only; false: one that moves is seen.

    Args:
        objects: float32 `[n, 12]`, see `annotated_objects`.
    """
    found: dict[Concept, bool | None] = {concept: concept[0] == NOTHING for concept in CONCEPTS}
    for row in objects:
        concept = _concept(row)
        if concept is None:
            continue
        is_sure = row[OBJECT_COLUMNS.index("score")] >= 1
        moves = is_sure and _is_moving(row)
        nothing = NOTHING, concept[1]
        if moves:
            found[nothing] = False
        elif found[nothing] and not _is_parked(row):
            found[nothing] = None
        if not found[concept]:
            found[concept] = True if moves else None
    return found


def _concept(row: Float) -> Concept | None:
    name = OBJECT_CLASSES[int(row[OBJECT_COLUMNS.index("class")])]
    kind = next((kind for kind, classes in KINDS.items() if name in classes), None)
    x, y = (float(row[OBJECT_COLUMNS.index(axis)]) for axis in "xy")
    where = direction_of((x, y))
    return None if kind is None or where is None else (kind, where)


def _is_moving(row: Float) -> bool:
    speed = np.hypot(*(row[OBJECT_COLUMNS.index(name)] for name in ("vx", "vy")))
    # NaN is no motion that anybody knows of.
    return bool(speed >= _MOVING_MPS)


def _is_parked(row: Float) -> bool:
    status = int(row[OBJECT_COLUMNS.index("status")])
    return status >= 0 and OBJECT_STATUSES[status] in ("parked", "without rider")


def moments_of(data: NuScenes, scenes: Sequence[str] | None = None) -> list[Moment]:
    """The keyframes of a data set behind the first of each scene, whose speed is known.

    Args:
        data: with annotations.
        scenes: tokens; None takes all.

    Raises:
        DataError: there are no annotations, or a table is wrong.
    """
    if not data.has_annotations:
        raise DataError(
            "there are no annotations, so nobody knows what inputs have in common",
            field=str(data.dataroot),
            remedy="use a split with annotations, or make drives (tailwire simulate)",
        )
    found: list[Moment] = []
    for scene in data.scenes:
        if scenes is not None and scene.token not in scenes:
            continue
        before: tuple[NDArray[np.float64], int] | None = None
        for sample in data.samples(scene):
            place = keyframe_pose(data, sample.token)[:2, 3]
            if before is not None:
                seconds = (sample.stamp_ns - before[1]) / 1e9
                speed = float(np.hypot(*(place - before[0]))) / max(seconds, 1e-3)
                found.append(Moment(data, scene.token, sample.token, speed))
            before = place, sample.stamp_ns
    return found


@dataclass(frozen=True)
class MadeItem:
    """An item and the moments that its inputs are of, by sense."""

    item: CommonalityItem
    moments: Mapping[Sense, Moment]


def make_items(
    moments: Sequence[Moment], per_set: int, seed: int, senses: Sequence[Sense] = SENSES
) -> list[MadeItem]:
    """Make items for each set of two and more senses.

    Right concepts and right letters are drawn evenly, as far as the drives have them. There are as
    many items of three senses as of two, and so on.

    Args:
        moments: to draw from; of as many scenes as an item has inputs, at least.
        per_set: items of each pair of senses, at most.
        seed: of what is drawn.
        senses: that inputs may be of.

    Raises:
        ConfigError: there are too few senses, scenes or items.
    """
    if per_set < 1 or len(set(senses)) < 2:
        raise ConfigError(
            f"{per_set} items of {len(set(senses))} senses",
            field="items",
            remedy="ask for one item or more of two senses or more",
        )
    ordered: list[Sense] = [sense for sense in SENSES if sense in senses]
    made: list[MadeItem] = []
    for size in range(2, len(ordered) + 1):
        for chosen in combinations(ordered, size):
            rng = np.random.default_rng([seed, *(SENSES.index(sense) for sense in chosen)])
            count = round(per_set * comb(len(ordered), 2) / comb(len(ordered), size))
            made += _items_of(moments, chosen, count, rng)
    return made


def _items_of(
    moments: Sequence[Moment], senses: Sequence[Sense], count: int, rng: np.random.Generator
) -> list[MadeItem]:
    """Of one set of senses; the concept that was right least often comes next."""
    holds = np.array([[_row_of(moment, sense) for sense in senses] for moment in moments])
    if not len(moments):
        return []
    scenes = np.unique([moment.scene for moment in moments], return_inverse=True)[1]
    tally = np.zeros((2, len(CONCEPTS)))
    seen: set[tuple[int, ...]] = set()
    found: list[MadeItem] = []
    letters: list[int] = []
    failures: Counter[int] = Counter()
    usable = [c for c in range(len(CONCEPTS)) if (holds[:, :, c] == 1).any(axis=0).all()]
    while len(found) < count and usable:
        fewest = min(tally[_RIGHT, concept] for concept in usable)
        least = [concept for concept in usable if tally[_RIGHT, concept] == fewest]
        common = least[int(rng.integers(len(least)))]
        # What is often wrong and seldom right would be known for wrong by who sees nothing.
        odds = (tally[_WRONG] + 1) / (tally[_RIGHT] + 1)
        drawn = [_draw(common, holds, scenes, usable, odds, rng) for _ in range(_CANDIDATES)]
        fresh = [one for one in drawn if one is not None and one[0] not in seen]
        if not fresh:
            failures[common] += 1
            if failures[common] >= _TRIES:
                usable.remove(common)
            continue
        rows, others = min(fresh, key=lambda one: odds[list(one[1])].sum())
        seen.add(rows)
        tally[_RIGHT, common] += 1
        np.add.at(tally[_WRONG], list(others), 1)
        chosen: dict[Sense, Moment] = {
            sense: moments[row] for sense, row in zip(senses, rows, strict=True)
        }
        wrong = [CONCEPTS[concept] for concept in others]
        # Each letter is right as often as any other.
        letters = letters or rng.permutation(len(LETTERS)).tolist()
        found.append(_item(chosen, CONCEPTS[common], wrong, len(found), letters.pop()))
    return found


def _row_of(moment: Moment, sense: Sense) -> list[int]:
    """By concept 1 where it holds, 0 where it does not, -1 where that is open."""
    holds = moment.holds(sense)
    return [-1 if holds[concept] is None else int(bool(holds[concept])) for concept in CONCEPTS]


def _draw(
    common: int,
    holds: NDArray[np.int64],
    scenes: NDArray[np.int64],
    usable: Sequence[int],
    odds: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Moments of different scenes, and three options that do not hold in all of them.

    Args:
        common: concept that holds in all.
        holds: `[moments, senses, concepts]`, see `_row_of`.
        scenes: `[moments]`.
        usable: concepts that options may be about.
        odds: by concept, how often it was wrong for each time that it was right.
        rng: draws.

    Returns:
        Rows of the moments, one a sense, and the wrong options in a drawn order; None where these
        moments do not do.
    """
    rows: list[int] = []
    for sense in range(holds.shape[1]):
        free = (holds[:, sense, common] == 1) & ~np.isin(scenes, scenes[rows])
        # In an input where nothing else holds, that one thing would tell the answer.
        free &= (holds[:, sense] == 1).sum(axis=1) > 1
        if not free.any():
            return None
        rows.append(int(rng.choice(np.flatnonzero(free))))
    facts = holds[rows, range(len(rows))]
    wrong = [c for c in usable if c != common and (facts[:, c] == 0).any()]
    somewhere = [c for c in wrong if (facts[:, c] == 1).any()]
    fill = [c for c in wrong if c not in somewhere]
    spare = [*rng.permutation(somewhere)[:_TRIED], *rng.permutation(fill)[:_FILL]]
    sets = np.array(list(combinations(spare, len(LETTERS) - 1)), np.int64).reshape(-1, 3)
    # In each input one wrong option holds at least, so that it does not tell the answer alone.
    covered = (facts[:, sets] == 1).any(axis=2).all(axis=0)
    if not covered.any():
        return None
    sets = sets[covered]
    others = sets[int(odds[sets].sum(axis=1).argmin())]
    return tuple(rows), tuple(int(others[at]) for at in rng.permutation(len(others)))


def _item(
    chosen: Mapping[Sense, Moment],
    common: Concept,
    others: Sequence[Concept],
    number: int,
    right: int,
) -> MadeItem:
    concepts = list(others)
    concepts.insert(right, common)
    options = tuple(option_text(concept) for concept in concepts)
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=True)]
    item = CommonalityItem(
        id=f"{'-'.join(chosen)}-{number:04}",
        question="\n".join([_ASKED, *lines]),
        options=options,
        answer=LETTERS[right],
        inputs={sense: input_file(sense, moment.token) for sense, moment in chosen.items()},
    )
    return MadeItem(item, chosen)


def option_text(concept: Concept) -> str:
    """A concept as an option says it."""
    kind, where = concept
    what = "No moving vehicle" if kind == NOTHING else f"A moving {kind}"
    return f"{what} {_PLACES[where]}"


def input_file(sense: Sense, token: str) -> str:
    """Where the input of a moment lies, relative to the items."""
    ending = {"image": "jpg", "point": "npy", "radar": "npy", "audio": "npy"}[sense]
    return f"inputs/{sense}/{token}.{ending}"
