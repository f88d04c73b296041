"""The questions of a keyframe with their answers, by type, as many as there is room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from PIL import Image, ImageDraw

from .palette import MUTED, PANEL, QUESTION_COLOURS, TEXT, font

_LETTERS_PX, _LINE_PX, _MARGIN_PX = 15, 20, 16
_COLUMNS = 2


class QuestionAndAnswer(Protocol):
    """What is shown of a question."""

    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def template_type(self) -> str: ...


def question_panel(
    questions: Sequence[QuestionAndAnswer], size: tuple[int, int], note: str = ""
) -> Image.Image:
    """Draw questions with their answers.

    Args:
        questions: of the keyframe.
        size: width and height in pixels.
        note: shown where there are none.
    """
    panel = Image.new("RGB", size, PANEL)
    draw = ImageDraw.Draw(panel)
    if not questions:
        draw.text((_MARGIN_PX, 8), note or "no questions", fill=MUTED, font=font(_LETTERS_PX))
        return panel
    by_type: dict[str, list[QuestionAndAnswer]] = {}
    for question in questions:
        by_type.setdefault(question.template_type, []).append(question)
    # The most of each type that there is room for; a rehearsal draws nothing.
    most, too_many = 1, max(map(len, by_type.values())) + 1
    while most + 1 < too_many:
        middle = (most + too_many) // 2
        if _write(by_type, middle, _Columns(draw, size, rehearsal=True)).fits:
            most = middle
        else:
            too_many = middle
    _write(by_type, most, _Columns(draw, size))
    return panel


def _write(
    by_type: Mapping[str, Sequence[QuestionAndAnswer]], most: int, columns: _Columns
) -> _Columns:
    for kind, asked in sorted(by_type.items()):
        colour = QUESTION_COLOURS.get(kind, TEXT)
        count = min(most, len(asked))
        more = f", {count} of them shown" if count < len(asked) else ""
        columns.heading(f"{kind.upper() or 'QUESTIONS'} ({len(asked)}{more})", colour)
        for place in range(count):
            if not columns.fits:
                return columns
            one = asked[place * len(asked) // count]
            columns.entry(one.question, one.answer, colour)
    return columns


class _Columns:
    """Writes lines into columns, one below the other."""

    def __init__(
        self, draw: ImageDraw.ImageDraw, size: tuple[int, int], *, rehearsal: bool = False
    ) -> None:
        self._draw, self._rehearsal = draw, rehearsal
        self._width = (size[0] - _MARGIN_PX) // _COLUMNS - _MARGIN_PX
        self._per_column = (size[1] - _MARGIN_PX) // _LINE_PX
        self._line = 0

    @property
    def fits(self) -> bool:
        """Whether all that was written so far had room."""
        return self._line <= self._per_column * _COLUMNS

    def heading(self, text: str, colour: tuple[int, int, int]) -> None:
        if self._line % self._per_column:
            self._line += 1
        # Not alone at the foot of a column.
        if self._per_column - self._line % self._per_column < 3:
            self._line += self._per_column - self._line % self._per_column
        self._write([(text, colour)])

    def entry(self, question: str, answer: str, colour: tuple[int, int, int]) -> None:
        lines = self._wrapped(question, answer)
        if self._line % self._per_column + len(lines) > self._per_column:
            self._line += self._per_column - self._line % self._per_column
        for row, line in enumerate(lines):
            last = row == len(lines) - 1
            self._write([(line, TEXT), *([(f" {answer}", colour)] if last else [])], bool(row))

    def _wrapped(self, question: str, answer: str) -> list[str]:
        lines = [""]
        letters = font(_LETTERS_PX)
        for word in question.split():
            longer = f"{lines[-1]} {word}".strip()
            if self._draw.textlength(longer, letters) > self._width - 14 and lines[-1]:
                lines.append(word)
            else:
                lines[-1] = longer
        room = self._width - 14 - self._draw.textlength(f" {answer}", letters)
        if self._draw.textlength(lines[-1], letters) > room:
            lines.append("")
        return lines

    def _write(self, parts: list[tuple[str, tuple[int, int, int]]], indent: bool = False) -> None:
        column, row = divmod(self._line, self._per_column)
        self._line += 1
        if self._rehearsal or column >= _COLUMNS:
            return
        x = _MARGIN_PX + column * (self._width + _MARGIN_PX) + 14 * indent
        y = _MARGIN_PX // 2 + row * _LINE_PX
        for text, colour in parts:
            self._draw.text((x, y), text, fill=colour, font=font(_LETTERS_PX))
            x += self._draw.textlength(text, font(_LETTERS_PX))
