"""Answers of packs of senses to commonality items, from tokens that were made before.

An item's options are scored one by one: each is asked as a question of its own ("Moving car, back
left?") behind the keys and values of all inputs, and the option whose yes is
furthest above its no is the answer. All questions share the frame's prefix, as standing questions
do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..runtime.connections import Connection, SensorRows
from ..runtime.head_state import HeadState
from ..runtime.language_model import LanguageModel
from ..runtime.pack import PackManifest
from .commonality import LETTERS
from .commonality_items import CONCEPTS, MadeItem, Sense, option_text
from .commonality_tokens import SenseData, asked_concepts, number_of

Float = NDArray[np.float32]
#: By sense, the number of the moment that its input is of.
Inputs = Mapping[Sense, int]

_NUMBER_OF_TEXT = {option_text(concept): number_of(concept) for concept in CONCEPTS}


class ConceptAsker:
    """Asks a pack which concepts hold for some inputs."""

    def __init__(
        self,
        model: LanguageModel,
        manifest: PackManifest,
        connection: Connection,
        data: SenseData,
        heads: Sequence[HeadState],
        answers: tuple[int, int],
    ) -> None:
        """Put it together.

        Args:
            model: as it serves.
            manifest: of the pack.
            connection: of the pack; `data` has the tokens of its sensors.
            data: moments.
            heads: of the questions, by number of the concept, see `heads_of`.
            answers: tokens of yes and no.
        """
        self._model, self._manifest, self.connection = model, manifest, connection
        self._data, self._heads = data, heads
        self._answers = answers
        self._rows: dict[tuple[Sense, int], list[SensorRows]] = {}

    def with_connection(self, connection: Connection) -> ConceptAsker:
        """The same pack where changes of the language model count differently."""
        other = ConceptAsker(
            *(self._model, self._manifest, connection),
            *(self._data, self._heads, self._answers),
        )
        # Rows depend on aligners alone.
        other._rows = self._rows
        return other

    def margins(self, inputs: Inputs, numbers: Sequence[int]) -> Float:
        """How far yes is above no, in logits, for some concepts.

        Args:
            inputs: of the senses that are on.
            numbers: of the concepts.

        Returns:
            float32 `[len(numbers)]`.
        """
        depth = self._manifest.tail_blocks
        heads = [self._heads[number] for number in numbers]
        order: list[Sense] = [sense for sense in self._data.tokens if sense in inputs]
        rows = [row for sense in order for row in self._rows_of(sense, inputs[sense])]
        prefix = self.connection.connect(rows, heads, depth)
        result = self._model.tail(heads, prefix, depth, self.connection.lora(depth))
        scores = self._model.score(result.final, np.array(self._answers, np.int64))
        return scores[:, 0] - scores[:, 1]

    def _rows_of(self, sense: Sense, moment: int) -> list[SensorRows]:
        key = (sense, moment)
        if key not in self._rows:
            encoders = self._manifest.sensor_encoders
            self._rows[key] = [
                self.connection.prepare(sensor, encoders[sensor], tokens[moment].astype(np.float32))
                for sensor, tokens in self._data.tokens[sense].items()
            ]
        return self._rows[key]


def heads_of(model: LanguageModel, manifest: PackManifest) -> list[HeadState]:
    """The questions of all concepts through the head, by number of the concept."""
    encode = model.tokenizer.encode
    return [
        model.encode(encode(manifest.prompt.render(text)).ids, (manifest.tail_blocks,))
        for text in asked_concepts()
    ]


def inputs_of(item: MadeItem, row_of: Mapping[str, int]) -> dict[Sense, int]:
    """By sense, the number of the moment that an item's input is of."""
    return {sense: row_of[moment.token] for sense, moment in item.moments.items()}


def options_of(item: MadeItem) -> list[int]:
    """Numbers of the concepts that the options of an item are about."""
    return [_NUMBER_OF_TEXT[text] for text in item.item.options]


def answer_of(margins: Sequence[float] | Float) -> str:
    """The letter of the option that is furthest above its no."""
    return LETTERS[int(np.argmax(margins))]
