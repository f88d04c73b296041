"""CUDA graphs by functions of the driver, with a library that writes down how it is called."""

from __future__ import annotations

import ctypes
import gc
import shutil
import subprocess
from pathlib import Path

import pytest

from tailwire.kernels.cuda import find_nvcc
from tailwire.runtime.backends.cuda_graphs import FUNCTIONS, CudaGraphs, open_graphs

STREAM = 0x1234_5678_9ABC

DRIVER = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
char said[4096];
int fails;  /* Number of the call that fails. */
static int called;
static int say(const char *name, uint64_t first, uint64_t second) {
  sprintf(said + strlen(said), "%s %llx %llx\\n", name, (unsigned long long)first,
          (unsigned long long)second);
  return ++called == fails ? 901 : 0;
}
void begin(int number) { said[0] = 0; called = 0; fails = number; }
int cuStreamBeginCapture_v2(void *stream, int mode) {
  return say("begin", (uintptr_t)stream, (uint64_t)mode);
}
int cuStreamEndCapture(void *stream, void **graph) {
  int failed = say("end", (uintptr_t)stream, 0);
  *graph = failed ? 0 : (void *)0xA0000000A;
  return failed;
}
int cuGraphInstantiateWithFlags(void **executable, void *graph, uint64_t flags) {
  *executable = (void *)0xB0000000B;
  return say("make", (uintptr_t)graph, flags);
}
int cuGraphLaunch(void *executable, void *stream) {
  return say("launch", (uintptr_t)executable, (uintptr_t)stream);
}
int cuGraphExecDestroy(void *executable) { return say("free", (uintptr_t)executable, 0); }
int cuGraphDestroy(void *graph) { return say("drop", (uintptr_t)graph, 0); }
"""

HEADER = """
#include <cuda.h>
#define SAME(function, ...) CUresult (*of_##function)(__VA_ARGS__) = function;
SAME(cuStreamBeginCapture_v2, CUstream, CUstreamCaptureMode)
SAME(cuStreamEndCapture, CUstream, CUgraph *)
SAME(cuGraphInstantiateWithFlags, CUgraphExec *, CUgraph, unsigned long long)
SAME(cuGraphLaunch, CUgraphExec, CUstream)
SAME(cuGraphExecDestroy, CUgraphExec)
SAME(cuGraphDestroy, CUgraph)
_Static_assert(sizeof(CUstreamCaptureMode) == sizeof(int), "mode");
_Static_assert(sizeof(CUresult) == sizeof(int), "result");
_Static_assert(sizeof(CUgraph) == sizeof(void *), "handle");
_Static_assert(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL == 1, "thread local");
_Static_assert(CUDA_SUCCESS == 0, "success");
"""

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler of C")


class Driver:
    """The stand-in, and what was said to it."""

    def __init__(self, folder: Path) -> None:
        source, library = folder / "driver.c", folder / "libdriver.so"
        source.write_text(DRIVER)
        subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
        self.library = ctypes.CDLL(str(library))

    def graphs(self, fails: int = 0) -> CudaGraphs:
        self.library.begin(fails)
        return CudaGraphs(self.library, STREAM)

    def said(self) -> list[str]:
        gc.collect()
        content = (ctypes.c_char * 4096).in_dll(self.library, "said").value
        return content.decode().splitlines()


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


@needs_cc
def test_what_is_queued_becomes_a_graph_that_is_freed_in_the_end(driver: Driver) -> None:
    graphs = driver.graphs()
    queued: list[list[str]] = []

    def queue() -> bool:
        queued.append(driver.said())
        return True

    graph = graphs.captured(queue)
    assert graph is not None
    assert graph.launch() and graph.launch()
    begun = f"begin {STREAM:x} 1"
    assert queued == [[begun]]
    launched = f"launch b0000000b {STREAM:x}"
    made = [begun, f"end {STREAM:x} 0", "make a0000000a 0", "drop a0000000a 0"]
    assert driver.said() == [*made, launched, launched]
    del graph
    assert driver.said() == [*made, launched, launched, "free b0000000b 0"]


@needs_cc
@pytest.mark.parametrize("fails", [1, 2, 3])
def test_where_the_driver_refuses_there_is_no_graph(driver: Driver, fails: int) -> None:
    assert driver.graphs(fails).captured(lambda: True) is None
    names = [line.split()[0] for line in driver.said()]
    assert names == {1: ["begin"], 2: ["begin", "end"], 3: ["begin", "end", "make", "drop"]}[fails]


@needs_cc
def test_less_than_all_is_never_replayed(driver: Driver) -> None:
    assert driver.graphs().captured(lambda: False) is None
    assert [line.split()[0] for line in driver.said()] == ["begin", "end", "drop"]

    def broken() -> bool:
        raise ValueError

    graphs = driver.graphs()
    with pytest.raises(ValueError):
        graphs.captured(broken)
    # The stream captures no more.
    assert [line.split()[0] for line in driver.said()] == ["begin", "end"]


@needs_cc
def test_a_launch_that_fails_says_so(driver: Driver) -> None:
    graph = driver.graphs(fails=5).captured(lambda: True)
    assert graph is not None and not graph.launch()


def header() -> Path | None:
    nvcc = find_nvcc()
    places = [] if nvcc is None else [nvcc.resolve().parent.parent]
    places += sorted(Path("/usr/local").glob("cuda*"), reverse=True)
    return next(
        (place / "include" for place in places if (place / "include/cuda.h").is_file()), None
    )


@needs_cc
@pytest.mark.skipif(header() is None, reason="there is no cuda.h")
def test_functions_are_those_of_the_drivers_header(tmp_path: Path) -> None:
    source = tmp_path / "header.c"
    source.write_text(HEADER)
    words = ["cc", "-fsyntax-only", "-Werror", f"-I{header()}", str(source)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"SAME({name}," in HEADER for name in FUNCTIONS)


def test_without_a_driver_there_are_none() -> None:
    class Stream:
        handle = STREAM

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        assert open_graphs(Stream()) is None
    else:
        pytest.skip("there is a driver here")
