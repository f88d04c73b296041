"""What the code calls of TensorRT, against NVIDIA's own Python bindings of both JetPacks' versions.

The bindings come from PyPI, without TensorRT itself: empty libraries stand below them, so they
load, say what there is, and give what a machine without a device gives. That classes, functions,
their arguments and enumerations are there is shown for the stand-ins that other tests run the code
with; what TensorRT makes of a call is not.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from . import fake_tensorrt

BACKENDS = Path(__file__).parents[1] / "runtime" / "backends"
SOURCES = [BACKENDS / f"tensorrt_{name}.py" for name in ("build", "context", "engine")]

#: JetPack 6.2 and 7.2.
PACKAGES = {
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.16": "tensorrt-cu13-bindings==10.16.0.72",
}
STAND_INS = {
    "FakeBuilder": "Builder",
    "FakeNetwork": "INetworkDefinition",
    "FakeParser": "OnnxParser",
    "FakeProfile": "IOptimizationProfile",
    "FakeCache": "ITimingCache",
    "FakeConfig": "IBuilderConfig",
    "FakeRuntime": "Runtime",
    "FakeEngine": "ICudaEngine",
    "FakeExecution": "IExecutionContext",
}
#: Attributes of instances that the stand-ins have for themselves, or set when they are made.
OWN = {"FakeEngine": {"num_io_tensors"}}

_NOTHING = """
#include <stddef.h>
#define NONE(name) void *name(void) { return NULL; }
NONE(createInferBuilder_INTERNAL) NONE(createInferRefitter_INTERNAL)
NONE(createInferRuntime_INTERNAL) NONE(createNvOnnxParserRefitter_INTERNAL)
NONE(createNvOnnxParser_INTERNAL) NONE(getBuilderPluginRegistry) NONE(getPluginRegistry)
NONE(initLibNvInferPlugins) NONE(getNvOnnxParserVersion)
"""

_LOOK = """
import json, sys
import tensorrt_bindings as trt
found = {}
for name in dir(trt):
    one = getattr(trt, name)
    if isinstance(one, type):
        found[name] = {part: getattr(one, part).__doc__ or "" for part in dir(one)}
print(json.dumps({"version": trt.__version__, "classes": found, "names": dir(trt)}))
"""

_START = """
import tensorrt_bindings as trt
from pathlib import Path
from tailwire.runtime.backends.tensorrt_build import build_plan
from tailwire.runtime.backends.tensorrt_context import TensorRtContext
from tailwire.runtime.errors import EngineError
from tests.fake_tensorrt import FakeDriver
for start in (
    lambda: TensorRtContext(trt, FakeDriver()),
    lambda: build_plan(trt, trt.Logger(trt.Logger.WARNING), Path("a.onnx"), [], Path("a.plan")),
):
    try:
        start()
    except EngineError as error:
        print(error)
"""


class Bindings:
    """One version, asked in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        looked = json.loads(self.run(_LOOK))
        self.version: str = looked["version"]
        self.names: list[str] = looked["names"]
        self.classes: dict[str, dict[str, str]] = looked["classes"]

    def run(self, script: str) -> str:
        root = str(Path(__file__).parents[1])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self._folder / "wheel"), root]),
            "LD_LIBRARY_PATH": str(self._folder),
        }
        words = [sys.executable, "-c", script]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=PACKAGES)
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bindings:
    folder, compiler = tmp_path_factory.mktemp("bindings"), shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no compiler of C")
    words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--retries", "0"]
    words += ["--timeout", "20", "--dest", str(folder), PACKAGES[request.param]]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{PACKAGES[request.param]} is not to be had for this machine from here")
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "wheel")
    source = folder / "nothing.c"
    source.write_text(_NOTHING)
    for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
        library = f"lib{name}.so.10"
        built = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{library}", str(source)]
        subprocess.run([*built, "-o", str(folder / library)], check=True)
    found = Bindings(folder)
    assert found.version.startswith(f"{request.param}.")
    return found


def used(name: str) -> bool:
    """Whether the code reads an attribute of this name."""
    return any(re.search(rf"\.{name}\b", source.read_text()) for source in SOURCES)


def counts_of(documented: str, name: str) -> set[int]:
    """How many arguments behind `self` a function takes, by what its bindings say."""
    found: set[int] = set()
    for arguments in re.findall(rf"(?m)^(?:\d+\. )?{name}\((self.*)\) -> ", documented):
        depth, parts = 0, [""]
        for letter in arguments:
            depth += (letter in "[(<{") - (letter in "])>}")
            if letter == "," and not depth:
                parts.append("")
            else:
                parts[-1] += letter
        needed = sum(" = " not in part for part in parts) - 1
        found |= set(range(needed, len(parts)))
    return found


@pytest.mark.parametrize("stand_in", STAND_INS)
def test_stand_ins_have_nothing_that_tensorrt_has_not(bindings: Bindings, stand_in: str) -> None:
    real = bindings.classes[STAND_INS[stand_in]]
    cls: Any = getattr(fake_tensorrt, stand_in)
    shared = {name for name in vars(cls) if not name.startswith("_") and used(name)}
    shared |= OWN.get(stand_in, set())
    assert shared
    for name in shared:
        assert name in real, f"{STAND_INS[stand_in]}.{name}"
        member = inspect.getattr_static(cls, name, None)
        if inspect.isfunction(member):
            wanted = len(inspect.signature(member).parameters) - 1
            assert wanted in counts_of(real[name], name), real[name]


def test_enumerations_and_functions_are_there(bindings: Bindings) -> None:
    for cls, name in (
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("MemoryPoolType", "WORKSPACE"),
        ("ExecutionContextAllocationStrategy", "USER_MANAGED"),
        ("TensorIOMode", "INPUT"),
        ("Logger", "WARNING"),
    ):
        assert used(cls) and used(name) and name in bindings.classes[cls]
    assert used("nptype") and "nptype" in bindings.names
    # Nothing of the module itself is used beside these.
    of_module = {
        name for source in SOURCES for name in re.findall(r"\btrt\.(\w+)", source.read_text())
    }
    assert of_module <= set(bindings.names), of_module - set(bindings.names)


def test_a_tensorrt_that_does_not_start_is_a_clear_error(bindings: Bindings) -> None:
    said = bindings.run(_START).splitlines()
    assert len(said) == 2
    for line in said:
        assert f"TensorRT {bindings.version} does not start" in line and "JetPack" in line
