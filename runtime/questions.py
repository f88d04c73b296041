"""Questions, and the tokens that their allowed answers may consist of.

A question knows what may be answered; `AnswerTrie` knows how the answers are spelled in tokens.
Nothing here runs a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .errors import ConfigError

#: Answers of NuScenes-QA (Qian et al., 2305.14836).
NUSCENES_QA_ANSWERS = (
    *(str(count) for count in range(11)),
    "yes",
    "no",
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction vehicle",
    "motorcycle",
    "pedestrian",
    "traffic cone",
    "trailer",
    "truck",
    "moving",
    "not standing",
    "parked",
    "standing",
    "stopped",
    "with rider",
    "without rider",
)


@dataclass(frozen=True)
class Question:
    """A question as a user asks it.

    Attributes:
        text: the question, without any prompt around it.
        answers: the allowed answers, or None for free text.
        max_new_tokens: longest free-text answer.
        sensors: that it needs; a scheduler's plan without them leaves it out.
        deadline_ms: within which its frame is to be answered; the tightest of a frame holds.
        priority: how much a right answer counts, against those to other questions.
    """

    text: str
    answers: tuple[str, ...] | None = None
    max_new_tokens: int = 48
    sensors: tuple[str, ...] = ()
    deadline_ms: float | None = None
    priority: float = 1.0

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ConfigError("the question is empty", field="question", remedy="ask something")
        if self.max_new_tokens < 1:
            raise ConfigError(
                f"max_new_tokens is {self.max_new_tokens}",
                field="max_new_tokens",
                remedy="give at least 1",
            )
        if self.answers is not None:
            _check_answers(self.answers)
        _check_demands(self.sensors, self.deadline_ms, self.priority)


def _check_answers(answers: Sequence[str]) -> None:
    if isinstance(answers, str) or not answers or any(not answer.strip() for answer in answers):
        raise ConfigError(
            f"allowed answers are {answers!r}",
            field="answers",
            remedy="give a list of at least one, none empty; leave it out for free text",
        )
    if len(set(answers)) != len(answers):
        raise ConfigError(
            f"allowed answers repeat: {list(answers)}",
            field="answers",
            remedy="name each answer once",
        )


def _check_demands(sensors: tuple[str, ...], deadline_ms: float | None, priority: float) -> None:
    if isinstance(sensors, str) or len(set(sensors)) != len(sensors) or not all(sensors):
        raise ConfigError(
            f"the sensors that a question needs are {sensors!r}",
            field="question.sensors",
            remedy="give a tuple of names, each once",
        )
    limits = (("deadline_ms", deadline_ms), ("priority", priority))
    for name, value in limits:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(
                f"{value} is no {name} of a question",
                field=f"question.{name}",
                remedy="give a finite number above 0",
            )


@dataclass
class TrieNode:
    """A state of a partly spelled answer: which tokens may follow, and what ends here."""

    children: dict[int, TrieNode] = field(default_factory=dict)
    answer: str | None = None


class AnswerTrie:
    """The allowed answers of one question as a tree of tokens.

    An answer that is the beginning of another one ("1", "10") is ended by the end-of-text token,
    so that at every node the choices are distinct tokens.
    """

    def __init__(
        self, answers: Sequence[str], spell: Callable[[str], Sequence[int]], end_token: int
    ) -> None:
        """Build the tree.

        Args:
            answers: the allowed answers.
            spell: the tokens of an answer in its place behind the prompt.
            end_token: the model's end-of-text token.

        Raises:
            ConfigError: two answers are spelled alike, or one has no tokens.
        """
        self.root = TrieNode()
        for answer in answers:
            self._insert(answer, spell(answer))
        _end_inner_answers(self.root, end_token)

    @property
    def depth(self) -> int:
        """Tokens of the longest answer."""
        return _depth(self.root)

    def _insert(self, answer: str, tokens: Sequence[int]) -> None:
        node = self.root
        for token in tokens:
            node = node.children.setdefault(token, TrieNode())
        if node is self.root or node.answer is not None:
            raise ConfigError(
                f"the model's tokens do not tell '{answer}' from '{node.answer or ''}'",
                field="answers",
                remedy="use answers that differ in more than spaces",
            )
        node.answer = answer


def _depth(node: TrieNode) -> int:
    return max((1 + _depth(child) for child in node.children.values()), default=0)


def _end_inner_answers(node: TrieNode, end_token: int) -> None:
    for child in node.children.values():
        _end_inner_answers(child, end_token)
    if node.answer is not None and node.children:
        node.children[end_token] = TrieNode(answer=node.answer)
        node.answer = None
