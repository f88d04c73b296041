"""The command as a whole: overview, exit codes, and what it must not import."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from tailwire import __version__, cli
from tailwire.commands import models
from tailwire.commands.command import Command
from tailwire.runtime.errors import ConfigError

from .conftest import Run


def no_arguments(_: ArgumentParser) -> None:
    pass


def raising(error: BaseException) -> Command:
    def run(_: Namespace) -> int:
        raise error

    return Command("models", "raises", no_arguments, run)


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0
    overview = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n    {name} " in overview


@pytest.mark.parametrize("words", [[], ["paint"], ["models"], ["ask"], ["demo", "--steps", "x"]])
def test_usage_errors_exit_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tailwire")


def test_the_module_runs_as_the_command() -> None:
    done = python("-m", "tailwire.cli", "--version")
    assert (done.returncode, done.stdout) == (0, f"tailwire {__version__}\n")


def test_wrong_input_is_one_line_with_field_and_remedy(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    error = ConfigError("is\n  no good", field="config.yaml: tail", remedy="give 1 to 6")
    monkeypatch.setattr(models, "COMMAND", raising(error))
    outcome = run("models")
    assert outcome.code == 2
    assert outcome.err == "error: config.yaml: tail: is no good. Remedy: give 1 to 6.\n"


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(models, "COMMAND", raising(KeyboardInterrupt()))
    outcome = run("models")
    assert (outcome.code, outcome.err) == (130, "stopped\n")


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "COMMAND", raising(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["models"])


def test_a_closed_pipe_is_no_fault() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "tailwire.cli", "models", "list"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_the_overview_loads_nothing_heavy() -> None:
    done = python(
        "-c",
        "import sys; from tailwire.cli import _parser; _parser([]).format_help(); "
        "print(sorted({'numpy', 'onnxruntime', 'pydantic', 'rich'} & sys.modules.keys()))",
    )
    assert done.stdout == "[]\n", done.stderr


def test_import_and_ask_need_neither_torch_nor_transformers_nor_ros(
    runtime_options: list[str], drive: Path, run: Run
) -> None:
    words = ["ask", "--nuscenes", str(drive), "--answers", "yes,no", *runtime_options, "Is it?"]
    assert run(*words).code == 0  # From here on the cache is warm.
    # None in sys.modules makes an import of that name fail.
    done = python(
        "-c",
        "import sys; sys.modules.update(torch=None, transformers=None, rclpy=None);"
        f"import tailwire; from tailwire.cli import main; code = main({words!r});"
        "print(sorted({'onnx', 'gguf'} & sys.modules.keys())); sys.exit(code)",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]", "a warm start loaded the builders of engines"
