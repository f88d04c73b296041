"""An engine on a device, and what goes on in its place when the device's memory is used up.

Only memory is a reason to go on elsewhere: any other fault of an engine is raised, since another
engine would hide it. What went on elsewhere is kept for whoever reports (`Spares.used`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, runtime_checkable

from ..engine import Array, BoundRun, Engine
from ..errors import DeviceMemoryError, EngineError, without_remedy
from ..on_device import run_keeping

Progress = Callable[[str], None]


@runtime_checkable
class Lean(Protocol):
    """An engine that can give back what it holds beside its weights."""

    def give_back(self) -> None:
        """Free buffers and what was kept to be faster; the next run takes what it needs."""
        ...


class Spares:
    """What runs on the CPU instead of a device, and why; shared by the engines of a process."""

    def __init__(self, progress: Progress | None = None) -> None:
        """Nothing has gone to the CPU yet.

        Args:
            progress: told once for each graph.
        """
        self._progress = progress or (lambda _: None)
        self._used: dict[str, str] = {}

    @property
    def used(self) -> Mapping[str, str]:
        """By graph, why it runs on the CPU; grows while the engines run."""
        return dict(self._used)

    def note(self, graph: str, error: EngineError) -> None:
        """Say that a graph goes on on the CPU."""
        if graph not in self._used:
            self._used[graph] = without_remedy(str(error))
            self._progress(f"{graph} goes on on the CPU: {error}")


class EngineWithSpare:
    """An engine that goes on on another one when its device's memory is used up, and stays there.

    A run that fails for memory is made once more with all that the engine could give back given
    back, and then, with the same inputs, by the spare engine; no frame is lost.
    """

    def __init__(
        self, engine: Engine, open_spare: Callable[[], Engine], name: str, spares: Spares
    ) -> None:
        """Run this engine, which is closed with this one.

        Args:
            engine: on the device.
            open_spare: opens what goes on in its place; called at most once.
            name: of the graph, for what is said.
            spares: told of it.
        """
        self._engine, self._open_spare = engine, open_spare
        self._name, self._spares = name, spares
        self._lock = threading.Lock()
        self._on_spare = False
        self.input_specs, self.output_specs = engine.input_specs, engine.output_specs

    @property
    def device(self) -> str:
        """That of the engine which runs now."""
        return self._engine.device

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; see `Engine.run`.

        Raises:
            EngineError: the engine failed for another reason than memory, or the spare one did.
        """
        return self.run_keeping(inputs, ())

    def run_keeping(
        self, inputs: Mapping[str, Any], keep: Collection[str], constant: Collection[str] = ()
    ) -> dict[str, Any]:
        """See `on_device.run_keeping`; on the spare engine, as `run`."""
        try:
            return run_keeping(self._engine, inputs, keep, constant)
        except DeviceMemoryError as error:
            first = error
        if not self._on_spare and isinstance(self._engine, Lean):
            try:
                self._engine.give_back()
                return run_keeping(self._engine, inputs, keep, constant)
            except DeviceMemoryError as error:
                first = error
        return run_keeping(self.replace(first), inputs, keep, constant)

    def replace(self, error: DeviceMemoryError) -> Engine:
        """The engine that goes on, opened now.

        Raises:
            EngineError: it is in place already, so that it failed itself, or it cannot be opened.
        """
        with self._lock:
            if self._on_spare:
                raise error
            # Opened first: if that fails too, the engine on the device is still there.
            spare = self._open_spare()
            full, self._engine, self._on_spare = self._engine, spare, True
        if isinstance(full, Lean):
            full.give_back()
        full.close()
        self._spares.note(self._name, error)
        return spare

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        """Prepare runs on fixed buffers; see `Engine.bind`."""
        return _Bound(self, buffers)

    @property
    def held(self) -> Engine:
        """The engine that runs now."""
        return self._engine

    def close(self) -> None:
        """Free the engine that runs now."""
        self._engine.close()


class _Bound:
    """Bound runs that are bound anew where another engine has taken over."""

    def __init__(self, owner: EngineWithSpare, buffers: Mapping[str, Array]) -> None:
        self._owner, self._buffers = owner, dict(buffers)
        self._engine = owner.held
        self._bound = self._engine.bind(self._buffers)

    def rebind(self, name: str, buffer: Array) -> None:
        self._buffers[name] = buffer
        self._bound.rebind(name, buffer)

    def run(self) -> None:
        if self._engine is not self._owner.held:
            self._engine = self._owner.held
            self._bound = self._engine.bind(self._buffers)
        try:
            self._bound.run()
        except DeviceMemoryError as error:
            # Buffers are written behind a run that succeeded, so they are as they were.
            self._engine = self._owner.replace(error)
            self._bound = self._engine.bind(self._buffers)
            self._bound.run()
