"""Stands in for TensorRT and PyCUDA: control flow only, with ONNX Runtime behind it.

A plan is the graph's own bytes behind a header; running one runs the graph, so that buffers, shapes
and order are tested with real numbers. What the real libraries do is not imitated beyond that.
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np
import onnx
import onnxruntime as ort

HEADER = b"FAKE-PLAN "


class Memory:
    """An allocation: numpy bytes, at their own address, free when nobody holds it any more."""

    def __init__(self, driver: FakeDriver, size: int) -> None:
        # Aligned as CUDA does it, and of garbage, as nobody clears a device's memory.
        room = np.full(size + 256, 0xAB, np.uint8)
        first = -room.ctypes.data % 256
        self.bytes = room[first : first + size]
        self.address = self.bytes.ctypes.data
        driver.memory[self.address] = self

    def __int__(self) -> int:
        return self.address


class FakeDriver:
    """`pycuda.driver`."""

    class Error(Exception): ...

    class MemoryError(Error): ...

    def __init__(self, *, devices: int = 1, room: int = 1 << 40) -> None:
        self.devices, self.room = devices, room
        self.memory: WeakValueDictionary[int, Memory] = WeakValueDictionary()
        #: Way, and shape, of every copy between host and device.
        self.copies: list[tuple[str, tuple[int, ...]]] = []
        self.launched: list[str] = []
        self.graphs_launched = 0
        self.current = threading.local()

    def init(self) -> None:
        if not self.devices:
            raise self.Error("no CUDA-capable device is detected")

    def Device(self, _: int) -> FakeDevice:
        return FakeDevice(self)

    def check_address(self, *addresses: Any) -> None:
        """PyCUDA's copies take allocations and Python's integers, not numpy's."""
        assert all(type(one) in (int, Memory) for one in addresses), addresses

    def check_current(self) -> None:
        """A context must be current in the thread that uses it."""
        if not getattr(self.current, "depth", 0):
            raise self.Error("invalid device context")

    def Stream(self) -> FakeStream:
        return FakeStream(self)

    def mem_alloc(self, size: int) -> Memory:
        self.check_current()
        if self.used + size > self.room:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        return Memory(self, size)

    @property
    def used(self) -> int:
        """Bytes that are allocated now."""
        return sum(one.bytes.nbytes for one in self.memory.values())

    def bytes_at(self, address: int, size: int) -> np.ndarray:
        """Bytes that lie in one allocation, which somebody holds."""
        for base, one in list(self.memory.items()):
            if base <= address and address + size <= base + one.bytes.nbytes:
                return one.bytes[address - base : address - base + size]
        raise AssertionError(f"nobody holds {size} bytes at {address}")

    def memcpy_htod_async(self, memory: Memory, array: np.ndarray, _: Any) -> None:
        self.check_current()
        self.check_address(memory)
        assert array.flags.c_contiguous
        self.copies.append(("in", array.shape))
        self.bytes_at(int(memory), array.nbytes)[:] = array.reshape(-1).view(np.uint8)

    def memcpy_dtoh_async(self, array: np.ndarray, memory: Memory, _: Any) -> None:
        self.check_current()
        self.check_address(memory)
        self.copies.append(("out", array.shape))
        array.reshape(-1).view(np.uint8)[:] = self.bytes_at(int(memory), array.nbytes)

    def memcpy_dtod_async(self, target: Any, source: Any, size: int, _: Any) -> None:
        self.check_current()
        self.check_address(target, source)
        self.bytes_at(int(target), size)[:] = self.bytes_at(int(source), size)

    def memset_d8(self, target: Any, value: int, size: int) -> None:
        self.check_current()
        self.check_address(target)
        self.bytes_at(int(target), size)[:] = value

    def module_from_file(self, path: str) -> FakeModule:
        return FakeModule(self, Path(path).name)


class FakeModule:
    """A compiled kernel: the body of its threads, run in a loop by its twin in C."""

    def __init__(self, driver: FakeDriver, name: str) -> None:
        self._driver = driver

    def get_function(self, name: str) -> Any:
        from .kernels.twins import compiled

        library = compiled("c")

        def launch(parameters: np.void, *memory: Any, **_: Any) -> None:
            self._driver.check_current()
            self._driver.launched.append(name)
            held = ctypes.create_string_buffer(parameters.tobytes())
            addresses = [int(one) or None for one in memory]
            for address in filter(None, addresses):
                self._driver.bytes_at(address, 1)
            by_body = (1,) if name == "prefix_pack" else ()
            getattr(library, name)(ctypes.addressof(held), *addresses, *by_body)

        return launch


class FakeDevice:
    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver

    def retain_primary_context(self) -> FakeDevice:
        return self

    def push(self) -> None:
        current = self._driver.current
        current.depth = getattr(current, "depth", 0) + 1

    def pop(self) -> None:
        self._driver.check_current()
        self._driver.current.depth -= 1

    def compute_capability(self) -> tuple[int, int]:
        return 8, 7

    def name(self) -> str:
        return "Orin"


class FakeStream:
    handle = 7

    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver
        self.recorded: list[Any] | None = None

    def synchronize(self) -> None: ...


class FakeGraphs:
    """`cuda_graphs.Capturing` of a stream."""

    def __init__(self, driver: FakeDriver, stream: FakeStream) -> None:
        self._driver, self._stream = driver, stream
        FakeStreams.capturing.append(stream)

    def captured(self, queue: Callable[[], bool]) -> FakeGraph | None:
        self._driver.check_current()
        self._stream.recorded = []
        queued = queue()
        recorded, self._stream.recorded = self._stream.recorded, None
        return FakeGraph(self._driver, recorded) if queued else None


class FakeGraph:
    def __init__(self, driver: FakeDriver, recorded: list[Any]) -> None:
        self._driver, self._recorded = driver, recorded

    def launch(self) -> bool:
        self._driver.graphs_launched += 1
        for run in self._recorded:
            run()
        return True


class FakeTensorRt:
    """The module `tensorrt`."""

    __version__ = "10.3.0"

    class Logger:
        WARNING = 1

        def __init__(self, _: int) -> None: ...

    class NetworkDefinitionCreationFlag:
        STRONGLY_TYPED = 2

    class MemoryPoolType:
        WORKSPACE = 0

    class ExecutionContextAllocationStrategy:
        USER_MANAGED = 2

    class TensorIOMode:
        INPUT, OUTPUT = 1, 2

    def __init__(
        self,
        driver: FakeDriver,
        *,
        needs_workspace: int = 0,
        refuses: str = "",
        workspace: int = 1000,
    ) -> None:
        self.driver, self.needs_workspace, self.refuses = driver, needs_workspace, refuses
        self.workspace = workspace
        self.built: list[dict[str, Any]] = []
        self.flags: list[int] = []

    def Builder(self, _: Any) -> FakeBuilder:
        return FakeBuilder(self)

    def OnnxParser(self, network: FakeNetwork, _: Any) -> FakeParser:
        return FakeParser(self, network)

    def Runtime(self, _: Any) -> FakeRuntime:
        return FakeRuntime(self)

    def nptype(self, dtype: str) -> type:
        return np.dtype(dtype).type


class FakeNetwork:
    path = ""

    def __init__(self) -> None:
        self.inputs: list[Any] = []

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Any:
        return self.inputs[index]


class FakeParser:
    num_errors = 1

    def __init__(self, trt: FakeTensorRt, network: FakeNetwork) -> None:
        self._trt, self._network = trt, network

    def parse_from_file(self, path: str) -> bool:
        self._network.path = path
        model = onnx.load(path, load_external_data=False)
        self._network.inputs = list(model.graph.input)
        return not self._trt.refuses

    def get_error(self, _: int) -> str:
        return self._trt.refuses


class FakeProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        assert all(a <= b <= c for a, b, c in zip(least, usual, most, strict=True))
        self.shapes[name] = [list(least), list(usual), list(most)]


class FakeCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return b"timings" if not self.content else self.content


class FakeConfig:
    def __init__(self) -> None:
        self.workspace = 0
        self.profiles: list[FakeProfile] = []
        self.cache: FakeCache | None = None

    def set_memory_pool_limit(self, _: int, size: int) -> None:
        self.workspace = size

    def add_optimization_profile(self, profile: FakeProfile) -> None:
        self.profiles.append(profile)

    def create_timing_cache(self, content: bytes) -> FakeCache | None:
        return None if content.startswith(b"other") else FakeCache(content)

    def set_timing_cache(self, cache: FakeCache, _: bool) -> bool:
        self.cache = cache
        return True

    def get_timing_cache(self) -> FakeCache | None:
        return self.cache


class FakeBuilder:
    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt

    def create_network(self, flags: int) -> FakeNetwork:
        self._trt.flags.append(flags)
        return FakeNetwork()

    def create_builder_config(self) -> FakeConfig:
        return FakeConfig()

    def create_optimization_profile(self) -> FakeProfile:
        return FakeProfile()

    def build_serialized_network(self, network: FakeNetwork, config: FakeConfig) -> bytes | None:
        self._trt.built.append({"path": network.path, "workspace": config.workspace})
        if config.workspace > self._trt.needs_workspace > 0:
            return None
        profile = config.profiles[0].shapes if config.profiles else {}
        return HEADER + json.dumps({"path": network.path, "profile": profile}).encode()


class FakeRuntime:
    def __init__(self, trt: FakeTensorRt) -> None:
        self._trt = trt

    def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
        if not plan.startswith(HEADER):
            return None
        try:
            return FakeEngine(self._trt, json.loads(plan[len(HEADER) :]))
        except ValueError:
            return None


class FakeEngine:
    device_memory_size_v2 = 1000

    def __init__(self, trt: FakeTensorRt, plan: dict[str, Any]) -> None:
        self.trt, self.profile = trt, plan["profile"]
        self.session = ort.InferenceSession(plan["path"], providers=["CPUExecutionProvider"])
        model = onnx.load(plan["path"], load_external_data=False)
        self.inputs = {value.name: value for value in model.graph.input}
        self.tensors = {v.name: v for v in (*model.graph.input, *model.graph.output)}
        self._names = list(self.tensors)
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> int:
        return 1 if name in self.inputs else 2

    def get_tensor_dtype(self, name: str) -> str:
        kind = self.tensors[name].type.tensor_type.elem_type
        return onnx.helper.tensor_dtype_to_np_dtype(kind).name

    def get_tensor_shape(self, name: str) -> list[int]:
        dims = self.tensors[name].type.tensor_type.shape.dim
        return [-1 if dim.dim_param else dim.dim_value for dim in dims]

    def create_execution_context(self, _: int) -> FakeExecution:
        return FakeExecution(self)


class FakeExecution:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.workspace = (0, 0)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.profile.get(name, [shape] * 3)
        self.shapes[name] = shape
        return all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))

    def _sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for name, shape in self.shapes.items():
            dims = self._engine.tensors[name].type.tensor_type.shape.dim
            for dim, size in zip(dims, shape, strict=True):
                if dim.dim_param:
                    assert sizes.setdefault(dim.dim_param, size) == size, dim.dim_param
        return sizes

    def get_tensor_shape(self, name: str) -> list[int]:
        sizes = self._sizes()
        sizes.setdefault("kept", 1 + sizes.get("rows", 0))
        sizes.setdefault("past_and_new", sizes.get("past", 0) + sizes.get("tokens", 0))
        dims = self._engine.tensors[name].type.tensor_type.shape.dim
        return [sizes[dim.dim_param] if dim.dim_param else dim.dim_value for dim in dims]

    def set_tensor_address(self, name: str, address: int) -> None:
        assert address % 256 == 0, name
        self.addresses[name] = address

    def update_device_memory_size_for_shapes(self) -> int:
        return self._engine.trt.workspace

    def set_device_memory(self, address: int, size: int) -> None:
        self.workspace = (address, size)

    def execute_async_v3(self, _: int) -> bool:
        driver, engine = self._engine.trt.driver, self._engine
        assert self.workspace[1] >= engine.trt.workspace
        names = list(engine.tensors)
        shapes = {n: tuple(self.get_tensor_shape(n)) for n in names if n not in engine.inputs}
        shapes |= self.shapes

        def array(name: str) -> np.ndarray:
            dtype = np.dtype(engine.get_tensor_dtype(name))
            size = int(np.prod(shapes[name], dtype=np.int64)) * dtype.itemsize
            return driver.bytes_at(self.addresses[name], size).view(dtype).reshape(shapes[name])

        outputs = [name for name in names if name not in engine.inputs]
        views = {name: array(name) for name in names}

        def run() -> None:
            given = {name: views[name] for name in engine.inputs}
            for name, value in zip(outputs, engine.session.run(outputs, given), strict=True):
                views[name][...] = value

        run()
        for stream in FakeStreams.capturing:
            if stream.recorded is not None:
                stream.recorded.append(run)
        return True


class FakeStreams:
    """Streams that may be recording; a graph replays what was run while they did."""

    capturing: ClassVar[list[FakeStream]] = []


def plan_of(path: Path) -> dict[str, Any]:
    """What a fake plan says."""
    return json.loads(path.read_bytes()[len(HEADER) :])
