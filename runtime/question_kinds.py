"""What a question asks for, from its words: its kind, and the directions that it is about.

What a sensor is worth depends on both: a count needs the whole scene, a question about the front
left one camera. Words are those of NuScenes-QA (Qian et al., 2305.14836), of our own templates and
what people type alike; whatever is not understood is `other`, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..kernels.object_tokens import OBJECT_CLASSES, OBJECT_STATUSES

KINDS = ("exist", "count", "object", "status", "comparison", "other")

#: Sectors of 60 degrees around the vehicle, by the angle of their middle, counter-clockwise.
DIRECTIONS = {
    "front": 0,
    "front left": 60,
    "front right": -60,
    "back": 180,
    "back left": 120,
    "back right": -120,
}

_STATUSES = frozenset({*OBJECT_STATUSES, "driving", "sitting"})
_YES_NO = frozenset({"yes", "no"})

_ASPECT = r"(?:state|status|kind|class|type|category)"
#: "the thing in the same state as the car": tells which thing is meant, not what is asked of it.
_LIKENESS = re.compile(
    rf"\b(?:that (?:has|have|is|are) |in |of |with |having )+(?:the )?(?:same|equal) {_ASPECT}"
    r" (?:as|like|of|to)\b"
)
_AUXILIARY = (
    r"(?:is|are|was|were|do|does|did|can|could|have|has|had|would|will|should|may|might|am)"
)
_ASKS_YES_NO = re.compile(rf"(?:^|[;,:.] *(?:and |so )?){_AUXILIARY}\b")
_POLITE = re.compile(
    r"\b(?:can|could|would|will|do) (?:you|we) (?:please )?"
    r"(?:name|tell|say|give|list|describe|classify|know|guess)\b"
)
_ASKS_OPENLY = re.compile(r"\b(?:what|which|how many)\b")
_ASKS_WHAT = re.compile(r"\b(?:what|which|how)\b|\bname the\b|\b(?:tell|give)\b|^count\b")
_COUNTS = re.compile(r"\bhow many\b|\bnumber of\b|\btotal (?:number )?of\b|\bcount (?:of|the)\b")
_ASKS_STATUS = re.compile(r"\b(?:state|status|doing)\b")
_ASKS_OBJECT = re.compile(
    r"\b(?:kind|class|type|category|classify|classified|recognise|recognize|identify|call|"
    r"sort of (?:object|thing))\b|\bwhat (?:is|are|was) (?:the|that|this|it|those|these)\b|"
    r"\bis what\b|\bwhat (?:object|thing)s?\b"
)
_COMPARES_NUMBERS = re.compile(
    r"\b(?:more|fewer|less|greater|larger|smaller)\b.*\bthan\b|\boutnumbers?\b|\bas (?:many|few)\b"
    r"|\bequally many\b|\b(?:same|equal) (?:number|amount|count)\b|\bnumber of .* (?:equal|same)\b"
)
_COMPARES_THINGS = re.compile(
    r"\b(?:same|equals?|identical|alike|different|match(?:es)?|shares?|both)\b"
    r"|\b(?:one|a single) (?:kind|class|type|state|status)\b"
)
_EXISTS = re.compile(
    r"\b(?:any|some|another|anything|anyone|anybody|something|someone|nothing|at least)\b"
    r"|\bthere (?:an?|is|are|be|exist)\b|\b(?:is|are) there\b"
    rf"|(?:^|[;,:.] *)(?:looking around, )?{_AUXILIARY} (?:you |we )?(?:\w+ )?(?:out |up )?an?\b"
)
_TO_US = re.compile(
    r"\bto (?:our|my) (front|back)(?: (left|right))?\b"
    r"|\bto the (front|back)(?: (left|right))? (?:side )?of (?:me|us|you|ego\b|the ego|our|my)\b"
)
_AHEAD = re.compile(r"\b(?:in front|ahead) of (?:me|us|you)\b")
_BEHIND = re.compile(r"\bbehind (?:me|us|you)\b")


@dataclass(frozen=True, slots=True)
class Topic:
    """What a question is about, as far as it decides which sensors help.

    Attributes:
        kind: one of `KINDS`.
        directions: as seen from the vehicle, in the order of `DIRECTIONS`; none where the question
            is about the whole scene, or does not say.
    """

    kind: str
    directions: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Kind and directions in one word, e.g. `exist@front left`; `read_key` reads it."""
        return f"{self.kind}@{'+'.join(self.directions)}" if self.directions else self.kind


def read_key(key: str) -> Topic:
    """The topic of a key; unknown kinds are `other`, unknown directions are left out."""
    kind, _, places = key.partition("@")
    named = places.split("+")
    found = tuple(direction for direction in DIRECTIONS if direction in named)
    return Topic(kind if kind in KINDS else "other", found)


@lru_cache(maxsize=4096)
def topic_of(text: str, answers: tuple[str, ...] | None = None) -> Topic:
    """Kind and directions of a question.

    Args:
        text: as asked, without a prompt.
        answers: the allowed ones, None for free text.
    """
    return Topic(question_kind(text, answers), question_directions(text))


def question_kind(text: str, answers: Sequence[str] | None = None) -> str:
    """The kind of a question, one of `KINDS`.

    Args:
        text: as asked.
        answers: the allowed ones, None for free text.
    """
    # "There is a bus; what status is it in?" asks in its last part.
    words = " ".join(text.lower().split()).rstrip("; ").rpartition(";")[2].strip()
    # What marks the thing that is meant says nothing of what is asked.
    plain, likened = _LIKENESS.subn(" like ", words)
    by_answers = _kind_of_answers(answers)
    if by_answers == "yes or no":
        return _closed_kind(words, plain, bool(likened))
    if by_answers is not None:
        return by_answers
    # "Can you name the class of the car" wants the class, "would you say there is a car" a yes.
    polite = _POLITE.search(plain) is not None and _EXISTS.search(plain) is None
    if _ASKS_YES_NO.search(plain) and not polite and not _ASKS_OPENLY.search(plain):
        return _closed_kind(words, plain, bool(likened))
    if not _ASKS_WHAT.search(plain):
        return "other"
    for kind, pattern in (("count", _COUNTS), ("status", _ASKS_STATUS), ("object", _ASKS_OBJECT)):
        if pattern.search(plain):
            return kind
    return "other"


def question_directions(text: str) -> tuple[str, ...]:
    """Directions from the vehicle that a question names, in the order of `DIRECTIONS`.

    A direction from another thing ("to the front of the bus") is none: that may be anywhere.
    """
    words = " ".join(text.lower().split())
    found: set[str] = set()
    for match in _TO_US.finditer(words):
        ours, our_side, theirs, their_side = match.groups()
        found.add(" ".join(filter(None, (ours or theirs, our_side or their_side))))
    if _AHEAD.search(words):
        found.add("front")
    if _BEHIND.search(words):
        found.add("back")
    return tuple(direction for direction in DIRECTIONS if direction in found)


def _kind_of_answers(answers: Sequence[str] | None) -> str | None:
    """The kind that the allowed answers leave, `yes or no`, or None where they leave several."""
    if not answers:
        return None
    given = {answer.strip().lower() for answer in answers}
    if given <= _YES_NO:
        return "yes or no"
    if all(answer.isdigit() for answer in given):
        return "count"
    if given <= _STATUSES:
        return "status"
    return "object" if given <= set(OBJECT_CLASSES) else None


def _closed_kind(words: str, plain: str, likened: bool) -> str:
    """Of a question that is answered with yes or no."""
    if _COMPARES_NUMBERS.search(plain):
        return "comparison"
    exists = _EXISTS.search(plain)
    if _COMPARES_THINGS.search(plain) and not exists:
        return "comparison"
    if exists:
        return "exist"
    # "Is the bus in the same state as the car?" has nothing but the likeness.
    return "comparison" if likened or _COMPARES_THINGS.search(words) else "other"
