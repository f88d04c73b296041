"""Engines of TensorRT for exported graphs: built on the device that runs them, and kept.

An engine is found by the content of its graph, the sizes of its profile, the version of TensorRT
and the device; anything else is another engine. Builds are complete or absent, see
`runtime/engine_store.py`.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path

from .engine_assembly import Progress
from .export.portable.manifest import ExportedGraph, ExportManifest, read_export
from .runtime.backends.portable import PortableEngine
from .runtime.backends.tensorrt_build import RECIPE, build_plan
from .runtime.backends.tensorrt_context import TensorRtContext, open_context
from .runtime.backends.tensorrt_engine import TensorRtEngine
from .runtime.engine import Engine
from .runtime.engine_key import EngineKey, machine_identity
from .runtime.engine_store import EngineStore
from .runtime.errors import EngineError
from .runtime.files import cache_dir

_PLAN = "engine.plan"


class TensorRtLoader:
    """An `EngineLoader` for the graphs of one export."""

    def __init__(
        self,
        export: Path,
        progress: Progress | None = None,
        *,
        context: TensorRtContext | None = None,
        store: EngineStore | None = None,
    ) -> None:
        """Read the manifest; nothing of TensorRT is opened before the first engine.

        Args:
            export: folder that `tailwire export` wrote.
            progress: told what is being built.
            context: of the process, None to open one.
            store: of built engines, None for that of the cache.
        """
        self._folder = export
        self.manifest: ExportManifest = read_export(export)
        self._progress = progress or (lambda _: None)
        self._given_context = context
        self._store = store or EngineStore(cache_dir() / "engines")

    @cached_property
    def context(self) -> TensorRtContext:
        """Shared by all engines of this loader."""
        return self._given_context or open_context()

    def __call__(self, path: Path, *, threads: int) -> Engine:
        """The engine of a graph, built now if it is not there; `threads` says nothing here.

        Raises:
            EngineError: it cannot be built or loaded.
            CacheError: the cache cannot be written.
        """
        folder = self.build(self.graph_of(path))
        plan = folder / _PLAN
        try:
            return PortableEngine(TensorRtEngine(plan, self.context), empty_rows=False)
        except EngineError:
            # A plan that has been damaged is built once more; a whole one has another fault.
            if self._store.verify(folder):
                raise
            self._progress(f"the engine of {path.name} is damaged, building it again")
            plan = self.build(self.graph_of(path)) / _PLAN
            return PortableEngine(TensorRtEngine(plan, self.context), empty_rows=False)

    def graph_of(self, path: Path) -> ExportedGraph:
        """The manifest's entry of a graph.

        Raises:
            EngineError: it has none.
        """
        for graph in self.manifest.graphs:
            if self._folder / graph.file == path:
                return graph
        raise EngineError(
            "the graph is not in the export's manifest", field=str(path), remedy="export again"
        )

    def key(self, graph: ExportedGraph) -> EngineKey:
        """What the engine of a graph is found by."""
        files = {
            name: record.sha256
            for name, record in self.manifest.files.items()
            if Path(name).with_suffix("") == Path(graph.file).with_suffix("")
        }
        shapes = [tensor.model_dump() for tensor in graph.inputs]
        context = self.context
        return EngineKey(
            source_sha256=_digest(files),
            recipe=f"{graph.role} {RECIPE} profile {_digest(shapes)[:16]}",
            precision=graph.precision,
            library=f"tensorrt {context.trt.__version__}",
            machine=machine_identity(f"{context.name} {context.architecture}"),
        )

    def is_built(self, graph: ExportedGraph) -> bool:
        """Whether the engine of a graph is there, for this TensorRT and device."""
        key = self.key(graph)
        return any(engine.manifest.key == key for engine in self._store.entries())

    def build(self, graph: ExportedGraph) -> Path:
        """The folder of the engine of a graph, built now if it is not there."""
        context = self.context
        timings = self._store.root / "timings"
        name = f"tensorrt-{context.trt.__version__}-{context.architecture}.cache"

        def build(folder: Path) -> None:
            build_plan(
                context.trt,
                context.logger,
                self._folder / graph.file,
                graph.inputs,
                folder / _PLAN,
                timings / name,
                progress=self._progress,
            )

        return self._store.get(self.key(graph), build, progress=self._progress)

    def build_all(self) -> list[Path]:
        """Build what is missing of all graphs; nothing is loaded."""
        return [self.build(graph) for graph in self.manifest.graphs]


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
