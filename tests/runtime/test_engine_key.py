"""What must and must not make another engine: the names of keys and the identity of machines."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tailwire.runtime.engine_key import EngineKey, machine_identity

KEY = EngineKey("ab" * 32, "Tail 10/v3", "int8", "onnxruntime 1.32.0", "x86_64, some CPU")


class TestFolderName:
    def test_readable_and_stable(self) -> None:
        assert KEY.folder_name == "tail-10-v3-int8-12697d1d9f29a7fb"
        assert replace(KEY, recipe="../../é", precision="").folder_name.startswith("engine-")


class TestMachineIdentity:
    @pytest.fixture
    def describe(self, tmp_path: Path) -> Callable[[str], str]:
        def write(text: str) -> str:
            (tmp_path / "cpuinfo").write_text(textwrap.dedent(text))
            return machine_identity(cpuinfo=tmp_path / "cpuinfo")

        return write

    def test_array_features_and_model_count(self, describe: Callable[[str], str]) -> None:
        base = describe("model name\t: AMD EPYC\nflags\t\t: fpu avx2 fma\n")
        assert "AMD EPYC" in base
        assert base != describe("model name\t: AMD EPYC\nflags\t\t: fpu avx2 fma avx512f\n")
        assert base != describe("model name\t: AMD Ryzen\nflags\t\t: fpu avx2 fma\n")
        assert base == describe("model name\t: AMD EPYC\nflags\t\t: fma avx2 fpu ibrs smep\n")

    def test_arm(self, describe: Callable[[str], str]) -> None:
        base = describe("Features : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd42\n")
        assert "0xd42" in base
        assert base != describe(
            "Features : fp asimd asimddp\nCPU implementer : 0x41\nCPU part : 0xd42\n"
        )

    def test_this_machine(self) -> None:
        assert machine_identity() == machine_identity()
        assert machine_identity("Orin sm_87") == f"{machine_identity()}, Orin sm_87"
        assert machine_identity(cpuinfo=Path("/nowhere"))
