"""Questions and their answers in tokens, and what decoding makes of them, against brute force."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailwire.runtime.asking import as_question
from tailwire.runtime.decoding import TextPiece
from tailwire.runtime.errors import ConfigError
from tailwire.runtime.plans import Answer
from tailwire.runtime.questions import NUSCENES_QA_ANSWERS, AnswerTrie, Question, TrieNode

from ..fakes import (
    COUNTS,
    QUESTIONS,
    SENSORS,
    FakeRuntime,
    MakeRuntime,
    connection_spec,
    fake_runtime,
    frames,
)
from ..scripted_model import scripted_model

if TYPE_CHECKING:
    from ..built_models import TinyModels

END = 99


def leaves(node: TrieNode, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], str]]:
    if node.answer is not None:
        assert not node.children
        yield path, node.answer
    for token, child in node.children.items():
        yield from leaves(child, (*path, token))


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=12))
def test_a_trie_spells_every_answer_and_no_other(spellings: list[list[int]]) -> None:
    spelled = {str(index): tuple(tokens) for index, tokens in enumerate(spellings)}
    if len(set(spelled.values())) < len(spelled):
        with pytest.raises(ConfigError, match="do not tell"):
            AnswerTrie(list(spelled), spelled.__getitem__, END)
        return
    trie = AnswerTrie(list(spelled), spelled.__getitem__, END)
    found = {answer: path for path, answer in leaves(trie.root)}
    assert found.keys() == spelled.keys()
    for answer, tokens in spelled.items():
        begins_another = any(t != tokens and t[: len(tokens)] == tokens for t in spelled.values())
        assert found[answer] == ((*tokens, END) if begins_another else tokens)
    assert trie.depth == max(map(len, found.values()))


def test_an_answer_without_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match="answers"):
        AnswerTrie(["yes"], lambda _: (), END)


@pytest.mark.parametrize("answers", [(), ("",), ("yes", "  "), ("yes", "yes"), "yes"], ids=repr)
def test_answers_that_cannot_be_meant_are_refused(answers: Sequence[str]) -> None:
    with pytest.raises(ConfigError, match="answers"):
        as_question("Is it?", answers)
    with pytest.raises(ConfigError, match="answers"):
        Question("Is it?", answers)  # pyright: ignore[reportArgumentType] - as an untyped caller


def test_empty_questions_and_lengths_are_refused() -> None:
    for text in ("", " \n"):
        with pytest.raises(ConfigError, match="question"):
            Question(text)
    with pytest.raises(ConfigError, match="max_new_tokens"):
        Question("What?", max_new_tokens=0)


def test_answers_beside_a_question_are_refused() -> None:
    with pytest.raises(ConfigError, match="answers"):
        as_question(Question("Is it?"), ["yes"])
    assert as_question(Question("Is it?", ("yes",))).answers == ("yes",)
    assert as_question("Is it?", ["yes", "no"]).answers == ("yes", "no")


def test_nuscenes_qa_has_thirty_answers() -> None:
    assert len(set(NUSCENES_QA_ANSWERS)) == len(NUSCENES_QA_ANSWERS) == 30


Logits = Callable[[list[int]], NDArray[np.float32]]


def probability(logits: NDArray[np.float32], options: Sequence[int]) -> NDArray[np.float64]:
    chosen = logits[list(options)].astype(np.float64)
    return np.exp(chosen - chosen.max()) / np.exp(chosen - chosen.max()).sum()


def brute_force(
    next_logits: Logits, prompt: list[int], spelled: Mapping[str, list[int]], end: int
) -> tuple[str, float]:
    """Greedy among the answers that are left, from all logits of the whole text each time."""
    path: list[int] = []
    confidence = 1.0
    while True:
        left = {a: t for a, t in spelled.items() if t[: len(path)] == path}
        if len(left) == 1:
            return next(iter(left)), confidence
        options = sorted({(*tokens, end)[len(path)] for tokens in left.values()})
        if len(options) == 1:
            path.append(options[0])
            continue
        shares = probability(next_logits(prompt + path), options)
        confidence *= float(shares.max())
        best = options[int(shares.argmax())]
        if best == end:
            return next(a for a, t in left.items() if t == path), confidence
        path.append(best)


def reference_logits(tiny: TinyModels, fake: FakeRuntime, question: str) -> Logits:
    """transformers behind the prefix that torch makes of the tokens in use."""
    pytest.importorskip("torch", reason="torch is the reference")
    from ..torch_connections import torch_conditioned, torch_plain

    rt = fake.runtime
    model, connection, reference = rt.model, rt.connection, tiny.reference("llama")
    tokens = {}
    for sensor in rt.sensors:
        held = fake.perception.tokens(sensor)
        assert held is not None
        tokens[sensor] = held.tokens
    prefix = {}
    if tokens and connection.spec.kind == "plain":
        prefix = torch_plain(connection.spec, connection.weights, model, tokens)
    elif tokens:
        ids = model.tokenizer.encode(f"{question} Answer:").ids
        head = model.encode(ids, [connection.spec.tail_blocks])
        prefix = torch_conditioned(connection.spec, connection.weights, model, tokens, head)
    first = model.config.num_blocks - rt.tail_blocks
    seen = {block: rows for block, rows in prefix.items() if block >= first}
    return lambda ids: reference.logits(ids, seen or None)[-1]


SHARED_STARTS = ("construction vehicle", "construction truck", "construction", "con", "truck")


@pytest.mark.parametrize("kind", ["plain", "conditioned"])
@pytest.mark.parametrize("sensors", [SENSORS, SENSORS[1:2], ()], ids=["all", "one", "none"])
def test_confidence_is_renormalised_wherever_answers_part(
    tiny: TinyModels, make: MakeRuntime, kind: str, sensors: Sequence[str]
) -> None:
    fake = make(kind, watch=False, sensors=sensors)
    model = fake.runtime.model
    (end,) = model.config.eos_token_ids
    questions = (*QUESTIONS, ("What is it?", SHARED_STARTS), ("One or ten?", ("1", "10")))
    for question in questions:
        fake.runtime.watch(*question)
    given = frames()
    answers = fake.runtime.step(given)
    for (text, allowed), answer in zip(questions, answers, strict=True):
        prompt = model.tokenizer.encode(f"{text} Answer:").ids
        spelled = {a: model.tokenizer.encode(f" {a}").ids for a in allowed}
        logits = reference_logits(tiny, fake, text)
        expected, confidence = brute_force(logits, prompt, spelled, end)
        assert answer.text == expected
        assert answer.confidence == pytest.approx(confidence, abs=2e-4)


def test_one_allowed_answer_is_certain(make: MakeRuntime) -> None:
    rt = make(watch=False).runtime
    for text in ("yes", "construction vehicle"):
        answer = rt.ask(frames(), "What is it?", [text])
        assert (answer.text, answer.confidence) == (text, 1.0)


def test_the_order_of_answers_is_no_matter(make: MakeRuntime) -> None:
    rt = make(watch=False).runtime
    there = rt.ask(frames(), "How many?", COUNTS)
    back = rt.ask((), "How many?", COUNTS[::-1])
    assert there.text == back.text
    assert there.confidence == pytest.approx(back.confidence, abs=1e-6)


def pieces_of(stream: Iterator[TextPiece | Answer]) -> tuple[list[TextPiece], Answer]:
    *pieces, answer = stream
    assert isinstance(answer, Answer)
    kept = [piece for piece in pieces if isinstance(piece, TextPiece)]
    assert len(kept) == len(pieces)
    assert [piece.last for piece in kept] == [False] * (len(kept) - 1) + [True]
    return kept, answer


def test_free_text_is_the_references_greedy_text(tiny: TinyModels, make: MakeRuntime) -> None:
    fake = make(watch=False)
    rt, length = fake.runtime, 12
    for sensors in (SENSORS, ()):
        rt.switch_sensors(sensors)
        question = Question("What do you see?", max_new_tokens=length)
        pieces, answer = pieces_of(rt.stream(frames(), question))
        next_logits = reference_logits(tiny, fake, question.text)
        ids = rt.model.tokenizer.encode("What do you see? Answer:").ids
        said: list[int] = []
        log_sum = 0.0
        while len(said) < length:
            shares = probability(next_logits(ids + said), range(rt.model.config.vocab_size))
            log_sum += math.log(shares.max())
            said.append(int(shares.argmax()))
            if said[-1] in rt.model.config.eos_token_ids:
                break
        text = rt.model.tokenizer.decode(said)
        assert "".join(piece.text for piece in pieces) == text
        assert answer.text == text.strip()
        assert answer.confidence == pytest.approx(math.exp(log_sum / len(said)), rel=1e-3)
        asked = rt.ask((), question)
        assert (asked.text, asked.confidence) == (answer.text, answer.confidence)


PROMPT = "What is it? Answer:"
TEXTS = ("a bus", "naïve Größe", "日本語の文", "🚌 and 🚗!", "a\n\nb", "x")


def scripted(tmp_path: Path, reply: str, *, ends: bool = True) -> FakeRuntime:
    model = scripted_model(tmp_path / "model", PROMPT, reply, ends=ends)
    return fake_runtime(model, tmp_path, connection_spec(tail_blocks=2))


@pytest.mark.parametrize("text", TEXTS)
def test_free_text_ends_with_the_models_end_and_streams_whole_characters(
    tmp_path: Path, text: str
) -> None:
    rt = scripted(tmp_path, text).runtime
    pieces, answer = pieces_of(rt.stream(frames(), Question("What is it?", max_new_tokens=60)))
    assert answer.text == "".join(piece.text for piece in pieces) == text
    assert not any("�" in piece.text for piece in pieces)
    assert len(pieces) == len(text.encode()) + 1  # a token per byte, and the end
    assert min(piece.probability for piece in pieces) > 0.9
    assert rt.ask((), "What is it?").text == text
    rt.close()


def test_free_text_stops_at_its_limit(tmp_path: Path) -> None:
    rt = scripted(tmp_path, "日本", ends=False).runtime
    for limit in (1, 2, 3, 7, 12):
        question = Question("What is it?", max_new_tokens=limit)
        pieces, answer = pieces_of(rt.stream(frames(), question))
        assert len(pieces) == limit
        whole = ("日本" * 9).encode()[:limit].decode(errors="ignore")
        # A character cut in half shows as what it is, and only in the last piece.
        assert "".join(piece.text for piece in pieces[:-1]).count("�") == 0
        assert answer.text.rstrip("�") == whole
        assert answer.text == "".join(piece.text for piece in pieces)
    rt.close()


def test_an_empty_reply_is_one_empty_piece(tmp_path: Path) -> None:
    rt = scripted(tmp_path, "").runtime
    pieces, answer = pieces_of(rt.stream(frames(), "What is it?"))
    assert [piece.text for piece in pieces] == [""]
    assert answer.text == ""
    rt.close()


def test_scripted_answers_are_found_among_allowed_ones(tmp_path: Path) -> None:
    rt = scripted(tmp_path, " 10").runtime
    assert rt.ask(frames(), "What is it?", COUNTS).text == "10"
    assert rt.ask((), "What is it?", ("1", "2")).text == "1"
    rt.close()


def test_allowed_answers_are_not_streamed(make: MakeRuntime) -> None:
    rt = make(watch=False).runtime
    with pytest.raises(ConfigError, match="answers"):
        next(rt.stream(frames(), Question("Is it?", ("yes", "no"))))
