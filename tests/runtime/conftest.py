"""Small runtimes and float32 references of tiny language models, and disks of one's own to fill."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tailwire.runtime.connections import ConnectionSpec

from ..fakes import QUESTIONS, FakeRuntime, MakeRuntime, connection_spec, fake_runtime
from ..rounded_models import References

if TYPE_CHECKING:
    from ..built_models import TinyModels


@pytest.fixture
def make(tiny: TinyModels, tmp_path: Path) -> Iterator[MakeRuntime]:
    """Makes runtimes around one shared language model, with three standing questions."""
    made: list[FakeRuntime] = []

    def build(spec: ConnectionSpec | str = "plain", *, watch: bool = True, **options: Any) -> Any:
        spec = connection_spec(spec) if isinstance(spec, str) else spec
        made.append(fake_runtime(tiny.model("llama"), tmp_path, spec, **options))
        for text, answers in QUESTIONS if watch else ():
            made[-1].runtime.watch(text, answers)
        return made[-1]

    yield build
    for fake in made:
        fake.perception.close()


@pytest.fixture
def private_mount() -> list[str]:
    """The beginning of a command that may mount without anybody else seeing it."""
    command = ["unshare", "--map-root-user", "--mount"]
    try:
        probe = subprocess.run(
            [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("needs unshare (util-linux)")
    if probe.returncode:
        pytest.skip("this kernel lets no user mount a tmpfs in a namespace of their own")
    return command


@pytest.fixture(scope="module")
def references(tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[References]:
    """Float32 engines of weights that are rounded as the C code reads them."""
    made = References(tiny, tmp_path_factory.mktemp("rounded"))
    yield made
    made.close()
