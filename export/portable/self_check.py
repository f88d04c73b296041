"""Known answers of exported graphs, so that an engine that computes something else is found.

While a pack is exported, every graph runs once in ONNX Runtime on numbers that a seed makes; what
comes out lies beside it. Whoever loads engines of the graphs runs them on the same numbers. It is
the short form of `tailwire parity`: one small run of each graph, no drive, no other back end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ...runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from ...runtime.engine import Engine
from ...runtime.errors import EngineError
from .manifest import ExportedGraph

#: Differences that rounding may bring, as a share of the spread of the numbers, by precision.
_TOLERANCES = {"fp32": 0.02, "fp16": 0.1, "int8": 0.3, "int4": 0.5}

#: Share of the numbers that must be within them.
_LEAST = 0.95
#: The same of 8-bit encoders, on noise: of nearly equal peaks a detector may take others, all of
#: whose numbers differ then. So this finds a broken encoder, not an inexact one.
_LEAST_OF_PEAKS = 0.4


def known_file(graph: ExportedGraph) -> str:
    """Where the known outputs of a graph lie."""
    return str(Path(graph.file).with_suffix(".known.safetensors"))


def check_inputs(graph: ExportedGraph) -> dict[str, NDArray[np.generic]]:
    """The numbers that a graph is checked with, at the smallest sizes of its profile."""
    rng = np.random.default_rng(7)
    given: dict[str, NDArray[np.generic]] = {}
    for tensor in graph.inputs:
        if tensor.dtype == "int64":
            given[tensor.name] = np.zeros(tensor.least, np.int64)
        elif tensor.name == "bias" or tensor.name.startswith("bias_"):
            given[tensor.name] = np.zeros(tensor.least, np.float32)
        else:
            given[tensor.name] = rng.normal(0, 0.5, tensor.least).astype(tensor.dtype)
    return given


def write_known(folder: Path, graphs: Sequence[ExportedGraph], *, threads: int) -> None:
    """Run every graph once and keep what comes out."""
    for graph in graphs:
        engine = OnnxRuntimeEngine(folder / graph.file, threads=threads, as_written=True)
        outputs = engine.run(check_inputs(graph))
        engine.close()
        arrays = {name: np.ascontiguousarray(array) for name, array in outputs.items()}
        save_file(arrays, folder / known_file(graph))


def check_engine(folder: Path, graph: ExportedGraph, engine: Engine) -> None:
    """Run an engine on the numbers of its graph.

    Args:
        folder: of the export.
        graph: whose engine it is.
        engine: any back end's.

    Raises:
        EngineError: the engine gives other numbers, or the known ones cannot be read.
    """
    try:
        known = load_file(folder / known_file(graph))
    except (OSError, SafetensorError) as error:
        raise EngineError(
            f"what the graph should give cannot be read: {error}",
            field=str(folder / known_file(graph)),
            remedy="export the pack again",
        ) from error
    got = engine.run(check_inputs(graph))
    weights = graph.precision.split("-")[0]
    chooses = graph.role.startswith("encoder") and weights == "int8"
    bad = _differences(known, got, _TOLERANCES[weights], _LEAST_OF_PEAKS if chooses else _LEAST)
    if bad:
        raise EngineError(
            f"the engine of '{graph.role}' gives other numbers than its graph: {bad}",
            field=graph.file,
            remedy="compare with `tailwire parity`; remove the built engine, use another precision "
            "or another back end",
        )


def _differences(
    known: Mapping[str, NDArray[np.generic]],
    got: Mapping[str, NDArray[np.generic]],
    share: float,
    least: float,
) -> str:
    """What is wrong, or nothing."""
    for name, wanted in known.items():
        found = got.get(name)
        if found is None or found.shape != wanted.shape:
            shape = "missing" if found is None else str(list(found.shape))
            return f"{name} is {shape}, not {list(wanted.shape)}"
        a, b = found.astype(np.float64), wanted.astype(np.float64)
        if not np.isfinite(a).all():
            return f"{name} is not finite"
        difference = np.abs(a - b)
        if wanted.size and (difference <= share * max(b.std(), 1e-3)).mean() < least:
            return f"{name} is off by {difference.max():.3g}, at a spread of {b.std():.3g}"
    return ""
