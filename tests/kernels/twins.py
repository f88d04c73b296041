"""The compiled twins of the array kernels, for tests."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tailwire.kernels import plan_library
from tailwire.kernels.array_library import SOURCES, ArrayLibrary, load_arrays
from tailwire.kernels.plan_library import PlanLibrary, load_plans

C_COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
CPP_COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


@cache
def compiled(language: str) -> ArrayLibrary:
    """The twins as C, with the flags that the runtime uses, or as C++, as nvcc reads the bodies."""
    if (C_COMPILER if language == "c" else CPP_COMPILER) is None:
        pytest.skip(f"there is no compiler of {language}")
    folder = Path(mkdtemp(prefix="tailwire-twins-"))
    if language == "c":
        library, reason = load_arrays(folder, "tests")
        assert library is not None, reason
        return library
    return ArrayLibrary(_as_cpp(SOURCES[0], folder))


@cache
def compiled_plans(language: str) -> PlanLibrary:
    """As `compiled`, of the kernels of decisions; as C++ for processors without wide vectors."""
    if (C_COMPILER if language == "c" else CPP_COMPILER) is None:
        pytest.skip(f"there is no compiler of {language}")
    folder = Path(mkdtemp(prefix="tailwire-twins-"))
    if language == "c":
        library, reason = load_plans(folder, "tests")
        assert library is not None, reason
        return library
    return PlanLibrary(_as_cpp(plan_library.SOURCES[0], folder))


def _as_cpp(source: Path, folder: Path) -> ctypes.CDLL:
    target = folder / f"{source.stem}.so"
    flags = ["-std=c++11", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Werror"]
    command = [str(CPP_COMPILER), *flags, "-x", "c++", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(target))


both = pytest.mark.parametrize("language", ["c", "c++"])
