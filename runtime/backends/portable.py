"""Runs graphs of standard operators under the contract of those that are tuned for the CPU.

Portable stages of a language model (`export/portable/`) differ in what they take: shapes say how
many rows there are, room for a LoRA may be missing, and keys and values grow into new buffers. This
puts them behind the same inputs, whatever engine runs them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Array, BoundRun, Engine
from ..errors import EngineError
from ..on_device import on_host, run_keeping
from ..packing import MASKED
from .onnxruntime_cpu import OnnxRuntimeEngine
from .with_spare import Lean

#: What only the tuned graphs take.
_LENGTHS = frozenset({"past_and_new_minus_1", "past_and_new"})


class PortableEngine:
    """A portable graph in any engine."""

    def __init__(self, engine: Engine, *, empty_rows: bool = True) -> None:
        """Put the contract around an engine, which is closed with this one.

        Args:
            engine: of a portable graph.
            empty_rows: whether it takes keys and values of no rows and LoRAs of rank 0. TensorRT's
                profiles begin at 1: then a masked row or a zero stands in.
        """
        self._engine = engine
        self._takes = frozenset(spec.name for spec in engine.input_specs)
        self._empty_rows = empty_rows
        self.input_specs, self.output_specs = engine.input_specs, engine.output_specs
        self.device = engine.device

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; see `Engine.run`."""
        given = self._taken(inputs)
        past = [name for name in given if name.startswith(("past_key_", "past_value_"))]
        if self._empty_rows or not past or given[past[0]].shape[2]:
            return self._engine.run(given)
        for name in past:
            shape = list(given[name].shape)
            shape[2] = 1
            given[name] = np.zeros(shape, given[name].dtype)
        for name in [name for name in given if name.startswith("bias_")]:
            bias = given[name]
            given[name] = np.concatenate([np.full_like(bias[..., :1], MASKED), bias], axis=-1)
        outputs = self._engine.run(given)
        for name in [name for name in outputs if name.startswith(("key_", "value_"))]:
            outputs[name] = np.ascontiguousarray(outputs[name][:, :, 1:])
        return outputs

    def run_keeping(
        self, inputs: Mapping[str, Any], keep: Collection[str], constant: Collection[str] = ()
    ) -> dict[str, Any]:
        """See `on_device.run_keeping`; of engines that keep nothing, as `run`."""
        given = self._taken(inputs)
        past = [name for name in given if name.startswith(("past_key_", "past_value_"))]
        keeps = hasattr(self._engine, "run_keeping")
        if keeps and (self._empty_rows or not past or given[past[0]].shape[2]):
            return run_keeping(self._engine, given, keep, [n for n in constant if n in given])
        return dict(self.run(on_host(inputs)))

    def _taken(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given: dict[str, Array] = {}
        for name, array in inputs.items():
            rank_axis = {"lora_a": 1, "lora_b": 0}.get(name[:6])
            if name in self._takes:
                if rank_axis is not None and not array.size and not self._empty_rows:
                    shape = list(array.shape)
                    shape[rank_axis] = 1
                    array = np.zeros(shape, array.dtype)
                given[name] = array
            elif rank_axis is not None and array.shape[rank_axis]:
                raise EngineError(
                    f"the graph has no input {name}: it was exported without room for a LoRA",
                    field="lora",
                    remedy="export it again with --lora-rank",
                )
            elif rank_axis is None and name not in _LENGTHS:
                given[name] = array  # The engine refuses what it does not know.
        return given

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        """Prepare runs on fixed buffers, into which keys and values are copied as they grow."""
        return _PortableBinding(self, buffers)

    def give_back(self) -> None:
        """Free what the engine can do without for now; see `with_spare.Lean`."""
        if isinstance(self._engine, Lean):
            self._engine.give_back()

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


class _PortableBinding:
    """Buffers that hold `past_and_new` rows after a run, of which the engine sees the past."""

    def __init__(self, engine: PortableEngine, buffers: Mapping[str, Array]) -> None:
        self._engine = engine
        self._buffers = dict(buffers)
        self._outputs = [spec.name for spec in engine.output_specs]

    def rebind(self, name: str, buffer: Array) -> None:
        self._buffers[name] = buffer

    def run(self) -> None:
        held = self._buffers
        total = int(held["past_and_new"]) if "past_and_new" in held else 0
        inputs: dict[str, Array] = {}
        for name, array in held.items():
            if name in self._outputs:
                continue
            if name.startswith(("past_key_", "past_value_")):
                past = total - held["residual_in"].shape[1]
                array = np.ascontiguousarray(array[:, :, :past])
            inputs[name] = array
        for name, array in self._engine.run(inputs).items():
            if name.startswith(("key_", "value_")):
                held[name][:, :, :total] = array
            elif name in held:
                held[name][...] = array


def load_portable(path: Path, *, threads: int) -> PortableEngine:
    """A portable graph in ONNX Runtime on the CPU, operator by operator as it is written."""
    return PortableEngine(OnnxRuntimeEngine(path, threads=threads, as_written=True))
