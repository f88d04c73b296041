"""The contract between the runtime and whatever executes a graph.

An engine is a compiled graph with named inputs and outputs. It knows no tokens, sensors or
questions. Back ends (`runtime/backends/`) implement the contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

#: Any dtype: which one is in the engine's specs, checked when it runs.
Array = NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype of one input or output; a dimension of -1 is free."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@runtime_checkable
class Engine(Protocol):
    """A compiled graph that can be run many times from one thread at a time."""

    @property
    def input_specs(self) -> Sequence[TensorSpec]: ...

    @property
    def output_specs(self) -> Sequence[TensorSpec]: ...

    @property
    def device(self) -> str:
        """`cpu`, `cuda:0`, ..."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once.

        Args:
            inputs: one contiguous array per input spec.

        Returns:
            One array per output spec, owned by the caller.

        Raises:
            EngineError: an input is missing, unknown, or of the wrong shape or dtype.
        """
        ...

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        """Prepare runs on fixed buffers, without allocating or copying.

        Args:
            buffers: a contiguous array for every input and output, which the caller keeps alive.
                An input and an output may share one array where the graph appends in place.
        """
        ...

    def close(self) -> None:
        """Free the engine's memory. A closed engine raises EngineError when run."""
        ...


class BoundRun(Protocol):
    """An engine with its buffers in place."""

    def rebind(self, name: str, buffer: Array) -> None:
        """Exchange one buffer, e.g. for another shape."""
        ...

    def run(self) -> None:
        """Run the graph from and into the buffers.

        Raises:
            EngineError: the engine failed.
        """
        ...


class EngineLoader(Protocol):
    """Turns a built graph on disk into an engine."""

    def __call__(self, path: Path, *, threads: int) -> Engine: ...
