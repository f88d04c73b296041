"""How much packs in the form as published get right, composed: `composition_accuracy.py` for them.

The same items and questions are put to `training.decoupled_model`, where modality tokens run
through the blocks beside the text: NaiveMC and its kin average branches that serve all tokens, DAMC
keeps those of the modalities apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..export.compose_weights import search_weights
from ..export.input_level import InputLevelModelParts, compose_input_level, read_input_level
from ..runtime.adaptation.tail_weights import TailWeights
from ..training.decoupled_model import DecoupledModel
from ..training.input_level_training import Pieces, margins_of, rows_of
from .commonality_items import MadeItem, Sense
from .composition_accuracy import (
    AUTO,
    BEST,
    COMPOSED,
    ENSEMBLE,
    JOINT,
    Examination,
    guesses,
    marks_by_count,
    share_and_interval,
)
from .composition_answers import answer_of, inputs_of, options_of

if TYPE_CHECKING:
    from ..runtime.composition_specs import Method

_AT_ONCE = 8
#: Of packs with single branches, whose singles are asked too: which form is the better one alone.
BEST_SINGLE_BRANCH = "best_single_branch"
Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class InputLevelBase:
    """The frozen language model.

    Attributes:
        weights: of the tail that modality tokens enter.
        texts: head states of the questions, by number of the concept, `[tokens, hidden_size]`.
        answers: tokens of yes and no.
    """

    weights: TailWeights
    texts: Sequence[torch.Tensor]
    answers: tuple[int, int]


class InputLevelExaminer:
    """Composes packs in the form as published and asks them."""

    def __init__(
        self,
        base: InputLevelBase,
        folder: Path,
        senses: Sequence[Sense],
        exam: Examination,
        progress: Progress,
    ) -> None:
        """Read the packs.

        Args:
            base: language model.
            folder: that `tailwire train senses --form input-level` wrote.
            senses: that are asked; a pack of each must be there with both kinds of branches.
            exam: what is asked.
            progress: told what is done.

        Raises:
            PackError: a file is broken or missing.
        """
        self._base, self._exam, self._progress = base, exam, progress
        self._senses = list(senses)
        self._row_of = {moment.token: row for row, moment in enumerate(exam.data.moments)}
        self._parts: dict[str, dict[Sense, InputLevelModelParts]] = {
            strategy: {
                sense: read_input_level(folder / f"{sense}-{strategy}.safetensors")
                for sense in senses
            }
            for strategy in ("decoupled", "single")
        }
        joint = folder / f"{JOINT}-decoupled.safetensors"
        self._joint = read_input_level(joint) if joint.is_file() else None

    def run(self, methods: Sequence[str], weight_steps: int) -> dict[str, Any]:
        """Ask everything.

        Args:
            methods: of `composition_accuracy.COMPOSED`.
            weight_steps: of the grid of weights of DAMC, 0 to choose none.

        Returns:
            As `composition_accuracy.Examiner.run`.
        """
        by_set: dict[tuple[Sense, ...], dict[str, list[bool]]] = {}
        weights: dict[str, dict[str, float]] = {}
        alone = self._alone()
        joint = None if self._joint is None else self._model(self._joint)
        whole: dict[str, DecoupledModel] = {}
        for senses in self._sets():
            items = [one for one in self._exam.items if set(one.moments) == set(senses)]
            if not items:
                continue
            name = "+".join(senses)
            models = {method: self._composed(senses, method) for method in methods}
            known = [one for one in self._exam.validation if set(one.moments) == set(senses)]
            if weight_steps and "damc" in methods and known:
                models[AUTO], weights[name] = self._tuned(senses, known, weight_steps)
            if joint is not None:
                models[JOINT] = joint
            found: dict[str, list[bool]] = {}
            for method, model in models.items():
                self._progress(f"{name}: {method} at the input, {len(items)} items")
                found[method] = _right(self._margins(model, items), items)
            found |= self._best(alone, senses, items)
            found |= guesses(items, self._exam.learned_from)
            by_set[senses] = found
            if len(senses) == len(self._senses):
                whole = models
        return {
            **marks_by_count(by_set),
            "weights": weights,
            "single_senses": self._single_senses(whole),
        }

    def _sets(self) -> list[tuple[Sense, ...]]:
        return [
            chosen
            for size in range(2, len(self._senses) + 1)
            for chosen in combinations(self._senses, size)
        ]

    def _model(self, parts: InputLevelModelParts) -> DecoupledModel:
        return DecoupledModel(self._base.weights, None, parts, dtype=torch.bfloat16)

    def _composed(
        self, senses: Sequence[Sense], method: str, weights: Sequence[float] | None = None
    ) -> DecoupledModel:
        how: Method = COMPOSED[method]
        parts = self._parts["decoupled" if how == "damc" else "single"]
        return self._model(compose_input_level([parts[one] for one in senses], how, weights))

    def _tuned(
        self, senses: Sequence[Sense], items: Sequence[MadeItem], steps: int
    ) -> tuple[DecoupledModel, dict[str, float]]:
        """DAMC with the weights that answer the validation items best."""

        def score(weights: Mapping[str, float]) -> float:
            self._progress(f"{'+'.join(senses)} at the input: weights {dict(weights)}")
            model = self._composed(senses, "damc", [weights[one] for one in senses])
            return float(np.mean(_right(self._margins(model, items), items)))

        chosen, _ = search_weights(list(senses), score, steps)
        return self._composed(senses, "damc", [chosen[one] for one in senses]), chosen

    def _alone(self) -> dict[str, dict[Sense, dict[str, NDArray[np.float32]]]]:
        """Margins of the packs of one sense about all items with it, by kind of branches."""
        found: dict[str, dict[Sense, dict[str, NDArray[np.float32]]]] = {}
        for strategy, parts in self._parts.items():
            for sense in self._senses:
                self._progress(f"{sense} alone at the input ({strategy})")
                items = [one for one in self._exam.items if sense in one.moments]
                model = self._model(parts[sense])
                margins = self._margins(model, items, [sense])
                ids = [one.item.id for one in items]
                found.setdefault(strategy, {})[sense] = dict(zip(ids, margins, strict=True))
        return found

    def _best(
        self,
        alone: Mapping[str, Mapping[Sense, Mapping[str, NDArray[np.float32]]]],
        senses: Sequence[Sense],
        items: Sequence[MadeItem],
    ) -> dict[str, list[bool]]:
        """Of packs that see one input each: the one that is right most often, and their sum."""
        found: dict[str, list[bool]] = {}
        for strategy, column in (("single", BEST_SINGLE_BRANCH), ("decoupled", BEST)):
            each = [
                np.stack([alone[strategy][sense][one.item.id] for one in items]) for sense in senses
            ]
            found[column] = max((_right(margins, items) for margins in each), key=sum)
            # Of the decoupled ones in the end.
            found[ENSEMBLE] = _right(np.sum(each, axis=0), items)
        return found

    def _single_senses(self, composed: Mapping[str, DecoupledModel]) -> dict[str, Any]:
        """Yes or no about one input: the pack alone, and composed packs with one sense on."""
        found: dict[str, Any] = {}
        for sense, questions in self._exam.single.items():
            if not questions:
                continue
            models = {
                "alone": self._model(self._parts["decoupled"][sense]),
                "alone_single_branch": self._model(self._parts["single"][sense]),
                **composed,
            }
            shares: dict[str, float] = {}
            intervals: dict[str, list[float]] = {}
            for column, model in models.items():
                self._progress(f"{sense}: {column} at the input, {len(questions)} questions")
                margins = self._asked(
                    model,
                    [self._pieces({sense: moment}) for moment, _, _ in questions],
                    [[number] for _, number, _ in questions],
                )
                marks = [
                    bool(margin > 0) == holds
                    for margin, (_, _, holds) in zip(margins, questions, strict=True)
                ]
                shares[column], intervals[column] = share_and_interval(marks)
            found[sense] = {
                "questions": len(questions),
                "accuracy": shares,
                "interval": intervals,
            }
        return found

    def _margins(
        self,
        model: DecoupledModel,
        items: Sequence[MadeItem],
        senses: Sequence[Sense] | None = None,
    ) -> NDArray[np.float32]:
        """Of the options of items, `[items, 4]`; of inputs of some senses alone, None for all."""
        pieces: list[Pieces] = []
        for item in items:
            inputs = inputs_of(item, self._row_of)
            kept: dict[Sense, int] = {
                s: row for s, row in inputs.items() if senses is None or s in senses
            }
            pieces.append(self._pieces(kept))
        options = [options_of(item) for item in items]
        return self._asked(model, pieces, options).reshape(len(items), -1)

    def _asked(
        self, model: DecoupledModel, pieces: Sequence[Pieces], numbers: Sequence[Sequence[int]]
    ) -> NDArray[np.float32]:
        parts: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
        with torch.no_grad():
            for first in range(0, len(pieces), _AT_ONCE):
                here = slice(first, first + _AT_ONCE)
                margins = margins_of(
                    model, pieces[here], numbers[here], self._base.texts, self._base.answers
                )
                parts.append(margins.numpy())
        return np.concatenate(parts)

    def _pieces(self, inputs: Mapping[Sense, int]) -> Pieces:
        """Tokens of the inputs, in the order of the senses."""
        found: Pieces = []
        for sense in self._senses:
            if sense not in inputs:
                continue
            sensors = self._exam.data.tokens[sense].values()
            found.append((sense, rows_of(np.concatenate([one[inputs[sense]] for one in sensors]))))
        return found


def _right(margins: NDArray[np.float32], items: Sequence[MadeItem]) -> list[bool]:
    return [answer_of(row) == one.item.answer for row, one in zip(margins, items, strict=True)]
