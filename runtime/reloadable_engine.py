"""An engine that may be dropped and loaded again from its file, with what that costs.

Memory that an engine takes is more than its weights: the back end keeps what runs have needed. So
what it holds is measured when it is loaded, and corrected by what frames show (`grew`) until it is
unloaded. Loading is from the cache always; nothing is built here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .engine import Array, BoundRun, Engine, TensorSpec
from .errors import EngineError
from .process_memory import measured, trim


@dataclass(frozen=True)
class EngineLoad:
    """What loading an engine took.

    Attributes:
        ms: wall-clock milliseconds.
        resident_bytes: that it left in memory (`process_memory.RESIDENT_METHOD`); None where the
            system does not tell.
        peak_bytes: the most that it needed on the way.
    """

    ms: float
    resident_bytes: int | None
    peak_bytes: int | None


class ReloadableEngine:
    """An `Engine` behind a loader; it is there from the start.

    `run` loads it again if it is not. Any thread may call `load` and `unload`, also while it runs:
    that run ends with the engine it began with.
    """

    def __init__(
        self,
        loader: Callable[[], Engine],
        name: str,
        *,
        keeps_memory: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Load the engine for the first time.

        Args:
            loader: loads it from its file.
            name: for messages.
            keeps_memory: whether the back end keeps what runs have needed until it is unloaded.
            clock: seconds.

        Raises:
            EngineError: it cannot be loaded.
        """
        self._loader, self._name, self._clock = loader, name, clock
        self._keeps_memory = keeps_memory
        self._lock = threading.RLock()
        self._closed = False
        self._engine: Engine | None = None
        self._held_bytes: int | None = None
        self._last_load = EngineLoad(0.0, None, None)
        engine = self.load()
        self.input_specs: Sequence[TensorSpec] = tuple(engine.input_specs)
        self.output_specs: Sequence[TensorSpec] = tuple(engine.output_specs)
        self.device = engine.device

    @property
    def is_loaded(self) -> bool:
        return self._engine is not None

    @property
    def last_load(self) -> EngineLoad:
        """What the newest loading took."""
        return self._last_load

    @property
    def held_bytes(self) -> int | None:
        """Memory that it holds while it is loaded, with what runs have added; None if unknown.

        Of an unloaded engine: what it held before.
        """
        return self._held_bytes

    def grew(self, resident_bytes: int) -> None:
        """Note that runs left this much more in memory; it is the engine's if that keeps memory."""
        with self._lock:
            if self._keeps_memory and self._held_bytes is not None and self.is_loaded:
                self._held_bytes += max(resident_bytes, 0)

    def load(self) -> Engine:
        """Load it if it is not loaded.

        Raises:
            EngineError: its file is gone or broken, or it is closed.
        """
        with self._lock:
            if self._engine is not None:
                return self._engine
            if self._closed:
                raise EngineError("the engine is closed", field=self._name, remedy="load it again")
            begin = self._clock()
            made = measured(self._loader)
            ms = (self._clock() - begin) * 1e3
            self._engine = made.value
            self._last_load = EngineLoad(ms, made.resident_bytes, made.peak_bytes)
            # What it held with its runs is the better guess, if it ran before.
            self._held_bytes = max(made.resident_bytes or 0, self._held_bytes or 0) or None
            return made.value

    def unload(self) -> bool:
        """Free its memory until it runs again; False if there was nothing to free."""
        with self._lock:
            if self._engine is None:
                return False
            # A run that is under way keeps what it runs on, so it is not closed here.
            self._engine = None
        trim()
        return True

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run it, loading it first if need be; see `Engine.run`."""
        return self.load().run(inputs)

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        """See `Engine.bind`; what is bound stays in memory while it is kept."""
        return self.load().bind(buffers)

    def close(self) -> None:
        """Free it for good."""
        with self._lock:
            engine, self._engine, self._closed = self._engine, None, True
        if engine is not None:
            engine.close()
