"""Runs built TensorRT engines natively: PyCUDA buffers and streams, CUDA graphs, one workspace.

Several engines of one robot share a context of CUDA, a stream, and one workspace that is as large
as the largest of them needs: they run one after the other. Results may stay on the device
(`device_arrays.py`): what `run_keeping` keeps goes into the next engine without a copy to the host.

This file has not run on a GPU yet; tests go through it with stand-ins for TensorRT and PyCUDA.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Array, BoundRun, TensorSpec
from ..errors import EngineError
from .cuda_graphs import Capturing, Replayed
from .device_arrays import ALIGNMENT, DeviceTensor
from .tensorrt_context import TensorRtContext, out_of_memory

#: Shapes whose runs are kept as CUDA graphs, by engine.
_KEPT_GRAPHS = 8


@dataclass(frozen=True)
class DeviceArray:
    """An array on the device.

    Attributes:
        memory: an allocation of PyCUDA.
        shape: of the array.
        dtype: e.g. `float32`.
    """

    memory: Any
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class TensorRtEngine:
    """One built engine."""

    def __init__(self, path: Path, context: TensorRtContext, *, graphs: bool = True) -> None:
        """Load an engine that `tensorrt_build.py` built.

        Args:
            path: the plan file.
            context: shared by the engines of the process.
            graphs: whether runs of a shape that comes again are kept as CUDA graphs.

        Raises:
            EngineError: the file is missing, broken, or of another TensorRT or device.
        """
        self._name, self._shared, self._graphs = path.name, context, graphs
        trt = context.trt
        try:
            plan = path.read_bytes()
        except OSError as error:
            raise _unusable(path, str(error)) from error
        self._engine: Any = context.runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            version = trt.__version__
            raise _unusable(
                path, f"TensorRT {version} on {context.architecture} does not take the plan"
            )
        # Without memory of its own: all engines share one workspace.
        kind = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._run: Any = self._engine.create_execution_context(kind)
        if self._run is None:
            raise out_of_memory(int(self._engine.device_memory_size_v2), MemoryError(path.name))
        specs = [self._spec(name) for name in self._names()]
        self.input_specs: Sequence[TensorSpec] = tuple(s for s in specs if self._is_input(s.name))
        self.output_specs: Sequence[TensorSpec] = tuple(
            s for s in specs if not self._is_input(s.name)
        )
        self.device = "cuda:0"
        self._buffers: dict[str, DeviceArray] = {}
        self._captured: OrderedDict[tuple[Any, ...], Replayed | None] = OrderedDict()
        self._closed = False

    def _names(self) -> list[str]:
        return [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]

    def _is_input(self, name: str) -> bool:
        return self._engine.get_tensor_mode(name) == self._shared.trt.TensorIOMode.INPUT

    def _spec(self, name: str) -> TensorSpec:
        dtype = np.dtype(self._shared.trt.nptype(self._engine.get_tensor_dtype(name))).name
        return TensorSpec(name, tuple(self._engine.get_tensor_shape(name)), dtype)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run from and to the host; see `Engine.run`."""
        return self.run_keeping(inputs, ())

    def run_keeping(
        self,
        inputs: Mapping[str, Any],
        keep: Collection[str],
        constant: Collection[str] = (),
    ) -> dict[str, Any]:
        """Run with inputs of the host or of the device; see `on_device.run_keeping`.

        Raises:
            EngineError: see `run_on_device`.
        """
        shared, arrays = self._shared, self._shared.arrays
        results: dict[str, Any] = {}
        with shared.active():
            given = {
                name: self._given(name, array, name in constant) for name, array in inputs.items()
            }
            outputs = self.run_on_device(given, () if arrays is None else keep)
            for name, array in outputs.items():
                if isinstance(array, DeviceTensor):
                    results[name] = array
                    continue
                results[name] = np.empty(array.shape, array.dtype)
                if results[name].size:
                    shared.fetch(results[name], array.memory)
            if len(results) > sum(isinstance(one, DeviceTensor) for one in results.values()):
                shared.stream.synchronize()
        return results

    def run_on_device(
        self, inputs: Mapping[str, DeviceArray | DeviceTensor], keep: Collection[str] = ()
    ) -> dict[str, DeviceArray | DeviceTensor]:
        """Run from and to memory on the device; queued on the stream, nothing waits.

        Args:
            inputs: one per input spec; may be outputs of another engine.
            keep: outputs that get memory of their own.

        Returns:
            One per output spec. Those that are not kept lie in buffers of this engine: they hold
            until its next run.

        Raises:
            EngineError: an input is missing, unknown, of another dtype or outside of the profile,
                or memory is used up.
        """
        self._check(inputs)
        for name, array in inputs.items():
            if not self._run.set_input_shape(name, array.shape):
                raise EngineError(
                    f"{name} {list(array.shape)} is outside of the sizes that the engine was "
                    "built for",
                    field=self._name,
                    remedy="export with larger --questions or --question-tokens",
                )
        outputs: dict[str, DeviceArray | DeviceTensor] = {}
        for spec in self.output_specs:
            shape = tuple(self._run.get_tensor_shape(spec.name))
            arrays = self._shared.arrays if spec.name in keep else None
            outputs[spec.name] = (
                self._buffer(spec.name, shape, spec.dtype)
                if arrays is None
                else arrays.empty(shape, spec.dtype)
            )
        for name, array in {**inputs, **outputs}.items():
            self._run.set_tensor_address(name, int(array.memory))
        needed = int(self._run.update_device_memory_size_for_shapes())
        workspace = self._shared.workspace(needed)
        self._run.set_device_memory(int(workspace), self._shared.workspace_bytes)
        self._launch({**inputs, **outputs}, int(workspace))
        return outputs

    def _given(self, name: str, array: Any, constant: bool) -> DeviceArray | DeviceTensor:
        """An input on the device: where it lies already, or a copy."""
        arrays = self._shared.arrays
        if isinstance(array, DeviceTensor) and array.device is arrays:
            if array.address % ALIGNMENT == 0:
                return array
            held = self._buffer(name, array.shape, array.dtype.name)
            self._shared.copy(held.memory, array.memory, array.nbytes)
            return held
        array = np.asarray(array)
        if constant and arrays is not None:
            return arrays.kept(array)
        return self._sent(name, array)

    def _launch(self, arrays: Mapping[str, DeviceArray | DeviceTensor], workspace: int) -> None:
        stream = self._shared.stream
        # A graph replays addresses, so what it was captured with is its key.
        key = (
            workspace,
            self._shared.workspace_number,
            *((name, a.shape, int(a.memory)) for name, a in sorted(arrays.items())),
        )
        graph = self._captured.get(key)
        if graph is not None:
            if graph.launch():
                self._captured.move_to_end(key)
                return
            self._captured.clear()
            self._graphs = False
        if not self._run.execute_async_v3(stream.handle):
            raise EngineError("the engine failed", field=self._name)
        if not self._graphs or self._shared.graphs is None:
            return
        # What comes once may never come again; capturing it would cost more than it saves.
        if key not in self._captured:
            self._captured[key] = None
        else:
            self._captured[key] = self._capture(self._shared.graphs)
            self._captured.move_to_end(key)
        if len(self._captured) > _KEPT_GRAPHS:
            self._captured.popitem(last=False)

    def _capture(self, graphs: Capturing) -> Replayed | None:
        """The run just made as a CUDA graph; None where it cannot be one, now or later."""
        stream = self._shared.stream
        stream.synchronize()
        graph = graphs.captured(lambda: bool(self._run.execute_async_v3(stream.handle)))
        self._graphs = graph is not None
        return graph

    def _check(self, inputs: Mapping[str, DeviceArray | DeviceTensor]) -> None:
        if self._closed:
            raise EngineError("the engine is closed", field=self._name, remedy="load it again")
        wanted = {spec.name: spec for spec in self.input_specs}
        if inputs.keys() != wanted.keys():
            missing, unknown = wanted.keys() - inputs.keys(), inputs.keys() - wanted.keys()
            raise EngineError(
                f"inputs are missing: {sorted(missing)}, unknown: {sorted(unknown)}",
                field=self._name,
            )
        for name, array in inputs.items():
            if array.dtype != wanted[name].dtype:
                raise EngineError(
                    f"{name} is {array.dtype}, not {wanted[name].dtype}", field=self._name
                )

    def _sent(self, name: str, array: Array) -> DeviceArray:
        array = np.ascontiguousarray(array)
        held = self._buffer(name, array.shape, array.dtype.name)
        if array.nbytes:
            self._shared.send(held.memory, array)
        return held

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """The buffer of a tensor, grown if need be; the same one for all smaller shapes."""
        wanted = DeviceArray(None, shape, dtype)
        held = self._buffers.get(name)
        if held is None or held.nbytes < wanted.nbytes:
            self._captured.clear()
            held = DeviceArray(self._shared.room(wanted.nbytes), shape, dtype)
            self._buffers[name] = held
        return DeviceArray(held.memory, shape, dtype)

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        """Not here: `PortableEngine` binds around `run`."""
        raise EngineError("engines of TensorRT are bound by PortableEngine", field=self._name)

    def give_back(self) -> None:
        """Free buffers, captured graphs and what is shared; see `with_spare.Lean`."""
        with self._shared.active():
            self._captured.clear()
            self._buffers.clear()
            self._shared.give_back()

    def close(self) -> None:
        """Free engine and buffers; the workspace stays for the others."""
        with self._shared.active():
            self._closed = True
            self._captured.clear()
            self._buffers.clear()
            self._run = self._engine = None


def _unusable(path: Path, problem: str) -> EngineError:
    return EngineError(
        f"the TensorRT engine cannot be loaded: {problem}",
        field=str(path),
        remedy="remove its folder, it is then built again on this device",
    )
