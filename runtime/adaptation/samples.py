"""What connections learn from: sensor tokens by moment, head states by text, and right answers.

Arrays only, no torch: made from drives offline or collected on the robot, kept in memory or mapped
from files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..questions import AnswerTrie, TrieNode


@dataclass(frozen=True)
class HeadTexts:
    """Head states of distinct texts, one after the other.

    Attributes:
        states: `[tokens of all texts, hidden_size]`, float16 or float32: the residual stream that
            enters the tail.
        offsets: int64 `[texts + 1]`, first row of each text.
        entering: like `states`, where the tail is shallower than the connection: the stream that
            enters it, while `states` are those that a conditioned connection reads.
    """

    states: NDArray[np.floating]
    offsets: NDArray[np.int64]
    entering: NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Choice:
    """One decision on the way to an answer: which token follows a text.

    Attributes:
        path: tokens of the answer before it.
        allowed: the tokens to choose from.
        target: index of the right one in `allowed`.
    """

    path: tuple[int, ...]
    allowed: tuple[int, ...]
    target: int


def choices_of(trie: AnswerTrie, answer: str) -> Iterator[Choice]:
    """The decisions that lead to an answer; where there is only one way there is none.

    Raises:
        ConfigError: the answer is not allowed.
    """
    path = _path_to(trie.root, answer)
    if path is None:
        raise ConfigError(
            f"the answer '{answer}' is not among the allowed ones",
            field="answer",
            remedy="allow it, or leave the question out",
        )
    node = trie.root
    for place, token in enumerate(path):
        allowed = tuple(node.children)
        if len(allowed) > 1:
            yield Choice(tuple(path[:place]), allowed, allowed.index(token))
        node = node.children[token]


def _path_to(node: TrieNode, answer: str) -> list[int] | None:
    if node.answer == answer:
        return []
    for token, child in node.children.items():
        rest = _path_to(child, answer)
        if rest is not None:
            return [token, *rest]
    return None


#: Roles that objects can have in a question: of its first and second selection, and anchors.
ROLES = 3
#: Bytes of a set of objects, one bit each.
ROW_BYTES = 16


@dataclass(frozen=True)
class Samples:
    """Decisions to learn, as columns.

    Attributes:
        moment: int32 `[n]`, row of the sensors' tokens.
        text: int32 `[n]`, of `heads`.
        allowed: int32 `[n]`, of `choices`.
        target: int32 `[n]`, index into the allowed tokens.
        group: int32 `[n]`, kind of the question, for reports.
        certain: uint8 `[n, 3, 16]`, bits of the objects that have each role; None where nobody
            knows.
        possible: likewise, of those that might have it.
    """

    moment: NDArray[np.int32]
    text: NDArray[np.int32]
    allowed: NDArray[np.int32]
    target: NDArray[np.int32]
    group: NDArray[np.int32]
    certain: NDArray[np.uint8] | None = None
    possible: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.moment)

    def take(self, rows: NDArray[np.integer] | slice) -> Samples:
        """Some of them."""
        return Samples(
            self.moment[rows],
            self.text[rows],
            self.allowed[rows],
            self.target[rows],
            self.group[rows],
            None if self.certain is None else self.certain[rows],
            None if self.possible is None else self.possible[rows],
        )


@dataclass(frozen=True)
class Mirror:
    """How samples are seen in a mirror: another scene and question with the same answer.

    Attributes:
        texts: int32 `[texts]`, the text with left and right exchanged; itself where it has none.
        sensors: the sensor whose tokens, mirrored, a sensor would have.
        columns: int64 `[width]` of a mirrored token.
        signs: float32 `[width]`, of these columns.
    """

    texts: NDArray[np.int32]
    sensors: Mapping[str, str]
    columns: NDArray[np.int64]
    signs: NDArray[np.float32]


@dataclass(frozen=True)
class TrainingData:
    """All that a training run reads.

    Attributes:
        tokens: by sensor `[moments, tokens, width]`, floats; a row of zeros is no token.
        heads: of the texts.
        choices: sets of allowed tokens.
        train: to learn from.
        held_out: of other scenes; decides which weights are kept.
        groups: names of the kinds of questions.
        matches: by sensor int16 `[moments, tokens]`, the object that a token stands for, -1 for
            none; None where nobody knows.
        mirror: None where nothing is known of left and right.
    """

    tokens: Mapping[str, NDArray[np.floating]]
    heads: HeadTexts
    choices: Sequence[tuple[int, ...]]
    train: Samples
    held_out: Samples
    groups: Sequence[str]
    matches: Mapping[str, NDArray[np.int16]] | None = None
    mirror: Mirror | None = None
