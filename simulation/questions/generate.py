"""Questions with known answers for every keyframe of a drive, balanced while they are made."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Iterator

from ...runtime.errors import ConfigError
from ..nuscenes import NuScenes
from .balance import Ledger
from .candidates import Candidates
from .items import QaItem, Split
from .programs import GraphIndex, Program
from .scene_graph import SceneGraph, scene_graph
from .templates import TEMPLATE_TYPES, TEMPLATES, Template

PER_KEYFRAME = 30

_MAX_PER_KEYFRAME = 400
_TYPE_SHARES = {"exist": 0.22, "count": 0.22, "object": 0.18, "status": 0.16, "comparison": 0.22}
#: Draws for one question.
_DRAWS = 16
_ROUNDS = 3
#: Keyframes of a scene in which a program is not asked again while its answer stays.
_REMEMBERED_KEYFRAMES = 4
_VAL_EVERY = 5

_Choice = tuple[Program, str]


def split_of_scenes(data: NuScenes) -> dict[str, Split]:
    """Scene token to split: every fifth scene is `val`, of two to four scenes the last one."""
    tokens = [scene.token for scene in data.scenes]
    splits: dict[str, Split] = {
        token: "val" if place % _VAL_EVERY == _VAL_EVERY - 1 else "train"
        for place, token in enumerate(tokens)
    }
    if 2 <= len(tokens) < _VAL_EVERY:
        splits[tokens[-1]] = "val"
    return splits


def make_questions(
    data: NuScenes, seed: int = 7, per_keyframe: int = PER_KEYFRAME
) -> Iterator[QaItem]:
    """Make questions for all scenes, in the order of the table and of the stamps.

    The same data set, seed and number give the same questions. A keyframe with little in it has
    fewer of them; none is repeated within a keyframe. One without any object has none: nobody
    can tell an empty street from one that was not annotated.

    Args:
        data: an opened data set, with annotations; nuScenes itself or a made one.
        seed: from 0.
        per_keyframe: largest number of questions of one keyframe, 1 to 400.

    Raises:
        ConfigError: the seed or the number is out of range.
        DataError: the data set has no LiDAR, or a table of annotations is wrong.
        SensorError: a keyframe has no file of the LiDAR.
    """
    return (item for item, _ in make_programs(data, seed, per_keyframe))


def make_programs(
    data: NuScenes, seed: int = 7, per_keyframe: int = PER_KEYFRAME
) -> Iterator[tuple[QaItem, Program]]:
    """The questions of `make_questions`, each with the program that it asks.

    Arguments and errors are the same.
    """
    if seed < 0:
        raise ConfigError(f"the seed is {seed}", field="seed", remedy="give 0 or more")
    if not 1 <= per_keyframe <= _MAX_PER_KEYFRAME:
        raise ConfigError(
            f"{per_keyframe} questions per keyframe are out of range",
            field="per_keyframe",
            remedy=f"take 1 to {_MAX_PER_KEYFRAME}",
        )
    return _make(data, seed, per_keyframe)


def _make(data: NuScenes, seed: int, per_keyframe: int) -> Iterator[tuple[QaItem, Program]]:
    splits = split_of_scenes(data)
    rng = random.Random(seed)
    makers: dict[Split, _Maker] = {split: _Maker(rng) for split in ("train", "val")}
    for scene in data.scenes:
        split = splits[scene.token]
        maker = makers[split]
        maker.begin_scene()
        for sample in data.samples(scene):
            for template, program, answer in maker.ask(
                scene_graph(data, sample.token), per_keyframe
            ):
                item = QaItem(
                    sample_token=sample.token,
                    question=template.question(program),
                    answer=answer,
                    template_type=template.template_type,
                    num_hop=program.num_hop,
                    split=split,
                    template=template.id,
                )
                yield item, program


class _Maker:
    """Makes the questions of one split, keyframe by keyframe."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ledger = Ledger()
        self._asked_of_type: Counter[str] = Counter()
        self._asked_of_template: Counter[str] = Counter()
        self._recent: deque[set[_Choice]] = deque(maxlen=_REMEMBERED_KEYFRAMES)

    def begin_scene(self) -> None:
        """Forget what was asked at the keyframes before."""
        self._recent.clear()

    def ask(self, graph: SceneGraph, wanted: int) -> list[tuple[Template, Program, str]]:
        """Up to `wanted` questions about one keyframe."""
        if not graph.objects:
            return []
        index = GraphIndex(graph)
        candidates = Candidates(index, self._rng)
        asked: list[tuple[Template, Program, str]] = []
        texts: set[str] = set()
        for _ in range(_ROUNDS):
            open_templates = self._by_type()
            while len(asked) < wanted and open_templates:
                kind = self._neediest(open_templates)
                template = open_templates[kind].pop()
                if not open_templates[kind]:
                    del open_templates[kind]
                choice = self._choose(template, index, candidates, texts)
                if choice is not None:
                    program, answer = choice
                    asked.append((template, program, answer))
                    texts.add(template.question(program))
                    self._count(template, program, answer)
        self._recent.append({(program, answer) for _, program, answer in asked})
        return asked

    def _by_type(self) -> dict[str, list[Template]]:
        """Templates by type, the least used ones last, where they are taken from."""
        found = {
            kind: [template for template in TEMPLATES if template.template_type == kind]
            for kind in TEMPLATE_TYPES
        }
        for templates in found.values():
            self._rng.shuffle(templates)
            templates.sort(key=lambda template: -self._asked_of_template[template.id])
        return found

    def _neediest(self, kinds: Iterable[str]) -> str:
        return min(kinds, key=lambda kind: (self._asked_of_type[kind] + 1) / _TYPE_SHARES[kind])

    def _choose(
        self, template: Template, index: GraphIndex, candidates: Candidates, texts: set[str]
    ) -> _Choice | None:
        """The drawn program whose answer serves the balance best."""
        best: tuple[float, _Choice] | None = None
        for _ in range(_DRAWS):
            program = candidates.draw(template)
            answer = None if program is None else index.answer(program)
            if program is None or answer is None:
                continue
            choice = program, answer
            load = self._ledger.load(template, program, answer)
            if load is None or (best is not None and load >= best[0]):
                continue
            if template.question(program) in texts or any(choice in old for old in self._recent):
                continue
            best = load, choice
        return None if best is None else best[1]

    def _count(self, template: Template, program: Program, answer: str) -> None:
        self._ledger.add(template, program, answer)
        self._asked_of_type[template.template_type] += 1
        self._asked_of_template[template.id] += 1
