"""CUDA graphs by the driver's own functions: PyCUDA (2026.1) has none.

What is queued on a stream while it is captured becomes a graph, which is launched as one. This file
has not run on a GPU yet; tests call it with a library that stands in for the driver, and compare
the functions with the driver's header where that is.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from ...kernels import native
from ...kernels.native import ADDRESS

_LIBRARY = "libcuda.so.1"

#: Only what this thread does to other streams is forbidden meanwhile.
_THREAD_LOCAL = 1

_RESULT, _OUT, _FLAGS = ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint64

FUNCTIONS: native.Signatures = {
    "cuStreamBeginCapture_v2": ([ADDRESS, ctypes.c_int], _RESULT),
    "cuStreamEndCapture": ([ADDRESS, _OUT], _RESULT),
    "cuGraphInstantiateWithFlags": ([_OUT, ADDRESS, _FLAGS], _RESULT),
    "cuGraphLaunch": ([ADDRESS, ADDRESS], _RESULT),
    "cuGraphExecDestroy": ([ADDRESS], _RESULT),
    "cuGraphDestroy": ([ADDRESS], _RESULT),
}


class Replayed(Protocol):
    """What was queued once and can be launched again."""

    def launch(self) -> bool:
        """Queue it on the stream that it was captured from; whether that worked."""
        ...


class Capturing(Protocol):
    """Makes graphs of what is queued on one stream."""

    def captured(self, queue: Callable[[], bool]) -> Replayed | None:
        """The graph of what `queue` queues, without running it.

        Args:
            queue: says whether it queued all that it should.

        Returns:
            None where there is no such graph.
        """
        ...


class CudaGraphs:
    """Captures from one stream; to be used in the thread of its context."""

    def __init__(self, library: ctypes.CDLL, stream: int) -> None:
        """Take the driver's functions.

        Args:
            library: the driver.
            stream: its handle.

        Raises:
            AttributeError: the driver lacks a function.
        """
        native.declare(library, FUNCTIONS)
        self._library, self._stream = library, stream

    def captured(self, queue: Callable[[], bool]) -> Replayed | None:
        """See `Capturing.captured`."""
        cuda, graph, queued = self._library, ctypes.c_void_p(), False
        if cuda.cuStreamBeginCapture_v2(self._stream, _THREAD_LOCAL):
            return None
        try:
            queued = queue()
        finally:
            # Always, or the stream would stay as it is.
            failed = cuda.cuStreamEndCapture(self._stream, ctypes.byref(graph))
        if failed or not graph:
            return None
        executable = ctypes.c_void_p()
        # A graph of less than all would be replayed without a word.
        if queued:
            failed = cuda.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0)
        cuda.cuGraphDestroy(graph)
        return None if failed or not executable else _Graph(cuda, executable, self._stream)


class _Graph:
    """An executable graph, which the driver frees when nobody holds it any more."""

    def __init__(self, library: ctypes.CDLL, executable: ctypes.c_void_p, stream: int) -> None:
        self._launch, self._executable, self._stream = library.cuGraphLaunch, executable, stream
        weakref.finalize(self, library.cuGraphExecDestroy, executable)

    def launch(self) -> bool:
        """See `Replayed.launch`."""
        return not self._launch(self._executable, self._stream)


def open_graphs(stream: Any) -> CudaGraphs | None:
    """Graphs of a stream of PyCUDA, None where the driver has none of them."""
    try:
        return CudaGraphs(ctypes.CDLL(_LIBRARY), int(stream.handle))
    except (OSError, AttributeError):
        return None
