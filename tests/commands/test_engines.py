"""`export`, `parity`, `build` and `doctor` as they are typed; what they do is tested elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailwire.cli import main


def test_doctor_says_what_can_run_and_what_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "onnxruntime-cpu" in said and "Not yet run on a GPU" in said
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["backends"]["onnxruntime-cpu"]["works"] is True
    assert found["backends"]["tensorrt"]["works"] is False
    assert "python3-libnvinfer" in found["backends"]["tensorrt"]["detail"]
    assert "onnxruntime-cpu" in found["parts"]["tail"]["by_default"]
    assert "no CUDA provider" in found["parts"]["tail"]["exported"] and found["graphs"] == {}
    for text in ("stand-ins", "memory runs out", "Runtime.engines_on_cpu"):
        assert text in found["memory"] and text in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "--out", "x", "--precision", "fp8"], "'fp8' is no precision"),
        (["export", "--out", "x", "--questions", "0"], "--questions: the number is too small"),
        (["export", "--out", "x", "--depths", "four"], "'four' is no list of numbers"),
        (["parity", "--backends", "onnx-cpu"], "two different back ends"),
        (["parity"], "--export: portable graphs are compared from a folder"),
        (["parity", "--tokens", "0"], "--tokens: the number is too small"),
        (["build", "nowhere"], "the export cannot be read"),
        (["doctor", "--engines", "nowhere"], "the export cannot be read"),
        (["doctor", "--pack", "nowhere"], "the manifest cannot be read"),
    ],
)
def test_wrong_input_is_named(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
