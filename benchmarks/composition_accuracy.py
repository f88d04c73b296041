"""How much composed packs get right: commonality items by number of senses, and single senses.

Compares the best pack of one sense, the ways of composing, and a pack that was trained on all
senses jointly. What the weights of a composition are chosen by is of other scenes than what is
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..export.compose import CompositionRequest, compose, write_composition
from ..export.compose_parts import open_parts
from ..export.compose_weights import search_weights
from ..runtime.composition_specs import Method
from ..runtime.connections import Connection
from ..runtime.errors import DataError
from ..runtime.head_state import HeadState
from ..runtime.language_model import LanguageModel
from ..runtime.pack import Pack, load_pack
from .commonality import LETTERS, CommonalityItem, blind_answers
from .commonality_items import MadeItem, Sense
from .commonality_tokens import SenseData
from .composition_answers import (
    ConceptAsker,
    answer_of,
    heads_of,
    inputs_of,
    options_of,
)
from .recognition import wilson_interval

#: Columns of the result, and how they are composed.
COMPOSED: Mapping[str, Method] = {
    "naive": "naive",
    "damc": "damc",
    "task_arithmetic": "task-arithmetic",
    "ties": "ties",
    "dare": "dare",
    "tsv": "tsv",
}
AUTO = "damc_auto"
JOINT = "joint"
#: Answers of packs of one sense each, whose yes and no are added up: no composing at all.
ENSEMBLE = "ensemble"
BEST = "best_single"

Progress = Callable[[str], None]
#: Opens the connection of a pack behind the language model that serves.
Opener = Callable[[Pack], Connection]


@dataclass(frozen=True, eq=False)
class Examination:
    """What packs are asked.

    Attributes:
        data: moments of all scenes.
        items: that are measured.
        validation: of other scenes, by which weights are chosen.
        learned_from: of other scenes, for the guess of who sees no input.
        single: by sense, questions about one input: number of the moment, number of the concept,
            whether it holds.
    """

    data: SenseData
    items: Sequence[MadeItem]
    validation: Sequence[MadeItem]
    learned_from: Sequence[CommonalityItem]
    single: Mapping[Sense, Sequence[tuple[int, int, bool]]]


class Examiner:
    """Composes packs and asks them."""

    def __init__(
        self,
        model: LanguageModel,
        open_connection: Opener,
        folders: Mapping[Sense, Path],
        joint: Path | None,
        exam: Examination,
        answers: tuple[int, int],
        work: Path,
        progress: Progress,
    ) -> None:
        """Nothing is asked yet.

        Args:
            model: as it serves.
            open_connection: of a pack.
            folders: packs by sense.
            joint: the pack that was trained on all, None for none.
            exam: what is asked.
            answers: tokens of yes and no.
            work: empty folder, for composed packs.
            progress: told what is done.
        """
        self._model, self._open = model, open_connection
        self._folders, self._joint = folders, joint
        self._exam, self._answers, self._work = exam, answers, work
        self._progress = progress
        self._row_of = {moment.token: row for row, moment in enumerate(exam.data.moments)}
        self._heads: list[HeadState] = []
        self._single = {sense: self._asker(folder) for sense, folder in folders.items()}

    def run(self, methods: Sequence[str], weight_steps: int) -> dict[str, Any]:
        """Ask everything.

        Args:
            methods: of `COMPOSED`.
            weight_steps: of the grid of weights, 0 to choose none.

        Returns:
            `accuracy` by number of senses and `single_senses`, see `docs/composition.md`.

        Raises:
            DataError: there are no items.
        """
        weights: dict[str, dict[str, float]] = {}
        joint = None if self._joint is None else self._asker(self._joint)
        whole: dict[str, ConceptAsker] = {}
        by_set: dict[tuple[Sense, ...], dict[str, list[bool]]] = {}
        for senses in self._sets():
            name = "+".join(senses)
            items = self._of(self._exam.items, senses)
            if not items:
                continue
            found: dict[str, list[bool]] = {}
            askers = {method: self._composed(senses, method) for method in methods}
            if weight_steps and "damc" in askers and self._of(self._exam.validation, senses):
                askers[AUTO], weights[name] = self._tuned(askers["damc"], senses, weight_steps)
            if joint is not None:
                askers[JOINT] = joint
            for method, asker in askers.items():
                self._progress(f"{name}: {method}, {len(items)} items")
                found[method] = self._ask(asker, items)
            found |= self._by_singles(senses, items)
            found |= guesses(items, self._exam.learned_from)
            by_set[senses] = found
            if len(senses) == len(self._folders):
                whole = askers
        if not by_set:
            raise DataError(
                "no two scenes have anything in common that packs could be asked about",
                field="--dataroot",
                remedy="give more drives",
            )
        return {
            **marks_by_count(by_set),
            "weights": weights,
            "single_senses": self._single_senses(whole),
        }

    def _sets(self) -> list[tuple[Sense, ...]]:
        senses = list(self._folders)
        return [c for size in range(2, len(senses) + 1) for c in combinations(senses, size)]

    @staticmethod
    def _of(items: Sequence[MadeItem], senses: Sequence[Sense]) -> list[MadeItem]:
        return [item for item in items if set(item.moments) == set(senses)]

    def _asker(self, folder: Path) -> ConceptAsker:
        pack = load_pack(folder)
        if not self._heads:
            self._heads = heads_of(self._model, pack.manifest)
        connection = self._open(pack)
        return ConceptAsker(
            *(self._model, pack.manifest, connection),
            *(self._exam.data, self._heads, self._answers),
        )

    def _composed(self, senses: Sequence[Sense], method: str) -> ConceptAsker:
        folder = self._work / f"{method}-{'-'.join(senses)}"
        parts = open_parts([self._folders[sense] for sense in senses], None)
        write_composition(folder, compose(parts, CompositionRequest(method=COMPOSED[method])))
        return self._asker(folder)

    def _tuned(
        self, asker: ConceptAsker, senses: Sequence[Sense], steps: int
    ) -> tuple[ConceptAsker, dict[str, float]]:
        """With the weights that answer the validation items best."""
        items = self._of(self._exam.validation, senses)
        before = asker.connection
        names = [part.name for part in before.spec.lora_parts]

        def score(weights: dict[str, float]) -> float:
            tried = asker.with_connection(before.with_lora_weights(weights))
            self._progress(f"{'+'.join(senses)}: weights {weights}")
            return float(np.mean(self._ask(tried, items)))

        chosen, _ = search_weights(names, score, steps)
        return asker.with_connection(before.with_lora_weights(chosen)), chosen

    def _ask(self, asker: ConceptAsker, items: Sequence[MadeItem]) -> list[bool]:
        return [
            answer_of(asker.margins(inputs_of(item, self._row_of), options_of(item)))
            == item.item.answer
            for item in items
        ]

    def _by_singles(
        self, senses: Sequence[Sense], items: Sequence[MadeItem]
    ) -> dict[str, list[bool]]:
        """Of packs that see one input each: the one that is right most often, and their sum."""
        self._progress(f"{'+'.join(senses)}: single senses, {len(items)} items")
        alone: dict[Sense, list[bool]] = {sense: [] for sense in senses}
        summed: list[bool] = []
        for item in items:
            inputs, options = inputs_of(item, self._row_of), options_of(item)
            total = np.zeros(len(options), np.float32)
            for sense in senses:
                margins = self._single[sense].margins({sense: inputs[sense]}, options)
                alone[sense].append(answer_of(margins) == item.item.answer)
                total += margins
            summed.append(answer_of(total) == item.item.answer)
        return {BEST: max(alone.values(), key=lambda marks: sum(marks)), ENSEMBLE: summed}

    def _single_senses(self, composed: Mapping[str, ConceptAsker]) -> dict[str, Any]:
        """Yes or no about one input: the pack alone, and composed packs with one sense on."""
        found: dict[str, Any] = {}
        for sense, questions in self._exam.single.items():
            if not questions:
                continue
            self._progress(f"{sense} alone, {len(questions)} questions")
            askers = {"alone": self._single[sense], **composed}
            marks = {
                column: [
                    bool(asker.margins({sense: moment}, [number])[0] > 0) == holds
                    for moment, number, holds in questions
                ]
                for column, asker in askers.items()
            }
            both = {column: share_and_interval(one) for column, one in marks.items()}
            found[sense] = {
                "questions": len(questions),
                "accuracy": {column: share for column, (share, _) in both.items()},
                "interval": {column: interval for column, (_, interval) in both.items()},
            }
        return found


def guesses(items: Sequence[MadeItem], learned: Sequence[CommonalityItem]) -> dict[str, list[bool]]:
    """Without any input: by what was often right elsewhere, and always the same letter.

    Args:
        items: to answer.
        learned: items of other scenes.
    """
    asked = [item.item for item in items]
    blind = blind_answers(asked, learned)
    letters = [item.answer for item in learned]
    usual = max(LETTERS, key=letters.count)
    return {
        "blind": [blind[item.id] == item.answer for item in asked],
        "majority": [usual == item.answer for item in asked],
    }


def marks_by_count(
    by_set: Mapping[tuple[Sense, ...], Mapping[str, Sequence[bool]]],
) -> dict[str, Any]:
    """Items, right answers and their intervals by number of senses, and right ones by set."""
    right: dict[int, dict[str, list[bool]]] = {}
    for senses, columns in by_set.items():
        for column, marks in columns.items():
            right.setdefault(len(senses), {}).setdefault(column, []).extend(marks)
    both = {
        str(count): {column: share_and_interval(marks) for column, marks in columns.items()}
        for count, columns in sorted(right.items())
    }
    return {
        "items": {
            str(count): len(next(iter(columns.values())))
            for count, columns in sorted(right.items())
        },
        "accuracy": {
            count: {column: share for column, (share, _) in columns.items()}
            for count, columns in both.items()
        },
        "interval": {
            count: {column: interval for column, (_, interval) in columns.items()}
            for count, columns in both.items()
        },
        "by_set": {
            "+".join(senses): {
                column: share_and_interval(marks)[0] for column, marks in columns.items()
            }
            for senses, columns in by_set.items()
        },
    }


def share_and_interval(marks: Sequence[bool]) -> tuple[float, list[float]]:
    """Share of right ones, and 95 % by Wilson; items of one scene are taken for independent,
    which they are not quite."""
    ends = wilson_interval(sum(marks), len(marks))
    return round(sum(marks) / len(marks), 4), [round(end, 4) for end in ends]
