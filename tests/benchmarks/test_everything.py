"""All parts run in processes of their own; one that fails, hangs or comes too late is said to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tailwire.benchmarks.everything import (
    Part,
    all_parts,
    compare_parts,
    earlier_folder,
    run_parts,
)
from tailwire.benchmarks.result_file import figure, stamped, write_result
from tailwire.cli import main
from tailwire.runtime.errors import ConfigError

PROGRAM = (sys.executable, "-c")


def test_parts_run_and_failures_are_told() -> None:
    told: list[str] = []
    outcome = run_parts(
        [
            Part(
                "good",
                ['import json; print("text"); print(json.dumps({"p50_ms": 3, "x": 1}))'],
                ["p50_ms"],
            ),
            Part("bad", ['import sys; print("error: no such pack", file=sys.stderr); sys.exit(2)']),
            Part("silent", ["pass"], ["p50_ms"]),
        ],
        seconds=600,
        progress=told.append,
        program=PROGRAM,
    )
    assert outcome.figures == {"good": {"p50_ms": 3}, "silent": {}}
    assert outcome.failed == {"bad": "error: no such pack"}
    assert set(outcome.seconds) == {"good", "silent"}
    assert any("no such pack" in line for line in told)


def test_time_is_kept() -> None:
    outcome = run_parts(
        [Part("hangs", ["import time; time.sleep(60)"]), Part("late", ["pass"])],
        seconds=21.5,
        progress=lambda _: None,
        program=PROGRAM,
    )
    assert "did not end" in outcome.failed["hangs"]
    assert outcome.skipped == ["late"]


def test_every_part_is_a_command_that_parses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in all_parts(tmp_path, ["--threads", "1"], ["--threads", "1"]):
        # Parsed up to an option that is not there, so that nothing runs.
        with pytest.raises(SystemExit):
            main([*part.words, "--no-such-option"])
        complaint = capsys.readouterr().err
        assert "unrecognized arguments: --no-such-option" in complaint


def _kept(folder: Path, benchmark: str, flops: int, ms: float) -> None:
    result = {
        "benchmark": benchmark,
        "flops": flops,
        "ms": ms,
        "figures": {"flops": figure("lower", counted=True), "ms": figure("lower")},
        "machine": {"date": "then"},
    }
    write_result(folder / f"{benchmark}.json", stamped(result, "1"))


def test_every_part_is_compared_with_its_own_earlier_result(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    _kept(old, "frame", 100, 10.0)
    _kept(old, "card", 100, 10.0)
    (old / "llm.json").write_text('{"benchmark": "llm", "format_version": 99}')
    _kept(new, "frame", 101, 10.5)
    _kept(new, "card", 100, 20.0)
    _kept(new, "llm", 1, 1.0)
    _kept(new, "scale", 1, 1.0)
    names = ["frame", "card", "llm", "scale", "demo"]
    found = compare_parts(old, new, names, tolerance=0.1)
    assert found["regressions"] == ["frame.flops", "card.ms"]
    assert found["parts"]["frame"]["rows"]["ms"]["verdict"] == "same"
    assert "format 99" in found["parts"]["llm"]["skipped"]
    assert "no earlier result" in found["parts"]["scale"]["skipped"]
    assert "demo" not in found["parts"]
    assert compare_parts(old, new, ["card"], tolerance=1.0)["regressions"] == []


def test_an_earlier_run_is_its_folder_or_what_was_kept_of_it(tmp_path: Path) -> None:
    folder, moved = tmp_path / "run", tmp_path / "moved"
    _kept(folder, "frame", 100, 10.0)
    assert earlier_folder(folder) == folder
    kept = {"benchmark": "all", "folder": str(folder), "seconds": {"frame": 1.0, "demo": 2.0}}
    write_result(tmp_path / "all.json", stamped(kept, "1"))
    assert earlier_folder(tmp_path / "all.json") == folder
    folder.rename(moved)
    with pytest.raises(ConfigError, match=r"not in .*run any more"):
        earlier_folder(tmp_path / "all.json")
    (tmp_path / "all.json").rename(moved / "all.json")
    assert earlier_folder(moved / "all.json") == moved
    with pytest.raises(ConfigError, match="result of 'frame'"):
        earlier_folder(moved / "frame.json")


def test_an_earlier_run_that_is_not_there_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "missing")
    assert main(["bench", "all", "--compare", missing, "--out", str(tmp_path / "out")]) == 2
    assert "--compare" in capsys.readouterr().err
    (tmp_path / "same").mkdir()
    same = str(tmp_path / "same")
    assert main(["bench", "all", "--compare", same, "--out", same]) == 2
    assert "another folder" in capsys.readouterr().err
