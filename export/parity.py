"""Compares back ends stage by stage: the same inputs, the largest difference, the same words.

Each stage of every back end gets what the reference, the first one, computed before it, so that a
difference is seen where it arises. Answers are then compared from end to end, each back end on what
it computed itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..kernels.top_rows import top_rows
from ..runtime.encoders import Prepared
from ..runtime.errors import ConfigError
from ..runtime.kv_prefix import KvPrefix

Float = NDArray[np.float32]

#: Tokens of active sensors `[tokens, width]`, by sensor, in the pack's order.
SensorTokens = Mapping[str, Float]

#: Of the likeliest tokens, how many are compared.
BEST = 5


@dataclass(frozen=True)
class TextState:
    """A question in front of the tail.

    Attributes:
        token_ids: int64 `[tokens]`.
        residual: float32 `[tokens, hidden_size]`, what enters the first block of the tail.
        engine: what the engines keep of it beside that; None where it came from elsewhere.
    """

    token_ids: NDArray[np.int64]
    residual: Float
    engine: Any = None


class Contestant(Protocol):
    """One back end; a stage that it does not have raises NotImplementedError."""

    name: str

    def encode(self, encoder: str, prepared: Prepared) -> Float:
        """Tokens of one prepared frame."""
        ...

    def head(self, token_ids: NDArray[np.int64]) -> TextState: ...

    def connect(self, tokens: SensorTokens, texts: Sequence[TextState]) -> list[KvPrefix]:
        """The prefix of each question."""
        ...

    def tail(self, texts: Sequence[TextState], prefixes: Sequence[KvPrefix]) -> Float:
        """States behind the last tokens, `[questions, embedding_size]`."""
        ...

    def logits(self, final: Float) -> Float: ...

    def decode(self, text: TextState, prefix: KvPrefix, tokens: int) -> list[int]:
        """The likeliest tokens, one after the other."""
        ...


@dataclass
class StageDifference:
    """How far one stage of a back end is from the reference.

    Attributes:
        largest: difference of two numbers.
        spread: standard deviation of the reference's numbers.
        values: that were compared.
    """

    largest: float = 0.0
    spread: float = 0.0
    values: int = 0

    def add(self, got: NDArray[np.generic], wanted: NDArray[np.generic]) -> None:
        """Compare two arrays of one shape.

        Raises:
            ConfigError: shapes differ, so that back ends are not of one pack.
        """
        if got.shape != wanted.shape:
            raise ConfigError(
                f"a stage gives {list(got.shape)} where the reference gives {list(wanted.shape)}",
                field="backends",
                remedy="export the pack that the reference runs",
            )
        if wanted.size == 0:
            return
        difference = float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max())
        # What is not finite is as far away as can be.
        self.largest = max(self.largest, difference if np.isfinite(difference) else np.inf)
        self.spread = max(self.spread, float(np.std(wanted.astype(np.float64))))
        self.values += wanted.size


@dataclass
class Parity:
    """What was found of one back end.

    Attributes:
        backend: its name.
        stages: by stage, in the order of a frame.
        missing: stages that it does not have.
        same_best: questions whose likeliest token is the same.
        same_few: of the likeliest few tokens, those that are the same, in any order.
        few: how many were compared.
        same_tokens: decoded tokens that are the same, before the first that is not.
        tokens: that the reference decoded.
        same_answers: answers that are the same, from end to end.
        answers: that were compared.
    """

    backend: str
    stages: dict[str, StageDifference] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    same_best: int = 0
    same_few: int = 0
    few: int = 0
    same_tokens: int = 0
    tokens: int = 0
    same_answers: int = 0
    answers: int = 0

    def stage(self, name: str) -> StageDifference:
        """The difference of a stage, to be added to."""
        return self.stages.setdefault(name, StageDifference())


@dataclass(frozen=True)
class Case:
    """One moment with its questions.

    Attributes:
        frames: prepared frames by sensor, in the pack's order.
        questions: token ids of each.
        allowed: by question, the first tokens of its allowed answers.
    """

    frames: Mapping[str, Prepared]
    questions: Sequence[NDArray[np.int64]]
    allowed: Sequence[NDArray[np.int64]]


def compare(
    contestants: Sequence[Contestant],
    cases: Iterable[Case],
    encoder_of: Mapping[str, str],
    *,
    new_tokens: int,
    decoded_cases: int = 8,
) -> list[Parity]:
    """Compare all back ends with the first.

    Args:
        contestants: the reference, then those to compare with it.
        cases: what to compare on.
        encoder_of: name of the encoder by sensor.
        new_tokens: tokens to decode of one question per case.
        decoded_cases: cases of which tokens are decoded, the first ones.

    Returns:
        One finding for each but the reference.
    """
    reference, *others = (_WithHeads(one) for one in contestants)
    runs = [_Against(one, Parity(one.name)) for one in others]
    for number, case in enumerate(cases):
        tokens = {s: reference.one.encode(encoder_of[s], p) for s, p in case.frames.items()}
        texts = reference.heads(case.questions)
        prefixes = reference.one.connect(tokens, texts)
        final = reference.one.tail(texts, prefixes)
        logits = reference.one.logits(final)
        asked = number % len(texts)
        decoded: list[int] = []
        if number < decoded_cases:
            decoded = reference.one.decode(texts[asked], prefixes[asked], new_tokens)
        known = _Known(tokens, texts, prefixes, final, logits, asked, decoded)
        for run in runs:
            run.stages(case, encoder_of, known)
            run.decode(known)
            run.answers(case, encoder_of, known)
    return [run.result for run in runs]


@dataclass(frozen=True)
class _Known:
    """What the reference computed in a case."""

    tokens: SensorTokens
    texts: Sequence[TextState]
    prefixes: Sequence[KvPrefix]
    final: Float
    logits: Float
    asked: int
    decoded: list[int]


class _WithHeads:
    """A back end that runs the head of a text once."""

    def __init__(self, one: Contestant) -> None:
        self.one, self.name = one, one.name
        self._heads: dict[bytes, TextState] = {}

    def heads(self, questions: Sequence[NDArray[np.int64]]) -> list[TextState]:
        for ids in questions:
            if ids.tobytes() not in self._heads:
                self._heads[ids.tobytes()] = self.one.head(ids)
        return [self._heads[ids.tobytes()] for ids in questions]


def _joined(prefixes: Sequence[KvPrefix]) -> Float:
    return np.stack([np.stack([prefix.keys, prefix.values]) for prefix in prefixes])


def _chosen(logits: Float, allowed: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """By question, the allowed tokens from the likeliest on."""
    ordered: list[NDArray[np.int64]] = []
    for row, tokens in zip(logits, allowed, strict=True):
        # The state that scores a token by its logit is the logits' own row of it.
        places, _ = top_rows(np.ones((1, 1), np.float32), row[:, None], None, tokens, len(tokens))
        ordered.append(tokens[places[0]])
    return ordered


class _Against:
    """One back end beside the reference."""

    def __init__(self, held: _WithHeads, result: Parity) -> None:
        self._held, self._one, self.result = held, held.one, result

    def stages(self, case: Case, encoder_of: Mapping[str, str], known: _Known) -> None:
        """Every stage on what the reference computed before it."""
        one = self._one
        for sensor, prepared in case.frames.items():
            name = encoder_of[sensor]
            run = partial(one.encode, name, prepared)
            self._stage(f"encoder {name}", run, known.tokens[sensor])
        wanted = np.concatenate([text.residual for text in known.texts])
        self._stage("head", lambda: self._residuals(case), wanted)
        prefixes = _joined(known.prefixes)
        connect = partial(one.connect, known.tokens, known.texts)
        self._stage("connection", lambda: _joined(connect()), prefixes)
        self._stage("tail", lambda: one.tail(known.texts, known.prefixes), known.final)
        logits = self._stage("logits", lambda: one.logits(known.final), known.logits)
        if logits is not None:
            best, got = (
                np.argsort(-rows, axis=1, kind="stable")[:, :BEST]
                for rows in (known.logits, logits)
            )
            self.result.same_best += int((best[:, 0] == got[:, 0]).sum())
            pairs = zip(best, got, strict=True)
            self.result.same_few += sum(len(np.intersect1d(a, b)) for a, b in pairs)
            self.result.few += best.size

    def _residuals(self, case: Case) -> Float:
        return np.concatenate([text.residual for text in self._held.heads(case.questions)])

    def _stage(self, name: str, run: Callable[[], Float], wanted: Float) -> Float | None:
        try:
            got = run()
        except NotImplementedError:
            self._missing(name)
            return None
        self.result.stage(name).add(got, wanted)
        return got

    def _missing(self, name: str) -> None:
        if name not in self.result.missing:
            self.result.missing.append(name)

    def decode(self, known: _Known) -> None:
        """The likeliest tokens behind one question."""
        wanted, asked = known.decoded, known.asked
        if not wanted:
            return
        try:
            got = self._one.decode(known.texts[asked], known.prefixes[asked], len(wanted))
        except NotImplementedError:
            self._missing("decoding")
            return
        same = 0
        while same < min(len(got), len(wanted)) and got[same] == wanted[same]:
            same += 1
        self.result.same_tokens += same
        self.result.tokens += len(wanted)

    def answers(self, case: Case, encoder_of: Mapping[str, str], known: _Known) -> None:
        """Answers from end to end; encoders that are missing are the reference's."""
        one = self._one
        tokens: dict[str, Float] = {}
        for sensor, prepared in case.frames.items():
            try:
                tokens[sensor] = one.encode(encoder_of[sensor], prepared)
            except NotImplementedError:
                tokens[sensor] = known.tokens[sensor]
        texts = self._held.heads(case.questions)
        logits = one.logits(one.tail(texts, one.connect(tokens, texts)))
        got, wanted = (_chosen(rows, case.allowed) for rows in (logits, known.logits))
        self.result.same_answers += sum(int(a[0] == b[0]) for a, b in zip(got, wanted, strict=True))
        self.result.answers += len(wanted)
