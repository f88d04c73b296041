"""Made questions: right by an evaluator of their words, balanced, never twice, by the seed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from tailwire.runtime.errors import ConfigError, DataError
from tailwire.runtime.questions import NUSCENES_QA_ANSWERS
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.questions.generate import make_questions, split_of_scenes
from tailwire.simulation.questions.items import QaItem
from tailwire.simulation.questions.templates import TEMPLATE_TYPES, TEMPLATES

from .brute_force import answer_from_words, is_ignored, is_seen, things_of
from .crowds import Box, crowd, write_crowd


def test_there_are_sixty_templates_of_five_types_and_two_hops() -> None:
    assert len(TEMPLATES) >= 60
    assert len({template.text for template in TEMPLATES}) == len(TEMPLATES)
    assert len({template.id for template in TEMPLATES}) == len(TEMPLATES)
    hops = {
        (template.template_type, any("@ego" in s or "@object" in s for s in template.shapes))
        for template in TEMPLATES
    }
    assert hops == {(kind, hop) for kind in TEMPLATE_TYPES for hop in (False, True)}


def test_every_answer_is_what_the_words_mean_whatever_is_doubtful(
    crowd_items: tuple[QaItem, ...], boxes_of_sample: dict[str, list[Box]]
) -> None:
    rng = random.Random(3)
    checked: Counter[str] = Counter()
    for item in crowd_items:
        assert item.template is not None
        boxes = [box for box in boxes_of_sample[item.sample_token] if not is_ignored(box)]
        seen = [box for box in boxes if is_seen(box)]
        some = [box for box in boxes if is_seen(box) or rng.random() < 0.5]
        for settled in (seen, some, boxes):
            words = item.question, item.template
            assert answer_from_words(*words, things_of(settled)) == item.answer, item
        checked[item.template] += 1
    rare = {template.id for template in TEMPLATES if not checked[template.id]}
    assert not rare
    assert checked.total() > 2000


def test_hops_and_relations_are_told_by_the_words(crowd_items: tuple[QaItem, ...]) -> None:
    for item in crowd_items:
        related = " to our " in item.question or " of the " in item.question
        assert item.num_hop == related
        assert item.answer in NUSCENES_QA_ANSWERS


def test_a_keyframe_has_many_questions_and_none_twice(crowd_items: tuple[QaItem, ...]) -> None:
    questions: defaultdict[str, list[str]] = defaultdict(list)
    for item in crowd_items:
        questions[item.sample_token].append(item.question)
    assert all(len(set(texts)) == len(texts) for texts in questions.values())
    assert len(questions) == 100
    assert len(crowd_items) >= 25 * len(questions)


def test_keyframes_that_follow_each_other_are_asked_different_things(
    crowd_data: NuScenes, crowd_items: tuple[QaItem, ...]
) -> None:
    asked: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for item in crowd_items:
        asked[item.sample_token].add((item.question, item.answer))
    for scene in crowd_data.scenes:
        tokens = [sample.token for sample in crowd_data.samples(scene)]
        for before, after in pairwise(tokens):
            assert not asked[before] & asked[after]


@pytest.mark.parametrize("kind", ["exist", "comparison"])
def test_no_answer_has_the_majority_in_a_template(
    crowd_items: tuple[QaItem, ...], kind: str
) -> None:
    answers: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    for item in crowd_items:
        if item.template_type == kind:
            answers[item.template][item.answer] += 1
    often = [found for found in answers.values() if found.total() >= 20]
    assert len(often) >= 10
    for found in often:
        assert max(found.values()) / found.total() < 0.6


def test_counts_objects_and_statuses_are_spread(crowd_items: tuple[QaItem, ...]) -> None:
    for kind, largest in (("count", 0.25), ("object", 0.45), ("status", 0.45)):
        answers = Counter(item.answer for item in crowd_items if item.template_type == kind)
        assert max(answers.values()) / answers.total() < largest
        assert len(answers) >= 6


def test_the_seed_decides(crowd_data: NuScenes, crowd_items: tuple[QaItem, ...]) -> None:
    again = make_questions(crowd_data, seed=7)
    assert [next(again) for _ in range(300)] == list(crowd_items[:300])
    other = make_questions(crowd_data, seed=8)
    assert [next(other) for _ in range(300)] != list(crowd_items[:300])


def test_splits_are_by_scene(crowd_data: NuScenes, crowd_items: tuple[QaItem, ...]) -> None:
    splits = split_of_scenes(crowd_data)
    assert Counter(splits.values()) == {"train": 8, "val": 2}
    for item in crowd_items:
        assert item.split == splits[crowd_data.sample(item.sample_token).scene_token]


def test_two_scenes_have_one_for_val_and_one_scene_has_none(tmp_path: Path) -> None:
    two = write_crowd(tmp_path / "two", [crowd(1, 1), crowd(2, 1)])
    assert list(split_of_scenes(two).values()) == ["train", "val"]
    one = write_crowd(tmp_path / "one", [crowd(1, 1)])
    assert list(split_of_scenes(one).values()) == ["train"]


def test_the_real_keyframe_has_no_statuses_and_still_gets_questions(keyframe_root: Path) -> None:
    items = list(make_questions(NuScenes.open(keyframe_root)))
    assert len(items) >= 20
    assert not [item for item in items if item.template_type == "status"]


def test_a_sketch_drive_gets_questions(sketch_root: Path) -> None:
    items = list(make_questions(NuScenes.open(sketch_root)))
    assert {item.template_type for item in items} >= {"exist", "count", "comparison"}


def test_bad_numbers_are_refused_before_anything_is_read(crowd_data: NuScenes) -> None:
    for seed, number, named in ((-1, 26, "seed"), (7, 0, "per_key"), (7, 10_000, "per_key")):
        with pytest.raises(ConfigError, match=named):
            make_questions(crowd_data, seed=seed, per_keyframe=number)


def test_a_data_set_without_lidar_is_refused(dataset_without_lidar: Path) -> None:
    with pytest.raises(DataError, match="no LiDAR"):
        list(make_questions(NuScenes.open(dataset_without_lidar)))
