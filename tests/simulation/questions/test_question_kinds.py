"""Kinds and directions of generated questions, as the runtime reads them from their words."""

from __future__ import annotations

from tailwire.runtime.question_kinds import question_kind, topic_of
from tailwire.simulation.questions.items import QaItem
from tailwire.simulation.questions.parse import program_of


def test_generated_questions_have_the_kind_of_their_template(
    crowd_items: tuple[QaItem, ...],
) -> None:
    for item in crowd_items:
        assert question_kind(item.question) == item.template_type, item.question
        program = program_of(item.question)
        assert program is not None
        parts = [part for part in (program.first, program.second) if part is not None]
        named = {part.direction for part in parts if part.anchor is None and part.direction}
        assert set(topic_of(item.question).directions) == named
