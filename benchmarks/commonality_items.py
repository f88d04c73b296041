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
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..kernels.object_tokens import OBJECT_CLASSES, OBJECT_COLUMNS
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

#: What an option is about, and the classes that are of this kind.
KINDS: Mapping[str, tuple[str, ...]] = {
    "car": ("car",),
    "bus or truck": ("bus", "truck"),
    "motorcycle": ("motorcycle",),
}
#: Kind and direction.
Concept = tuple[str, str]
CONCEPTS: tuple[Concept, ...] = tuple((kind, where) for kind in KINDS for where in DIRECTIONS)

#: What moves slower may as well stand.
_MOVING_MPS = 1.0
#: A thing is heard where two bands rise so far above all else at one microphone.
_HEARD_DB, _HEARD_BANDS = 3.0, 2
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
            concept: None if holds and not self._is_heard(concept) else holds
            for concept, holds in self.seen.items()
        }

    def holds(self, sense: Sense) -> dict[Concept, bool | None]:
        """What holds in the input that a sense gives."""
        return self.heard if sense == "audio" else self.seen

    def _is_heard(self, concept: Concept) -> bool:
        mine = np.array([_concept(row) == concept and _is_moving(row) for row in self.objects])
        with_it, without = (
            street_levels(objects, self.own_speed_mps)
            for objects in (self.objects, self.objects[~mine])
        )
        raised = (with_it - without).mean(axis=0) >= _HEARD_DB
        return bool((raised.sum(axis=1) >= _HEARD_BANDS).any())


def concepts_of(objects: Float) -> dict[Concept, bool | None]:
    """Which concepts hold for objects around the vehicle; None where that is open.

    True: one that moves is seen. False: none of the kind is there, moving or not.

    Args:
        objects: float32 `[n, 12]`, see `annotated_objects`.
    """
    found: dict[Concept, bool | None] = dict.fromkeys(CONCEPTS, False)
    for row in objects:
        concept = _concept(row)
        if concept is None or found[concept]:
            continue
        is_sure = row[OBJECT_COLUMNS.index("score")] >= 1
        found[concept] = True if is_sure and _is_moving(row) else None
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

    Right concepts and right letters are drawn evenly, as far as the drives have them.

    Args:
        moments: to draw from; of as many scenes as an item has inputs, at least.
        per_set: items of each set of senses, at most.
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
            made += _items_of(moments, chosen, per_set, rng)
    return made


def _items_of(
    moments: Sequence[Moment], senses: Sequence[Sense], count: int, rng: np.random.Generator
) -> list[MadeItem]:
    """Of one set of senses; the concept that was right least often comes next."""
    true_at: dict[tuple[Sense, Concept], list[Moment]] = {
        (sense, concept): [m for m in moments if m.holds(sense)[concept]]
        for sense in senses
        for concept in CONCEPTS
    }
    uses = dict.fromkeys(CONCEPTS, 0)
    usable = [c for c in CONCEPTS if all(true_at[sense, c] for sense in senses)]
    offered = frozenset(usable)
    seen: set[tuple[str, ...]] = set()
    found: list[MadeItem] = []
    failures: Counter[Concept] = Counter()
    while len(found) < count and usable:
        fewest = min(uses[concept] for concept in usable)
        common = usable[int(rng.choice([i for i, c in enumerate(usable) if uses[c] == fewest]))]
        made = _draw(common, senses, true_at, offered, rng)
        key = () if made is None else tuple(m.token for m in made[0].values())
        if made is None or key in seen:
            failures[common] += 1
            if failures[common] >= _TRIES:
                usable.remove(common)
            continue
        seen.add(key)
        uses[common] += 1
        chosen, others = made
        found.append(_item(chosen, common, others, len(found), rng))
    return found


def _draw(
    common: Concept,
    senses: Sequence[Sense],
    true_at: Mapping[tuple[Sense, Concept], Sequence[Moment]],
    offered: frozenset[Concept],
    rng: np.random.Generator,
) -> tuple[dict[Sense, Moment], list[Concept]] | None:
    """Moments of different scenes, and three options that do not hold in all of them."""
    chosen: dict[Sense, Moment] = {}
    for sense in senses:
        taken = {moment.scene for moment in chosen.values()}
        free = [moment for moment in true_at[sense, common] if moment.scene not in taken]
        if not free:
            return None
        # Rather one in which something else holds too: else it would tell the answer by itself.
        rich = [moment for moment in free if sum(map(bool, moment.holds(sense).values())) > 1]
        chosen[sense] = (rich or free)[int(rng.integers(len(rich or free)))]
    facts = [moment.holds(sense) for sense, moment in chosen.items()]
    wrong = [c for c in CONCEPTS if any(one[c] is False for one in facts)]
    # Those that hold somewhere come first: to rule them out, all inputs must be looked at.
    misleading = _misleading(facts, wrong, offered, rng)
    # What is never right would be known for wrong by who sees nothing.
    if len(often := [c for c in wrong if c in offered or c in misleading]) >= len(LETTERS) - 1:
        wrong = often
    half = [c for c in wrong if any(one[c] for one in facts) and c not in misleading]
    rest = [c for c in wrong if c not in half and c not in misleading]
    order = [*rng.permutation(len(half)), *(len(half) + rng.permutation(len(rest)))]
    others = [*misleading, *([*half, *rest][int(at)] for at in order)][: len(LETTERS) - 1]
    if len(others) < len(LETTERS) - 1:
        return None
    return chosen, [others[int(at)] for at in rng.permutation(len(others))]


def _misleading(
    facts: Sequence[Mapping[Concept, bool | None]],
    wrong: Sequence[Concept],
    offered: frozenset[Concept],
    rng: np.random.Generator,
) -> list[Concept]:
    """Wrong options of which one at least holds in each input, as far as there are such."""
    left, found = set(range(len(facts))), list[Concept]()
    while left and len(found) < len(LETTERS) - 1:
        gains = {
            c: (sum(bool(facts[i][c]) for i in left), c in offered) for c in wrong if c not in found
        }
        most = max(gains.values(), default=(0, False))
        if not most[0]:
            break
        best = [concept for concept, gain in gains.items() if gain == most]
        chosen = best[int(rng.integers(len(best)))]
        found.append(chosen)
        left -= {i for i in left if facts[i][chosen]}
    return found


def _item(
    chosen: Mapping[Sense, Moment],
    common: Concept,
    others: Sequence[Concept],
    number: int,
    rng: np.random.Generator,
) -> MadeItem:
    right = int(rng.integers(len(LETTERS)))
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
    return f"A moving {kind} {_PLACES[where]}"


def input_file(sense: Sense, token: str) -> str:
    """Where the input of a moment lies, relative to the items."""
    ending = {"image": "jpg", "point": "npy", "radar": "npy", "audio": "npy"}[sense]
    return f"inputs/{sense}/{token}.{ending}"
