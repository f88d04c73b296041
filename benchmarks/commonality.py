"""Questions on what several inputs have in common, in the form of MCUB (2402.12750): read, scored.

An item has two to four inputs of different modalities and four options; the first character of
what a model says is its answer, so guessing gets a quarter right. The published files load through
the same reader as those that `commonality_items.py` makes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.errors import DataError

LETTERS = ("A", "B", "C", "D")
_OPTION = re.compile(r"^\s*\(?([A-D])[).:]\s*(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class CommonalityItem:
    """One question.

    Attributes:
        id: unique in its file.
        question: as it is put to a model, with the options.
        options: texts of `A` to `D`; empty where the question's text does not list them so.
        answer: the right letter.
        inputs: by modality, the file of its input, relative to the folder of the data.
    """

    id: str
    question: str
    options: tuple[str, ...]
    answer: str
    inputs: Mapping[str, str]

    @property
    def modalities(self) -> tuple[str, ...]:
        """In alphabetical order: names a set of inputs."""
        return tuple(sorted(self.inputs))

    def to_json(self) -> dict[str, Any]:
        """As the published files have it."""
        said = [{"from": "human", "value": self.question}, {"from": "gpt", "value": self.answer}]
        return {"id": self.id, "conversations": said, "modal_inputs": dict(self.inputs)}


def read_items(path: Path) -> list[CommonalityItem]:
    """Read a file of items.

    Raises:
        DataError: it cannot be read, or an item is wrong; the item and its field are named.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"the items cannot be read: {error}",
            field=str(path),
            remedy="name a JSON file of items",
        ) from error
    if not isinstance(data, list) or not data:
        raise DataError(
            "there is no list of items", field=str(path), remedy="name a JSON file of items"
        )
    items = [_item(one, f"{path}: item {number}") for number, one in enumerate(data)]
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise DataError(f"the id '{twice[0]}' is there twice", field=str(path), remedy="rename one")
    return items


def _item(data: Any, field: str) -> CommonalityItem:
    def fail(what: str, problem: str) -> DataError:
        return DataError(problem, field=f"{field}: {what}", remedy="correct the file")

    if not isinstance(data, dict):
        raise fail("item", "this is no object")
    said, inputs = data.get("conversations"), data.get("modal_inputs")
    texts = {
        one.get("from"): one.get("value")
        for one in (said if isinstance(said, list) else [])
        if isinstance(one, dict)
    }
    question, answer = texts.get("human"), texts.get("gpt")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise fail("conversations", "a text of human and one of gpt are needed")
    letter = first_letter(answer)
    if letter is None:
        raise fail("conversations", f"the answer {answer[:20]!r} begins with none of A to D")
    if not isinstance(inputs, dict) or not inputs:
        raise fail("modal_inputs", "there is no input")
    if not all(isinstance(part, str) and part for pair in inputs.items() for part in pair):
        raise fail("modal_inputs", "modalities and files are texts")
    if "id" not in data:
        raise fail("id", "it is missing")
    found = dict(_OPTION.findall(question))
    options = tuple(found[letter] for letter in LETTERS) if len(found) == len(LETTERS) else ()
    return CommonalityItem(str(data["id"]), question, options, letter, dict(inputs))


def first_letter(text: str) -> str | None:
    """The answer that a text gives: its first character, as the published score takes it."""
    first = text.strip()[:1].upper()
    return first if first in LETTERS else None


def items_text(items: Sequence[CommonalityItem]) -> str:
    """The text of a file of items, one item a line."""
    lines = ",\n".join(json.dumps(item.to_json(), ensure_ascii=False) for item in items)
    return f"[\n{lines}\n]\n"


@dataclass(frozen=True)
class CommonalityScore:
    """How many items a model got right.

    Attributes:
        items: asked.
        right: right.
        unread: answers that begin with none of the letters; they count as wrong.
        by_modalities: items and right ones by set of inputs.
    """

    items: int
    right: int
    unread: int
    by_modalities: Mapping[tuple[str, ...], tuple[int, int]]

    @property
    def accuracy(self) -> float:
        return self.right / self.items if self.items else 0.0


def score_answers(items: Sequence[CommonalityItem], answers: Mapping[str, str]) -> CommonalityScore:
    """Score what a model said.

    Args:
        items: that were asked.
        answers: by id, the text.

    Raises:
        DataError: an item has no answer, or an answer no item.
    """
    known = {item.id for item in items}
    for name, problem in (
        *((one, "has no answer") for one in sorted(known - answers.keys())),
        *((one, "is answered and not asked") for one in sorted(answers.keys() - known)),
    ):
        raise DataError(
            f"the item '{name}' {problem}", field="answers", remedy="answer every item once"
        )
    counts: dict[tuple[str, ...], tuple[int, int]] = {}
    right = unread = 0
    for item in items:
        letter = first_letter(answers[item.id])
        is_right = letter == item.answer
        right, unread = right + is_right, unread + (letter is None)
        asked, correct = counts.get(item.modalities, (0, 0))
        counts[item.modalities] = (asked + 1, correct + is_right)
    return CommonalityScore(len(items), right, unread, dict(sorted(counts.items())))


def blind_answers(
    items: Sequence[CommonalityItem], learned_from: Sequence[CommonalityItem]
) -> dict[str, str]:
    """What somebody says who knows which options are often right, and sees no input.

    Args:
        items: to answer.
        learned_from: other items of the same kind.
    """
    offered: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for item in learned_from:
        offered.update(item.options)
        if item.options:
            right[item.options[LETTERS.index(item.answer)]] += 1
    letters = Counter(item.answer for item in learned_from)
    usual = min(LETTERS, key=lambda letter: (-letters[letter], letter))
    answers: dict[str, str] = {}
    for item in items:
        # One more of four, so that an option that was never offered is as good as any.
        shares = [(right[text] + 1) / (offered[text] + 4) for text in item.options]
        answers[item.id] = LETTERS[shares.index(max(shares))] if shares else usual
    return answers
