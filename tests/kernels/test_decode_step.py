"""Compiling and loading the C sources, whatever the machine offers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tailwire.kernels import native
from tailwire.kernels.native import load_native

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "seven.c"
    path.write_text("int seven(void) { return 7; }\n")
    return path


def fake_compiler(folder: Path, script: str) -> None:
    folder.mkdir()
    path = folder / "cc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@needs_compiler
def test_a_library_is_compiled_once(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "new" / "libraries"
    library, _ = load_native([source], folder, "machine")
    assert library is not None and library.seven() == 7
    made = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(made) == 2  # the library and its hash
    again, _ = load_native([source], folder, "machine")
    assert again is not None
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == made


@needs_compiler
def test_another_machine_or_source_is_another_library(tmp_path: Path, source: Path) -> None:
    load_native([source], tmp_path / "libraries", "machine")
    load_native([source], tmp_path / "libraries", "other machine")
    source.write_text("int seven(void) { return 8; }\n")
    library, _ = load_native([source], tmp_path / "libraries", "machine")
    assert library is not None and library.seven() == 8
    assert len(list((tmp_path / "libraries").glob("*.so"))) == 3


@needs_compiler
@pytest.mark.parametrize("damage", ["cut off", "empty", "hash missing", "hash is no text"])
def test_a_broken_library_is_compiled_again(tmp_path: Path, source: Path, damage: str) -> None:
    folder = tmp_path / "libraries"
    folder.mkdir()
    # Not loaded before it is damaged: a process loads a path once.
    key = native._key(str(shutil.which("cc")), [source], "machine", native.REORDERED)
    path = folder / f"seven-{key}.so"
    assert native._compile(str(shutil.which("cc")), source, path, native.REORDERED) == ""
    whole = path.read_bytes()
    if damage == "cut off":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "hash missing":
        path.with_suffix(".sha256").unlink()
    else:
        path.with_suffix(".sha256").write_bytes(b"\xff\xfe")
    library, _ = load_native([source], folder, "machine")
    assert library is not None and library.seven() == 7


def test_without_a_compiler_there_is_a_reason(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    library, reason = load_native([source], tmp_path / "libraries", "machine")
    assert library is None
    assert "no C compiler" in reason


@pytest.mark.parametrize(
    "script",
    [
        "echo broken >&2; exit 1",
        'test "$1" = --version',  # says yes and writes nothing
        'test "$1" = --version && exit 0; while [ "$1" != -o ]; do shift; done; echo x > "$2"',
    ],
)
def test_a_failing_compiler_is_a_reason(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    fake_compiler(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    library, reason = load_native([source], tmp_path / "libraries", "machine")
    assert library is None
    assert reason
    assert not list((tmp_path / "libraries").glob(".partial-*"))


def test_a_compiler_that_hangs_is_a_reason(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_compiler(tmp_path / "bin", "exec /bin/sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(native, "_TIMEOUT_S", 0.2)
    library, reason = load_native([source], tmp_path / "libraries", "machine")
    assert library is None
    assert "timed out" in reason


@needs_compiler
def test_a_folder_that_cannot_be_made_is_a_reason(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_text("")
    library, reason = load_native([source], tmp_path / "file" / "libraries", "machine")
    assert library is None
    assert reason


@needs_compiler
def test_the_decoder_compiles_without_warnings(tmp_path: Path) -> None:
    path = Path(native.__file__).with_name("decode_step.c")
    compiler = str(shutil.which("cc"))
    for tuning in ([], ["-march=native"]):
        command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", *tuning, "-c", str(path)]
        done = subprocess.run(
            [*command, "-o", str(tmp_path / "out.o")], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
