"""Peers are asked over pipes; one that fails leaves the others running, and is said to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tailwire.benchmarks.peer_race import (
    PeerContestant,
    Race,
    RaceSettings,
    TailwireContestant,
    race_result,
)
from tailwire.benchmarks.peers import environment, peer_process
from tailwire.benchmarks.peers.catalogue import PEERS
from tailwire.benchmarks.peers.environment import PeerEnvironment
from tailwire.benchmarks.peers.peer_process import PeerProcess
from tailwire.runtime.errors import EngineError

from ..built_models import TinyModels

SETTINGS = RaceSettings(
    questions=2,
    text_tokens=4,
    sensor_tokens=3,
    fewer_tokens=2,
    tail_blocks=2,
    decode_tokens=3,
    rounds=3,
    rest_s=0.001,
)
WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
from worker_loop import serve

def load():
    if "cannot-load" in sys.argv:
        raise ValueError("no such model")
    print("noise of a peer on its standard output")
    texts = []
    def prepare(request):
        texts[:] = request["texts"]
        return {}
    def frame(request):
        if "fails" in sys.argv and len(texts) > 1:
            raise MemoryError("too many questions")
        ms = 100.0 * len(texts) + len(request["sensor"])
        return {"ms": ms, "tokens": [0] * len(texts)}
    def decode(request):
        return {"ms": [2.0] * request["tokens"], "tokens": []}
    def following(request):
        return {"tokens": [7 for _ in request["prompts"]]}
    tasks = {"prepare": prepare, "frame": frame, "decode": decode, "next": following}
    return {"version": "9", "orders": ["text_first", "sensor_first"]}, tasks

serve(load)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    return path


def _start(worker: Path, *words: str) -> PeerProcess:
    folder = str(Path(peer_process.__file__).parent)
    return PeerProcess("stand-in", Path(sys.executable), worker, (folder, *words))


def test_replies_are_alone_on_the_pipe(worker: Path) -> None:
    process = _start(worker)
    assert process.about["version"] == "9"
    assert process.ask("next", prompts=[[1], [2]]) == {"tokens": [7, 7]}
    with pytest.raises(EngineError, match="KeyError"):
        process.ask("no such task")
    assert process.ask("decode", prompt=[1], tokens=2)["ms"] == [2.0, 2.0]
    process.close()
    with pytest.raises(EngineError):
        process.ask("next", prompts=[[1]])


def test_a_peer_that_does_not_load_says_why(worker: Path) -> None:
    with pytest.raises(EngineError, match="no such model"):
        _start(worker, "cannot-load")
    with pytest.raises(EngineError, match="stand-in fails"):
        PeerProcess("stand-in", Path("/no/such/python"), worker, ())


def test_race_takes_the_better_order_and_survives_a_failure(worker: Path, tiny: TinyModels) -> None:
    good, bad = _start(worker), _start(worker, "fails")
    model = tiny.model("llama")
    contestants = {
        "ours": TailwireContestant(model, 2),
        "good": PeerContestant(good),
        "bad": PeerContestant(bad),
    }
    race = Race(contestants, SETTINGS, model.config.vocab_size, lambda _: None)
    prompts = [[1, 2, 3], [4, 5, 6]]
    reference = TailwireContestant(model, 2).following(prompts)
    rows = race.run(prompts, reference)
    good.close()
    bad.close()
    assert rows["good"]["one_question_ms"] == 103.0
    assert rows["good"]["five_questions_ms"] == 203.0
    assert rows["good"]["switch_ms"] == 202.0
    assert rows["good"]["decode_tokens_per_s"] == 500.0
    assert rows["ours"]["agreement_with_fp32"] == 1.0
    assert rows["bad"]["one_question_ms"] == 103.0
    assert rows["bad"]["five_questions_ms"] is None
    assert "too many questions" in race.failed["bad"]
    result = race_result(
        rows,
        ["ours"],
        SETTINGS,
        about={"good": {"cannot": ["lidar"]}},
        missing=race.failed,
        model="tiny",
        threads=1,
    )
    assert result["best_peer"] == "good"
    ours = rows["ours"]["five_questions_ms"]
    assert result["llm_time_ratio_vs_best_peer"] == pytest.approx(203 / ours, rel=0.9)
    assert result["decode_vs_best_peer"]["ours"]["any"]["peer"] == "good"
    assert result["decode_vs_best_peer"]["ours"]["as_faithful"]["peer"] is None
    assert result["best_as_faithful"] is None and result["llm_time_ratio_vs_as_faithful"] is None
    assert "bad" in result["missing"]


def test_a_fast_peer_that_says_something_else_is_told_from_one_as_faithful() -> None:
    def row(ms: float, agreement: float) -> dict[str, Any]:
        return {
            "five_questions_ms": ms,
            "five_questions_rounds_ms": [ms, ms],
            "decode_tokens_per_s": 1e3 / ms,
            "agreement_with_fp32": agreement,
        }

    rows = {"ours": row(10, 0.98), "rounded": row(30, 0.5), "same": row(40, 0.95)}
    result = race_result(rows, ["ours"], SETTINGS, about={}, missing={}, model="tiny", threads=1)
    assert (result["best_peer"], result["llm_time_ratio_vs_best_peer"]) == ("rounded", 3.0)
    assert (result["best_as_faithful"], result["llm_time_ratio_vs_as_faithful"]) == ("same", 4.0)


def test_without_peers_there_is_no_ratio(tiny: TinyModels) -> None:
    model = tiny.model("llama")
    ours: dict[str, TailwireContestant] = {"ours": TailwireContestant(model, 2)}
    rows = Race(ours, SETTINGS, model.config.vocab_size, lambda _: None).run([[1, 2]], None)
    result = race_result(
        rows, ["ours"], SETTINGS, about={}, missing={"x": "absent"}, model="tiny", threads=1
    )
    assert result["llm_time_ratio_vs_best_peer"] is None
    assert result["missing"] == {"x": "absent"}


def test_every_peer_says_what_it_cannot_do() -> None:
    for spec in PEERS:
        assert (Path(peer_process.__file__).parent / spec.worker).is_file()
        assert any("LiDAR" in one for one in spec.cannot)
        assert any("budget" in one for one in spec.cannot)
        assert any("switching" in one or "text kept" in one for one in spec.cannot)


def test_environments_are_made_once_and_failures_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path))
    calls: list[Sequence[object]] = []

    def run(words: Sequence[object], **_: object) -> object:
        calls.append(words)
        if "pip" in words:
            raise OSError("no network")
        return type("Done", (), {"returncode": 1})()

    monkeypatch.setattr(environment.subprocess, "run", run)
    peer = PeerEnvironment("some-peer", ("some-peer==1",), "some_peer")
    assert not peer.is_complete()
    with pytest.raises(EngineError, match="no network"):
        peer.install(lambda _: None)
    assert calls[-1][-1] == "some-peer==1"
