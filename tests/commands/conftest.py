"""A tiny language model, a drive of two keyframes and a cache folder for the commands."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tailwire.cli import main
from tailwire.kernels.object_tokens import TOKEN_WIDTH
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.encoders import EncoderSpec, ObjectsInput
from tailwire.runtime.errors import TailwireError
from tailwire.runtime.files import cache_dir
from tailwire.runtime.model_registry import ModelRegistry
from tailwire.simulation.sketch_drive import make_sketch_drive

from ..built_models import TinyModels
from ..packs import write_small_pack

OBJECTS = EncoderSpec(
    modality="objects",
    kind="objects",
    input=ObjectsInput(),
    tokens=6,
    width=TOKEN_WIDTH,
    licence="none",
    source="any detector",
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What the last line says."""
        return json.loads(self.out.splitlines()[-1])

    def error(self) -> str:
        """The one line about wrong input, after the checks that all of them must pass."""
        assert self.code == 2
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert " Remedy: " in lines[0]
        return lines[0]


class Run(Protocol):
    """Runs a command in this process."""

    def __call__(self, *words: str | Path) -> Outcome: ...


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process and catches what it prints."""

    def call(*words: str | Path) -> Outcome:
        capsys.readouterr()
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for engines of the tests; models are those of the user, fetched once."""
    try:
        ModelRegistry().get("efficientnet-lite0")
    except TailwireError as error:
        pytest.skip(f"the camera encoder of the starter pack cannot be had: {error}")
    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").symlink_to(cache_dir() / "models", target_is_directory=True)
    return folder


@pytest.fixture(scope="session")
def model(tiny: TinyModels) -> Path:
    """The folder of a tiny Llama; its answers are noise, as any test may know."""
    return tiny.folder("llama")


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two keyframes of a sketch drive; tests must not change it."""
    return make_sketch_drive(tmp_path_factory.mktemp("drives") / "sketch", seconds=1.0)


@pytest.fixture(scope="session")
def real_keyframe() -> Path:
    """The real nuScenes keyframe, where it is at hand."""
    shared = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("TAILWIRE_DATA", shared)) / "nuscenes_keyframe"
    if not root.is_dir():
        pytest.skip(f"no real keyframe at {root}; set TAILWIRE_DATA to the folder that holds it")
    return root


@pytest.fixture
def own_drive(drive: Path, tmp_path: Path) -> Path:
    """A copy of the drive that a test may break."""
    return Path(shutil.copytree(drive, tmp_path / "drive"))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, an empty cache, no network, nothing of the user's settings."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in [name for name in os.environ if name.startswith("TAILWIRE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")


@pytest.fixture
def runtime_options(cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that make a command run on the tiny model, with the engines of the tests' cache."""
    monkeypatch.setenv("TAILWIRE_CACHE", str(cache))
    return ["--model", str(model), "--precision", "fp32"]


@pytest.fixture
def objects_pack(tiny: TinyModels, tmp_path: Path) -> Path:
    """A pack that knows nothing but objects, for the tiny Llama."""
    folder = tmp_path / "pack"
    folder.mkdir()
    config = tiny.model("llama").config
    spec = ConnectionSpec(kind="plain", tail_blocks=3, hidden=8, width=8, layers=1, heads=2)
    encoders, sensors = {"objects": OBJECTS}, {"objects": "objects"}
    return write_small_pack(folder, config, spec, encoders, sensors, name="objects-only")


def camera_file(drive: Path, channel: str) -> Path:
    """The image of a camera at the first keyframe."""
    return min((drive / "samples" / channel).iterdir())
