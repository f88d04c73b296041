"""Runs built TensorRT engines natively: PyCUDA buffers and streams, CUDA graphs, one workspace.

Several engines of one robot share a context of CUDA, a stream, and one workspace that is as large
as the largest of them needs: they run one after the other. Results may stay on the device: what
`run_on_device` returns goes into the next engine without a copy to the host.

This file has not run on a GPU yet; tests go through it with stand-ins for TensorRT and PyCUDA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Array, BoundRun, TensorSpec
from ..errors import DeviceMemoryError, EngineError

_INSTALL = (
    "on a Jetson install JetPack's TensorRT for the system's Python (apt install "
    "python3-libnvinfer) and PyCUDA (pip install pycuda), in an environment made with "
    "--system-site-packages"
)

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


class TensorRtContext:
    """What the engines of one process share: device, stream, runtime, workspace."""

    def __init__(self, trt: Any, driver: Any) -> None:
        """Take the first device.

        Args:
            trt: the module `tensorrt`.
            driver: the module `pycuda.driver`.

        Raises:
            EngineError: there is no device.
        """
        self.trt, self.driver = trt, driver
        try:
            driver.init()
            self.device = driver.Device(0)
            self.context = self.device.retain_primary_context()
            self.context.push()
        except driver.Error as error:
            raise EngineError(
                f"CUDA finds no device that can be used: {error}",
                field="tensorrt",
                remedy="run on a Jetson, or with --runtime nvidia in a container; "
                "`tailwire doctor` says what this machine can run",
            ) from error
        self.stream = driver.Stream()
        self.logger = trt.Logger(trt.Logger.WARNING)
        self.runtime = trt.Runtime(self.logger)
        self._workspace: Any = None
        self._workspace_bytes = 0
        #: Workspaces so far: what was captured with one is not replayed with another.
        self.workspace_number = 0
        self.allocations = 0

    @property
    def architecture(self) -> str:
        """E.g. `sm_87`."""
        major, minor = self.device.compute_capability()
        return f"sm_{major}{minor}"

    @property
    def name(self) -> str:
        """Of the device."""
        return str(self.device.name())

    def room(self, size: int) -> Any:
        """Memory on the device.

        Raises:
            EngineError: there is none left.
        """
        try:
            self.allocations += 1
            return self.driver.mem_alloc(max(size, 1))
        except self.driver.MemoryError as error:
            raise out_of_memory(size, error) from error

    def workspace(self, size: int) -> Any:
        """The one workspace, grown if need be; engines run one after the other."""
        if size > self._workspace_bytes:
            self._workspace = None
            self._workspace_bytes = 0
            self._workspace = self.room(size)
            self._workspace_bytes = size
            self.workspace_number += 1
        return self._workspace

    def free_workspace(self) -> None:
        """Give the workspace back; the next run makes one as large as it needs."""
        self.stream.synchronize()
        self._workspace, self._workspace_bytes = None, 0

    @property
    def workspace_bytes(self) -> int:
        return self._workspace_bytes


def out_of_memory(size: int, error: BaseException) -> DeviceMemoryError:
    """The error of a device whose memory is used up."""
    return DeviceMemoryError(
        f"the device has no room for {size} bytes more: {error}",
        field="tensorrt",
        remedy="export smaller sizes (--questions, --question-tokens) or precisions, free memory, "
        "or use the back end onnxruntime-cpu",
    )


def open_context() -> TensorRtContext:
    """The context of this process.

    Raises:
        EngineError: TensorRT, PyCUDA or a device is missing.
    """
    try:
        import pycuda.driver as driver  # pyright: ignore[reportMissingImports]
        import tensorrt as trt  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise EngineError(
            f"the back end tensorrt needs the module {error.name}",
            field="backend",
            remedy=_INSTALL,
        ) from error
    return TensorRtContext(trt, driver)


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
        self._captured: dict[tuple[Any, ...], Any] = {}
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
        given = {name: self._sent(name, array) for name, array in inputs.items()}
        outputs = self.run_on_device(given)
        driver, stream = self._shared.driver, self._shared.stream
        results: dict[str, Array] = {}
        for name, array in outputs.items():
            results[name] = np.empty(array.shape, array.dtype)
            if results[name].size:
                driver.memcpy_dtoh_async(results[name], array.memory, stream)
        stream.synchronize()
        return results

    def run_on_device(self, inputs: Mapping[str, DeviceArray]) -> dict[str, DeviceArray]:
        """Run from and to memory on the device; queued on the stream, nothing waits.

        Args:
            inputs: one per input spec; may be outputs of another engine.

        Returns:
            One per output spec, in buffers of this engine: they hold until its next run.

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
        outputs = {
            spec.name: self._buffer(
                spec.name, tuple(self._run.get_tensor_shape(spec.name)), spec.dtype
            )
            for spec in self.output_specs
        }
        for name, array in {**inputs, **outputs}.items():
            self._run.set_tensor_address(name, int(array.memory))
        needed = int(self._run.update_device_memory_size_for_shapes())
        workspace = self._shared.workspace(needed)
        self._run.set_device_memory(int(workspace), self._shared.workspace_bytes)
        self._launch({**inputs, **outputs}, int(workspace))
        return outputs

    def _launch(self, arrays: Mapping[str, DeviceArray], workspace: int) -> None:
        stream = self._shared.stream
        # A graph replays addresses, so what it was captured with is its key.
        key = (
            workspace,
            self._shared.workspace_number,
            *((name, a.shape, int(a.memory)) for name, a in sorted(arrays.items())),
        )
        graph = self._captured.get(key)
        if graph is not None:
            graph.launch(stream)
            return
        if not self._run.execute_async_v3(stream.handle):
            raise EngineError("the engine failed", field=self._name)
        if self._graphs and len(self._captured) < _KEPT_GRAPHS:
            self._captured[key] = self._capture()

    def _capture(self) -> Any:
        """The run just made as a CUDA graph, None where this PyCUDA has none."""
        stream = self._shared.stream
        if not hasattr(stream, "begin_capture"):
            self._graphs = False
            return None
        stream.synchronize()
        stream.begin_capture()
        self._run.execute_async_v3(stream.handle)
        return stream.end_capture().instantiate()

    def _check(self, inputs: Mapping[str, DeviceArray]) -> None:
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
            self._shared.driver.memcpy_htod_async(held.memory, array, self._shared.stream)
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
        """Free buffers, captured graphs and the shared workspace; see `with_spare.Lean`."""
        self._captured.clear()
        self._buffers.clear()
        self._shared.free_workspace()

    def close(self) -> None:
        """Free engine and buffers; the workspace stays for the others."""
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
