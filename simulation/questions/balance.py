"""What was answered so far, so that no answer can be guessed from the words of its question.

An answer is refused once it has more than its share among the questions of a template, of the
same classes and statuses, of the same with relations, of the same program, or of one word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from .programs import Program, Selection
from .templates import Template

#: Largest share of one answer in a template, by type, and the same for the words in it: where
#: many answers are possible, those of one wording cannot be as flat as those of a template.
_TEMPLATE_SHARE = {"exist": 0.51, "comparison": 0.51, "count": 0.24, "object": 0.35, "status": 0.42}
_WORDS_SHARE = {"exist": 0.51, "comparison": 0.51, "count": 0.3, "object": 0.4, "status": 0.5}
#: Shares of a few questions mean little: so many come on top.
_TEMPLATE_SLACK = {"exist": 0.5, "comparison": 0.5, "count": 1.0, "object": 1.0, "status": 1.0}
_WORDS_SLACK = {"exist": 1.0, "comparison": 1.0, "count": 2.0, "object": 2.0, "status": 2.0}


#: Single words stand in many questions; strict shares of them would leave little to ask.
_WORD_SHARE = {**_WORDS_SHARE, "exist": 0.54, "comparison": 0.54}
_WORD_SLACK = 5.0


class Ledger:
    """Counts of answers in one split."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[Hashable, str]] = Counter()
        self._totals: Counter[Hashable] = Counter()

    def load(self, template: Template, program: Program, answer: str) -> float | None:
        """How much this answer is in the way of balance: lower is better, None is refused."""
        kind = template.template_type
        worst = 0.0
        words = _word_keys(program)
        for key in (*_keys(template, program), *words):
            total, before = self._totals[key], self._answers[key, answer]
            share, slack = _WORDS_SHARE[kind], _WORDS_SLACK[kind]
            if key == template.id:
                share, slack = _TEMPLATE_SHARE[kind], _TEMPLATE_SLACK[kind]
            elif key in words:
                share, slack = _WORD_SHARE[kind], _WORD_SLACK
            if before + 1 > slack + share * (total + 1):
                return None
            worst = max(worst, (before + 1) / (total + 2))
        return worst

    def add(self, template: Template, program: Program, answer: str) -> None:
        """Count a question that is asked."""
        for key in (*_keys(template, program), *_word_keys(program)):
            self._totals[key] += 1
            self._answers[key, answer] += 1


def _keys(template: Template, program: Program) -> tuple[Hashable, ...]:
    parts = (program.first, program.second)
    asked = program.operation
    contents = (asked, *(_content(part) for part in parts))
    placed = (*contents, *(part and part.direction for part in parts))
    anchors = (asked, "anchors", *(part and _content(part.anchor) for part in parts))
    return (template.id, contents, placed, anchors, program)


def _word_keys(program: Program) -> tuple[Hashable, ...]:
    """Single words in their place: "more cars than" anything would else be a yes."""
    return tuple(
        (program.operation, place, word)
        for place, part in enumerate((program.first, program.second))
        if part is not None
        for word in (part.name, part.status, part.direction)
        if word is not None
    )


def _content(selection: Selection | None) -> Hashable:
    return None if selection is None else (selection.name, selection.status, selection.like_anchor)
