"""What a robot learns from: tokens of moments, and questions with right answers; no torch.

Moments belong to blocks (a scene, or some seconds of a drive). Whole blocks are held out, never
single questions, so that no moment is both learned and examined.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, PackError
from ..language_model import LanguageModel
from ..pack import PackManifest
from ..questions import AnswerTrie
from .samples import Choice, HeadTexts, Samples, choices_of

TokenIds = tuple[int, ...]

#: Fewer questions than these prove nothing.
LEAST_TRAINING = 16
LEAST_HELD_OUT = 8


@dataclass(frozen=True)
class KnownQuestion:
    """A question whose right answer is known.

    Attributes:
        moment: row of the tokens.
        text: without prompt.
        answer: the right one.
        answers: the allowed ones.
        group: kind of question, for reports.
    """

    moment: int
    text: str
    answer: str
    answers: tuple[str, ...]
    group: str = "all"


@dataclass(frozen=True)
class AdaptationData:
    """Collected on the robot or read from drives.

    Attributes:
        tokens: by sensor `[moments, tokens, width]`, floats; a row of zeros is no token.
        blocks: by moment, its scene or time block.
        questions: about these moments.
        held_out: blocks that decide; None draws some.
        heads: gives states of texts at a boundary block, e.g. from a cache on disk; None runs the
            heads now.
    """

    tokens: Mapping[str, NDArray[np.floating]]
    blocks: Sequence[str]
    questions: Sequence[KnownQuestion]
    held_out: Collection[str] | None = None
    heads: Callable[[Sequence[TokenIds], int], HeadTexts] | None = None

    def split(self, share: float, seed: int) -> frozenset[str]:
        """Blocks that are held out: those named, or about `share` of all moments.

        Raises:
            ConfigError: there is only one block, or all or none of them are held out.
        """
        with_questions = [self.blocks[one.moment] for one in self.questions]
        names = sorted(set(with_questions))
        if self.held_out is not None:
            found = frozenset(self.held_out) & set(names)
        else:
            order = np.random.default_rng(seed).permutation(len(names))
            wanted, found = share * len(with_questions), frozenset()
            for name in (names[int(at)] for at in order):
                enough = sum(block in found for block in with_questions) >= wanted
                if enough or len(found) + 1 >= len(names):
                    break
                found |= {name}
        if not found or len(found) == len(names):
            raise ConfigError(
                f"questions come from {len(names)} scenes or time blocks, {len(found)} of them "
                "held out",
                field="data",
                remedy="give questions from at least two, so that one can be held out",
            )
        return found

    def check(self, pack: PackManifest, sensors: Sequence[str]) -> None:
        """Refuse data that does not fit a pack.

        Raises:
            ConfigError: there are no tokens of a sensor, or a question is about no moment.
            PackError: tokens are of another shape than those of the pack's encoders.
        """
        for sensor in sensors:
            spec = pack.encoders[pack.sensor_encoders[sensor]]
            tokens = self.tokens.get(sensor)
            if tokens is None:
                raise ConfigError(
                    f"there are no tokens of '{sensor}'",
                    field="data",
                    remedy="collect moments with frames of this sensor",
                )
            wanted = (len(self.blocks), spec.tokens, spec.width)
            if tokens.shape != wanted:
                raise PackError(
                    f"tokens of '{sensor}' are {tokens.shape}, the pack's encoder makes {wanted}",
                    field="data.tokens",
                    remedy="encode the moments with this pack",
                )
            if not np.isfinite(tokens).all():
                raise ConfigError(
                    f"tokens of '{sensor}' are not finite",
                    field="data.tokens",
                    remedy="leave moments with broken frames out",
                )
        for one in self.questions:
            if not 0 <= one.moment < len(self.blocks):
                raise ConfigError(
                    f"a question is about moment {one.moment} of {len(self.blocks)}",
                    field="data.questions",
                    remedy="number moments from 0",
                )


@dataclass(frozen=True)
class SpelledQuestions:
    """Questions as decisions between tokens.

    Attributes:
        texts: distinct ones, by their tokens, with the beginning of the answer where it has one.
        choices: distinct sets of allowed tokens.
        groups: kinds of questions.
        train: decisions to learn from.
        held_out: of held-out blocks.
        train_question: int64 `[len(train)]`, number of the question that a decision belongs to.
        held_out_question: likewise.
    """

    texts: Sequence[TokenIds]
    choices: Sequence[tuple[int, ...]]
    groups: Sequence[str]
    train: Samples
    held_out: Samples
    train_question: NDArray[np.int64]
    held_out_question: NDArray[np.int64]


def spell(
    data: AdaptationData, held_out: Collection[str], model: LanguageModel, pack: PackManifest
) -> SpelledQuestions:
    """Spell questions and answers in tokens.

    Raises:
        ConfigError: a right answer is not allowed, or there are too few questions.
    """
    speller = _Speller(model, pack)
    groups = sorted({one.group for one in data.questions})
    rows: dict[bool, list[tuple[int, ...]]] = {False: [], True: []}
    numbers: dict[bool, list[int]] = {False: [], True: []}
    for one in data.questions:
        held = data.blocks[one.moment] in held_out
        number = numbers[held][-1] + 1 if numbers[held] else 0
        for text, allowed, target in speller.decisions(one):
            rows[held].append((one.moment, text, allowed, target, groups.index(one.group)))
            numbers[held].append(number)
    for held, least in ((False, LEAST_TRAINING), (True, LEAST_HELD_OUT)):
        count = len(set(numbers[held]))
        if count < least:
            raise ConfigError(
                f"{count} questions {'are held out' if held else 'to learn from'}, "
                f"at least {least} are needed",
                field="data",
                remedy="teach more questions, or give more drives",
            )
    train, examined = (
        Samples(*np.array(rows[held], np.int32).reshape(-1, 5).T.copy()) for held in (False, True)
    )
    return SpelledQuestions(
        list(speller.texts),
        list(speller.choices),
        groups,
        train,
        examined,
        np.array(numbers[False], np.int64),
        np.array(numbers[True], np.int64),
    )


class _Speller:
    """Numbers distinct texts and sets of allowed tokens."""

    def __init__(self, model: LanguageModel, pack: PackManifest) -> None:
        self.texts: dict[TokenIds, int] = {}
        self.choices: dict[tuple[int, ...], int] = {}
        self._model, self._prompt = model, pack.prompt
        self._tries: dict[tuple[str, ...], AnswerTrie] = {}
        self._answers: dict[tuple[tuple[str, ...], str], list[Choice]] = {}
        self._prompts: dict[str, TokenIds] = {}

    def decisions(self, one: KnownQuestion) -> list[tuple[int, int, int]]:
        """Text, set of allowed tokens and the right one of them, of each decision."""
        key = (one.answers, one.answer)
        if key not in self._answers:
            self._answers[key] = list(choices_of(self._trie(one.answers), one.answer))
        if one.text not in self._prompts:
            rendered = self._prompt.render(one.text)
            self._prompts[one.text] = tuple(self._model.tokenizer.encode(rendered).ids)
        found: list[tuple[int, int, int]] = []
        limit = self._model.manifest.max_text_tokens
        for choice in self._answers[key]:
            text = self._prompts[one.text] + choice.path
            if len(text) > limit:
                raise ConfigError(
                    f"a question has {len(text)} tokens, the model takes {limit}",
                    field="data.questions",
                    remedy="leave it out",
                )
            found.append(
                (
                    self.texts.setdefault(text, len(self.texts)),
                    self.choices.setdefault(choice.allowed, len(self.choices)),
                    choice.target,
                )
            )
        return found

    def _trie(self, answers: tuple[str, ...]) -> AnswerTrie:
        if answers not in self._tries:
            ends = self._model.config.eos_token_ids
            self._tries[answers] = AnswerTrie(answers, self._spell, ends[0] if ends else -1)
        return self._tries[answers]

    def _spell(self, answer: str) -> Sequence[int]:
        text = self._prompt.answer_prefix + answer
        return self._model.tokenizer.encode(text, add_special_tokens=False).ids
