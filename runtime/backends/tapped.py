"""An engine that writes down what goes through it, for calibration and comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..engine import Array, BoundRun, Engine


@dataclass(frozen=True)
class EngineRun:
    """What went in and came out."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


class TappedEngine:
    """Another engine, with copies of its runs; bound runs are not written down."""

    def __init__(self, engine: Engine, *, most: int = 1000) -> None:
        """Write down the runs of an engine, which is closed with this one.

        Args:
            engine: the engine.
            most: runs that are kept; later ones are not.
        """
        self._engine, self._most = engine, most
        self.input_specs, self.output_specs = engine.input_specs, engine.output_specs
        self.device = engine.device
        self.runs: list[EngineRun] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run it; see `Engine.run`."""
        outputs = self._engine.run(inputs)
        if len(self.runs) < self._most:
            # Callers may write into their buffers again.
            kept = ({n: np.array(a) for n, a in arrays.items()} for arrays in (inputs, outputs))
            self.runs.append(EngineRun(*kept))
        return outputs

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        """See `Engine.bind`."""
        return self._engine.bind(buffers)

    def close(self) -> None:
        """Free the engine; what was written down stays."""
        self._engine.close()
