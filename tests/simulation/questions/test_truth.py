"""Right answers to texts: the same as those that the questions were made with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.questions.generate import make_programs
from tailwire.simulation.questions.parse import program_of
from tailwire.simulation.questions.standing import STANDING_QUESTIONS
from tailwire.simulation.questions.templates import TEMPLATE_TYPES, TEMPLATES
from tailwire.simulation.questions.truth import GroundTruth


def test_texts_are_read_as_the_programs_they_were_made_of(sketch_root: Path) -> None:
    made = list(make_programs(NuScenes.open(sketch_root), seed=3, per_keyframe=200))
    assert len({item.template for item, _ in made}) > len(TEMPLATES) / 2
    for item, program in made:
        assert program_of(item.question) == program, item.question


def test_truth_gives_the_answers_of_the_questions(sketch_root: Path) -> None:
    data = NuScenes.open(sketch_root)
    made = [item for item, _ in make_programs(data, seed=5, per_keyframe=60)]
    truth = GroundTruth(data, [item.question for item in made])
    for place, item in enumerate(made):
        assert truth.at(item.sample_token)[place] == item.answer, item.question


def test_standing_questions_are_of_all_types_and_have_a_program() -> None:
    operations = set()
    for text, answers in STANDING_QUESTIONS:
        program = program_of(text)
        assert program is not None, text
        operations.add(program.operation)
        assert len(answers) == len(set(answers)) > 1
    assert len(operations) == len(TEMPLATE_TYPES)


@pytest.mark.parametrize("text", ["", "Is it safe?", "Do you see any unicorns?", "How many?"])
def test_questions_of_others_have_no_answer(sketch_root: Path, text: str) -> None:
    data = NuScenes.open(sketch_root)
    sample = data.samples(data.scenes[0])[0]
    assert program_of(text) is None
    assert GroundTruth(data, [text]).at(sample.token) == (None,)


def test_the_majority_is_the_most_frequent_known_answer(sketch_root: Path) -> None:
    data = NuScenes.open(sketch_root)
    tokens = [sample.token for sample in data.samples(data.scenes[0])]
    questions = ["Can you see any cars?", "Is it safe?"]
    truth = GroundTruth(data, questions)
    answers = [truth.at(token)[0] for token in tokens]
    most, none = truth.majority(tokens)
    assert none is None
    assert most is not None
    assert all(answers.count(most) >= answers.count(one) for one in answers if one is not None)


def test_without_annotations_nothing_is_known(
    sketch_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = NuScenes.open(sketch_root)
    monkeypatch.setattr(NuScenes, "has_annotations", property(lambda _: False))
    tokens = [sample.token for sample in data.samples(data.scenes[0])]
    truth = GroundTruth(data, ["How many cars can you see?"])
    assert truth.at(tokens[0]) == (None,)
    assert truth.majority(tokens) == (None,)
