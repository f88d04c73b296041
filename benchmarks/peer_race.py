"""Standing questions and decoding beside peers: same weights, same threads, one run.

What a contestant measures is its own work, from token ids to token ids; processes, JSON and padding
of requests are outside. All contestants take turns, round by round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..runtime.errors import EngineError
from ..runtime.head_state import HeadState
from ..runtime.kv_prefix import KvPrefix
from ..runtime.language_model import LanguageModel
from ..runtime.text_cache import TextCache
from .fidelity import agreement
from .measure import Timings, machine_card, paired_ratio
from .result_file import figure

METHOD = (
    "Same checkpoint, same threads, one run; contestants take turns, in rotating order, each in a "
    "process of its own (Tailwire in that of the benchmark), timed inside; before each turn there "
    "is a rest, since threads of the one before may still wait spinning. A frame: standing "
    "questions of equal length, sensor tokens new in every frame, up to the likeliest next token "
    "of each question over the full vocabulary. Tailwire: cached heads, the tail behind the "
    "sensors' keys and values. Peers take the sensor at the input, ordinary tokens standing in for "
    "its embeddings, which costs the same: text_first keeps each question's text and reads the "
    "sensor and one last token behind it, sensor_first reads the sensor, then all texts; prefix: "
    "the paper's code, all text behind keys and values. The better order counts. Encoders and the "
    "connection are outside for all. switch_ms: first frames with other sensors on than the frame "
    "before. Decoding: greedy, median over all tokens. agreement_with_fp32: share of prompts of "
    "ordinary text whose next token is that of Tailwire's fp32 engines; as_faithful: peers that "
    "agree at most 5 points less than what they are compared with."
)
TAILWIRE_ORDER = "cached_head"
#: By how much a peer may agree less with fp32 and still count as about as faithful.
_AS_FAITHFUL = 0.05


@dataclass(frozen=True)
class RaceSettings:
    """What is raced.

    Attributes:
        questions: standing ones in the larger task; the smaller one has one.
        text_tokens: of each question.
        sensor_tokens: of all sensors.
        fewer_tokens: where one sensor is off.
        tail_blocks: of Tailwire, and of the paper's code.
        decode_tokens: per round.
        rounds: counted ones of every task.
        rest_s: before each turn.
    """

    questions: int = 5
    text_tokens: int = 24
    sensor_tokens: int = 28
    fewer_tokens: int = 24
    tail_blocks: int = 10
    decode_tokens: int = 32
    rounds: int = 9
    rest_s: float = 0.1


class Contestant(Protocol):
    """Someone who answers standing questions and decodes."""

    @property
    def orders(self) -> Sequence[str]:
        """Ways to put sensor and text."""
        ...

    def prepare(self, order: str, texts: Sequence[Sequence[int]]) -> None:
        """Take standing questions; not timed."""
        ...

    def frame(self, sensor: Sequence[int]) -> float:
        """Answer all of them behind new sensor tokens; milliseconds."""
        ...

    def decode(self, prompt: Sequence[int], tokens: int) -> list[float]:
        """Milliseconds of each token."""
        ...

    def following(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """The likeliest next token of each prompt."""
        ...


class TailwireContestant:
    """Ours: the tail behind keys and values."""

    orders = (TAILWIRE_ORDER,)

    def __init__(self, model: LanguageModel, tail_blocks: int) -> None:
        self._model, self._depth = model, tail_blocks
        self._heads: list[HeadState] = []
        self._rng = np.random.default_rng(0)

    def prepare(self, order: str, texts: Sequence[Sequence[int]]) -> None:
        del order
        self._heads = [self._model.encode(text, [self._depth]) for text in texts]

    def frame(self, sensor: Sequence[int]) -> float:
        config = self._model.config
        shape = (self._depth, config.num_kv_heads, len(sensor), config.head_dim)
        keys, values = (self._rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        blocks = tuple(range(config.num_blocks - self._depth, config.num_blocks))
        start = time.perf_counter()
        result = self._model.tail(self._heads, KvPrefix(blocks, keys, values), self._depth)
        self._model.logits(result.final).argmax(-1)
        return (time.perf_counter() - start) * 1e3

    def decode(self, prompt: Sequence[int], tokens: int) -> list[float]:
        depth = self._model.config.num_blocks
        result = self._model.tail([self._model.encode(prompt, [depth])], None, depth)
        token = int(self._model.logits(result.final)[0].argmax())
        cache, times = TextCache(self._model, result, 0, room=tokens), []
        for _ in range(tokens):
            start = time.perf_counter()
            token = int(self._model.logits(cache.extend(token))[0].argmax())
            times.append((time.perf_counter() - start) * 1e3)
        return times

    def following(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        depth, found = self._model.config.num_blocks, []
        for prompt in prompts:
            result = self._model.tail([self._model.encode(prompt, [depth])], None, depth)
            found.append(int(self._model.logits(result.final)[0].argmax()))
        return found


class AskedPeer(Protocol):
    """What `PeerContestant` needs of a process."""

    about: dict[str, Any]

    def ask(self, task: str, **values: Any) -> dict[str, Any]:
        """Have a task done."""
        ...


class PeerContestant:
    """A peer in its process."""

    def __init__(self, process: AskedPeer) -> None:
        self._process = process
        self.orders: Sequence[str] = tuple(process.about["orders"])

    def prepare(self, order: str, texts: Sequence[Sequence[int]]) -> None:
        self._process.ask("prepare", order=order, texts=[list(text) for text in texts])

    def frame(self, sensor: Sequence[int]) -> float:
        return float(self._process.ask("frame", sensor=list(sensor))["ms"])

    def decode(self, prompt: Sequence[int], tokens: int) -> list[float]:
        return list(self._process.ask("decode", prompt=list(prompt), tokens=tokens)["ms"])

    def following(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        return list(self._process.ask("next", prompts=[list(one) for one in prompts])["tokens"])


class Race:
    """All tasks for all contestants; one that fails leaves the rest running."""

    def __init__(
        self,
        contestants: Mapping[str, Contestant],
        settings: RaceSettings,
        vocabulary: int,
        progress: Callable[[str], None],
    ) -> None:
        """Nothing is run yet.

        Args:
            contestants: by name; ours are those of the order `cached_head`.
            settings: what is raced.
            vocabulary: tokens to draw from.
            progress: told which task begins.
        """
        self._contestants = dict(contestants)
        self._settings, self._progress = settings, progress
        self._rng = np.random.default_rng(0)
        self._low, self._high = min(100, vocabulary // 2), vocabulary
        #: Why a contestant has left.
        self.failed: dict[str, str] = {}

    def run(
        self, prompts: Sequence[Sequence[int]], reference: Sequence[int] | None
    ) -> dict[str, Any]:
        """Race.

        Args:
            prompts: of ordinary text, for fidelity; the first one is decoded behind.
            reference: next tokens of fp32, None without fidelity.

        Returns:
            Figures by contestant.
        """
        settings = self._settings
        rows: dict[str, dict[str, Any]] = {name: {} for name in self._contestants}
        one, _ = self._standing(1, switching=False)
        many, switched = self._standing(settings.questions, switching=True)
        self._progress("decoding")
        decoded = self._decode(prompts[0])
        for name in rows:
            rows[name] |= _standing_row(one.get(name, {}), "one_question")
            rows[name] |= _standing_row(many.get(name, {}), "five_questions")
            best = rows[name].get("five_questions_order")
            first = switched.get(name, {}).get(best or "")
            rows[name]["switch_ms"] = None if not first else float(np.median(first))
            times = decoded.get(name)
            rows[name]["decode_tokens_per_s"] = None if not times else 1e3 / float(np.median(times))
        if reference is not None:
            self._progress("agreement with fp32")
            for name, contestant in list(self._contestants.items()):
                found = self._guarded(name, lambda c=contestant: c.following(prompts))
                rows[name]["agreement_with_fp32"] = (
                    None if found is None else agreement(found, np.asarray(reference))
                )
        return rows

    def _standing(
        self, questions: int, *, switching: bool
    ) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, list[float]]]]:
        """Times by contestant and order: of steady frames, and of first ones after a switch."""
        settings = self._settings
        texts = [self._tokens(settings.text_tokens) for _ in range(questions)]
        steady: dict[str, dict[str, list[float]]] = {}
        switched: dict[str, dict[str, list[float]]] = {}
        longest = max((len(c.orders) for c in self._contestants.values()), default=0)
        for place in range(longest):
            turn_of = {
                name: c.orders[place]
                for name, c in self._contestants.items()
                if place < len(c.orders)
            }
            self._progress(
                f"{questions} standing questions, {', '.join(sorted(set(turn_of.values())))}"
            )
            for name, order in turn_of.items():
                contestant = self._contestants[name]
                self._guarded(name, lambda c=contestant, o=order: c.prepare(o, texts) or True)
            for number in range(-2, settings.rounds):
                names = [name for name in turn_of if name in self._contestants]
                turn = number % max(len(names), 1)
                full = self._tokens(settings.sensor_tokens)
                fewer = self._tokens(settings.fewer_tokens)
                for name in names[turn:] + names[:turn]:
                    contestant = self._contestants[name]
                    self._rest()
                    ms = self._guarded(name, lambda c=contestant, s=full: c.frame(s))
                    off = None
                    if switching and ms is not None:
                        off = self._guarded(name, lambda c=contestant, s=fewer: c.frame(s))
                    if number < 0 or ms is None:
                        continue
                    steady.setdefault(name, {}).setdefault(turn_of[name], []).append(ms)
                    if off is not None:
                        switched.setdefault(name, {}).setdefault(turn_of[name], []).append(off)
        return steady, switched

    def _decode(self, prompt: Sequence[int]) -> dict[str, list[float]]:
        times: dict[str, list[float]] = {}
        for number in range(-1, max(self._settings.rounds // 3, 1)):
            names = list(self._contestants)
            turn = number % max(len(names), 1)
            for name in names[turn:] + names[:turn]:
                contestant, tokens = self._contestants[name], self._settings.decode_tokens
                self._rest()
                found = self._guarded(name, lambda c=contestant, n=tokens: c.decode(prompt, n))
                if found and number >= 0:
                    times.setdefault(name, []).extend(found)
        return times

    def _rest(self) -> None:
        """Let the threads of the one before fall asleep; OpenMP's and ONNX Runtime's spin on."""
        time.sleep(self._settings.rest_s)

    def _guarded(self, name: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except EngineError as error:
            self.failed[name] = error.problem
            self._contestants.pop(name, None)
            self._progress(f"{name} leaves: {error.problem}")
            return None

    def _tokens(self, count: int) -> list[int]:
        return self._rng.integers(self._low, self._high, count).tolist()


def _standing_row(times: Mapping[str, Sequence[float]], task: str) -> dict[str, Any]:
    """The better order, with the times of all."""
    if not times:
        return {f"{task}_ms": None}
    medians = {order: float(np.median(ms)) for order, ms in times.items()}
    best = min(medians, key=lambda order: medians[order])
    return {
        f"{task}_ms": medians[best],
        f"{task}_order": best,
        f"{task}_ms_by_order": medians,
        f"{task}_rounds_ms": list(times[best]),
    }


def race_result(
    rows: Mapping[str, Mapping[str, Any]],
    ours: Sequence[str],
    settings: RaceSettings,
    *,
    about: Mapping[str, Mapping[str, Any]],
    missing: Mapping[str, str],
    model: str,
    threads: int,
) -> dict[str, Any]:
    """The result of a race.

    Args:
        rows: of `Race.run`.
        ours: names of Tailwire's contestants, the main one first.
        settings: what was raced.
        about: of each contestant: version, weights, what it cannot do.
        missing: peers that did not take part, with the reason.
        model: name of the checkpoint.
        threads: of every contestant.
    """
    main = ours[0]
    peers = [name for name in rows if name not in ours and rows[name].get("five_questions_ms")]
    ratio, best = _fastest(peers, main, rows)
    faithful_ratio, faithful = _fastest(_as_faithful(peers, main, rows), main, rows)
    decoders = {
        n: r["decode_tokens_per_s"] for n, r in rows.items() if r.get("decode_tokens_per_s")
    }
    theirs = {name: speed for name, speed in decoders.items() if name not in ours}
    return {
        "benchmark": "peers",
        "llm_time_ratio_vs_best_peer": None if ratio is None else ratio["median"],
        "llm_time_ratio": ratio,
        "best_peer": best,
        "llm_time_ratio_vs_as_faithful": None
        if faithful_ratio is None
        else faithful_ratio["median"],
        "best_as_faithful": faithful,
        "decode_vs_best_peer": {name: _decode_ratio(name, decoders, theirs, rows) for name in ours},
        "peers": {name: {**row, **about.get(name, {})} for name, row in rows.items()},
        "missing": dict(missing),
        "settings": {"model": model, "ours": list(ours), **vars(settings)},
        "figures": {
            "llm_time_ratio_vs_best_peer": figure("higher"),
            **{f"peers.{name}.five_questions_ms": figure("lower") for name in ours},
            **{f"peers.{name}.decode_tokens_per_s": figure("higher") for name in ours},
        },
        "machine": machine_card(threads),
        "method": METHOD,
    }


def _as_faithful(
    peers: Iterable[str], name: str, rows: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Peers that agree with fp32 about as well as one of ours; none where nobody knows."""
    mine = rows[name].get("agreement_with_fp32")
    agreements = {peer: rows[peer].get("agreement_with_fp32") for peer in peers}
    return [
        peer
        for peer, one in agreements.items()
        if mine is not None and one is not None and one >= mine - _AS_FAITHFUL
    ]


def _fastest(
    peers: Sequence[str], main: str, rows: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, float] | None, str | None]:
    """The fastest of peers in standing questions, and its time over ours."""
    best = min(peers, key=lambda name: rows[name]["five_questions_ms"], default=None)
    return (None if best is None else _ratio(rows[best], rows[main])), best


def _decode_ratio(
    name: str,
    decoders: Mapping[str, float],
    theirs: Mapping[str, float],
    rows: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Ours over the fastest peer, and over the fastest one that is about as faithful."""
    found: dict[str, Any] = {}
    for kind, among in (("any", [*theirs]), ("as_faithful", _as_faithful(theirs, name, rows))):
        best = max(among, key=lambda peer: theirs[peer], default=None)
        ratio = None if best is None or name not in decoders else decoders[name] / theirs[best]
        found[kind] = {"peer": best, "ratio": ratio}
    return found


def _ratio(slow: Mapping[str, Any], fast: Mapping[str, Any]) -> dict[str, float] | None:
    """Round by round, as far as both went."""
    pair = [np.asarray(row["five_questions_rounds_ms"]) for row in (slow, fast)]
    rounds = min(map(len, pair))
    return paired_ratio(Timings(pair[0][:rounds]), Timings(pair[1][:rounds]))
