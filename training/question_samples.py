"""Questions of files as decisions to learn: texts, allowed tokens, and the right one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..runtime.adaptation.samples import ROLES, ROW_BYTES, Choice, Samples, choices_of
from ..runtime.pack import PromptSpec
from ..runtime.questions import NUSCENES_QA_ANSWERS, AnswerTrie
from ..simulation.questions.items import QaItem

#: Bits of the objects that are meant, and of those that might be: uint8 `[3, 16]` each.
Trace = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True)
class QuestionSamples:
    """Questions as decisions.

    Attributes:
        texts: distinct ones, by their tokens; with the beginning of the answer where it has one.
        choices: distinct sets of allowed tokens.
        groups: types of questions.
        train: of the training scenes.
        held_out: of the others.
        mirrored: int32 `[texts]`, the text with left and right exchanged, itself where it has none.
        train_items: row of the question in the given ones, by decision.
        held_out_items: likewise.
    """

    texts: Sequence[tuple[int, ...]]
    choices: Sequence[tuple[int, ...]]
    groups: Sequence[str]
    train: Samples
    held_out: Samples
    mirrored: NDArray[np.int32]
    train_items: NDArray[np.int64]
    held_out_items: NDArray[np.int64]


def question_samples(
    items: Sequence[QaItem],
    moments: Mapping[str, int],
    tokenizer: Tokenizer,
    ends: Sequence[int],
    prompt: PromptSpec,
    answers: Sequence[str] = NUSCENES_QA_ANSWERS,
    traces: Callable[[QaItem], Trace | None] | None = None,
    mirror: bool = False,
) -> QuestionSamples:
    """Spell questions and answers.

    Args:
        items: questions with their answers.
        moments: row of the sensors' tokens by sample token; other questions are left out.
        tokenizer: of the language model.
        ends: its tokens that end a text.
        prompt: around a question.
        answers: the allowed ones.
        traces: which objects a question is about, None where nobody knows.
        mirror: whether texts to learn are also there with left and right exchanged.

    Raises:
        ConfigError: a right answer is not among the allowed ones.
    """

    def spell(answer: str) -> Sequence[int]:
        return tokenizer.encode(prompt.answer_prefix + answer, add_special_tokens=False).ids

    trie = AnswerTrie(answers, spell, ends[0] if ends else -1)
    decisions: dict[str, list[Choice]] = {}
    texts: dict[tuple[int, ...], int] = {}
    choices: dict[tuple[int, ...], int] = {}
    groups = sorted({item.template_type for item in items})
    spelled: dict[str, tuple[int, ...]] = {}
    rows: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}
    bits: dict[bool, list[Trace]] = {True: [], False: []}
    owners: dict[bool, list[int]] = {True: [], False: []}
    # What nobody knows might be anything, and counts for nothing.
    unknown = (np.zeros((ROLES, ROW_BYTES), np.uint8), np.full((ROLES, ROW_BYTES), 255, np.uint8))

    def text_of(question: str, path: tuple[int, ...]) -> int:
        if question not in spelled:
            spelled[question] = tuple(tokenizer.encode(prompt.render(question)).ids)
        return texts.setdefault(spelled[question] + path, len(texts))

    pairs: dict[int, int] = {}
    for number, item in enumerate(items):
        if item.sample_token not in moments:
            continue
        if item.answer not in decisions:
            decisions[item.answer] = list(choices_of(trie, item.answer))
        trace = None if traces is None else traces(item)
        for choice in decisions[item.answer]:
            bits[item.split == "train"].append(unknown if trace is None else trace)
            text = text_of(item.question, choice.path)
            if mirror and item.split == "train" and text not in pairs:
                other = text_of(mirrored_text(item.question), choice.path)
                pairs.update({text: other, other: text})
            owners[item.split == "train"].append(number)
            rows[item.split == "train"].append(
                (
                    moments[item.sample_token],
                    text,
                    choices.setdefault(choice.allowed, len(choices)),
                    choice.target,
                    groups.index(item.template_type),
                )
            )
    train, held_out = (
        _samples(rows[part], None if traces is None else bits[part]) for part in (True, False)
    )
    mirrored = np.arange(len(texts), dtype=np.int32)
    for text, other in pairs.items():
        mirrored[text] = other
    return QuestionSamples(
        list(texts),
        list(choices),
        groups,
        train,
        held_out,
        mirrored,
        np.array(owners[True], np.int64),
        np.array(owners[False], np.int64),
    )


def mirrored_text(question: str) -> str:
    """With left and right exchanged."""
    return re.sub(
        r"\b(left|right)\b", lambda word: "right" if word[0] == "left" else "left", question
    )


def _samples(rows: Sequence[tuple[int, ...]], bits: Sequence[Trace] | None) -> Samples:
    moment, text, allowed, target, group = np.array(rows, np.int32).reshape(-1, 5).T.copy()
    certain, possible = (None, None) if bits is None else _stacked(bits)
    return Samples(moment, text, allowed, target, group, certain, possible)


def _stacked(bits: Sequence[Trace]) -> Trace:
    shape = (len(bits), ROLES, ROW_BYTES)
    certain, possible = (np.array([one[side] for one in bits], np.uint8) for side in (0, 1))
    return certain.reshape(shape), possible.reshape(shape)
