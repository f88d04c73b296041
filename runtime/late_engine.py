"""An engine that is loaded when it is first used, for graphs that are hardly ever run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from .engine import Array, BoundRun, Engine, TensorSpec
from .errors import EngineError


class LateEngine:
    """An `Engine` behind its loader; it takes no memory before it is asked for anything."""

    def __init__(self, loader: Callable[[], Engine], name: str) -> None:
        """Load nothing yet.

        Args:
            loader: loads it from its file.
            name: for messages.
        """
        self._loader, self._name = loader, name
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._closed = False

    @property
    def is_loaded(self) -> bool:
        return self._engine is not None

    @property
    def input_specs(self) -> Sequence[TensorSpec]:
        return self._loaded().input_specs

    @property
    def output_specs(self) -> Sequence[TensorSpec]:
        return self._loaded().output_specs

    @property
    def device(self) -> str:
        return self._loaded().device

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `Engine.run`."""
        return self._loaded().run(inputs)

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        """See `Engine.bind`."""
        return self._loaded().bind(buffers)

    def close(self) -> None:
        """Free it for good."""
        with self._lock:
            self._closed = True
            if self._engine is not None:
                self._engine.close()

    def _loaded(self) -> Engine:
        with self._lock:
            if self._engine is None:
                if self._closed:
                    raise EngineError(
                        "the engine is closed", field=self._name, remedy="load it again"
                    )
                self._engine = self._loader()
            return self._engine
