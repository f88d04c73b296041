"""`tailwire bench peers`, `llm`, `scale`, `memory`, `all` from the command line, small or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run


def test_peers_that_are_not_installed_are_missing_with_the_reason(
    run: Run, runtime_options: list[str]
) -> None:
    model = runtime_options[:2]
    words = ("--rounds", "1", "--tail", "2", "--tokens", "2", "--threads", "1")
    outcome = run("bench", "peers", *model, *words, "--peers", "llama,openvino")
    assert outcome.code == 0
    found = outcome.json
    assert found["llm_time_ratio_vs_best_peer"] is None
    assert set(found["missing"]) == {
        "llama.cpp Q8_0",
        "llama.cpp Q4_1",
        "openvino-genai Q8_0",
        "openvino-genai Q4_1",
    }
    assert found["peers"]["tailwire int8"]["five_questions_ms"] > 0
    assert "no peer took part" in outcome.out


def test_llm_and_scale_and_memory_run_on_a_tiny_model(
    run: Run, runtime_options: list[str], drive: Path
) -> None:
    words = ("--precision", "fp32", "--rounds", "1", "--tokens", "2", "--prompts", "4,8")
    llm = run("bench", "llm", *runtime_options[:2], *words, "--tail", "2", "--no-probes").json
    assert llm["by_precision"]["fp32"]["prefill"]["8"]["mfu"] is None
    scale = run("bench", "scale", *runtime_options, "--nuscenes", drive, "--rounds", "1").json
    assert set(scale["no_faster_than_linear"]) == {
        "questions",
        "tail depth",
        "question length",
        "tokens per sensor",
        "sensors",
    }
    memory = run("bench", "memory", *runtime_options, "--nuscenes", drive, "--frames", "2").json
    assert len(memory["methods"]) >= 2
    assert memory["peak_memory_bytes"] >= memory["phases"]["load"]["resident_after_bytes"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("peers", "--peers", "nobody"), "--peers"),
        (("llm", "--precision", "int9"), "--precision"),
        (("llm", "--prompts", "many"), "--prompts"),
        (("all", "--minutes", "0"), "--minutes"),
        (("all", "--parts", "nothing"), "--parts"),
        (("scale", "--rounds", "0"), "--rounds"),
    ],
)
def test_wrong_input(run: Run, words: tuple[str, ...], named: str) -> None:
    assert named in run("bench", *words).error()


def test_all_does_not_mix_with_an_earlier_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "answers.jsonl").write_text("")
    assert "earlier run" in run("bench", "all", "--out", tmp_path).error()
