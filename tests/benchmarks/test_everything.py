"""All parts run in processes of their own; one that fails, hangs or comes too late is said to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tailwire.benchmarks.everything import Part, all_parts, run_parts
from tailwire.cli import main

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
