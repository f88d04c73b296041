"""Builds TensorRT engines from portable graphs, for the sizes that were exported with them.

Strongly typed: the graph says which product runs in which type. What took time is kept in a timing
cache. The functions take the module `tensorrt` as an argument, so that everything but the calls
that need a device is tested without one.

This file has not run on a GPU yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import EngineError
from .tensorrt_context import does_not_start

#: Changes with what `build_plan` makes of a graph; part of an engine's key.
RECIPE = "trt-1"

#: Memory for trying out kernels: first as much, then half of it, as often as it takes.
WORKSPACE_BYTES = 1 << 30
_LEAST_WORKSPACE_BYTES = 32 << 20

Progress = Callable[[str], None]


class ProfiledInput(Protocol):
    """An input with the shapes that an engine is built for; see `export/portable/manifest.py`."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | str]: ...
    @property
    def least(self) -> Sequence[int]: ...
    @property
    def usual(self) -> Sequence[int]: ...
    @property
    def most(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class BuiltPlan:
    """A plan, and what it was built with.

    Attributes:
        workspace_bytes: that kernels were tried out with.
        attempts: builds that it took.
    """

    workspace_bytes: int
    attempts: int


def build_plan(
    trt: Any,
    logger: Any,
    graph: Path,
    inputs: Sequence[ProfiledInput],
    plan: Path,
    timing_cache: Path | None = None,
    *,
    workspace_bytes: int = WORKSPACE_BYTES,
    progress: Progress | None = None,
) -> BuiltPlan:
    """Build one engine and write its plan.

    Args:
        trt: the module `tensorrt`.
        logger: of it.
        graph: portable, with its constants beside it.
        inputs: of the graph, with the sizes of the profile.
        plan: the file to write.
        timing_cache: read if it is there, written anew behind the build.
        workspace_bytes: for trying out kernels.
        progress: told what is being tried again.

    Raises:
        EngineError: TensorRT does not start or refuses the graph, or memory is used up at every
            size.
    """
    tell = progress or (lambda _: None)
    attempts = 0
    while True:
        attempts += 1
        builder, config, network = _prepared(trt, logger, graph, inputs, timing_cache)
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
        built = builder.build_serialized_network(network, config)
        if built is not None:
            break
        if workspace_bytes <= _LEAST_WORKSPACE_BYTES:
            raise EngineError(
                f"TensorRT {trt.__version__} builds no engine of this graph, not even with "
                f"{workspace_bytes >> 20} MiB of workspace; its log says why",
                field=str(graph),
                remedy="free memory on the device (go headless, stop other processes), export "
                "smaller sizes, or use the back end onnxruntime-cpu",
            )
        workspace_bytes //= 2
        tell(f"trying {graph.name} again with {workspace_bytes >> 20} MiB of workspace")
    plan.write_bytes(bytes(built))
    if timing_cache is not None:
        _write_cache(timing_cache, bytes(config.get_timing_cache().serialize()))
    return BuiltPlan(workspace_bytes, attempts)


def _prepared(
    trt: Any,
    logger: Any,
    graph: Path,
    inputs: Sequence[ProfiledInput],
    timing_cache: Path | None,
) -> tuple[Any, Any, Any]:
    """Builder, configuration and parsed network."""
    try:
        builder = trt.Builder(logger)
    except TypeError as error:
        raise does_not_start(trt, error) from error
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise EngineError(
            f"the parser of TensorRT {trt.__version__} refuses the graph: "
            + ("; ".join(errors) or "it does not say why"),
            field=str(graph),
            remedy="export it again with this version of Tailwire; if refused again, report it",
        )
    _check_inputs(network, inputs, graph)
    config = builder.create_builder_config()
    if any(isinstance(size, str) for one in inputs for size in one.shape):
        profile = builder.create_optimization_profile()
        for one in inputs:
            profile.set_shape(one.name, tuple(one.least), tuple(one.usual), tuple(one.most))
        config.add_optimization_profile(profile)
    held = b"" if timing_cache is None or not timing_cache.is_file() else timing_cache.read_bytes()
    cache = config.create_timing_cache(held)
    if cache is None or not config.set_timing_cache(cache, False):
        # Of another version or device: it only costs time to go without.
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return builder, config, network


def _check_inputs(network: Any, inputs: Sequence[ProfiledInput], graph: Path) -> None:
    found = {network.get_input(i).name for i in range(network.num_inputs)}
    wanted = {one.name for one in inputs}
    if found != wanted:
        raise EngineError(
            f"the graph has the inputs {sorted(found ^ wanted)} that its manifest has not, or the "
            "other way round",
            field=str(graph),
            remedy="export it again",
        )


def _write_cache(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
