"""What the TensorRT engines of one process share: device, stream, workspace, memory to hand out.

This file has not run on a GPU yet; tests go through it with stand-ins for TensorRT and PyCUDA.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from ..engine import Array
from ..errors import DeviceMemoryError, EngineError
from ..files import cache_dir
from .cuda_graphs import Capturing, open_graphs
from .device_arrays import DeviceArrays, Pool

_INSTALL = (
    "on a Jetson install JetPack's TensorRT for the system's Python (apt install "
    "python3-libnvinfer) and PyCUDA (pip install pycuda), in an environment made with "
    "--system-site-packages"
)


class TensorRtContext:
    """What the engines of one process share: device, stream, runtime, workspace."""

    def __init__(self, trt: Any, driver: Any) -> None:
        """Take the first device.

        Args:
            trt: the module `tensorrt`.
            driver: the module `pycuda.driver`.

        Raises:
            EngineError: there is no device, or TensorRT does not start on it.
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
        #: Makes CUDA graphs of what is queued on the stream; None where the driver does not.
        self.graphs: Capturing | None = open_graphs(self.stream)
        self.logger = trt.Logger(trt.Logger.WARNING)
        try:
            self.runtime = trt.Runtime(self.logger)
        except TypeError as error:  # Its bindings' word for a library that gives nothing.
            self.context.pop()
            raise does_not_start(trt, error) from error
        self._workspace: Any = None
        self._workspace_bytes = 0
        #: Workspaces so far: what was captured with one is not replayed with another.
        self.workspace_number = 0
        self.allocations = 0
        self.pool = Pool(self)
        #: Why there are no `arrays`.
        self.no_arrays = ""

    @property
    def architecture(self) -> str:
        """E.g. `sm_87`."""
        major, minor = self.device.compute_capability()
        return f"sm_{major}{minor}"

    @property
    def name(self) -> str:
        """Of the device."""
        return str(self.device.name())

    @contextmanager
    def active(self) -> Iterator[None]:
        """The device's context in this thread, whichever that is."""
        self.context.push()
        try:
            yield
        finally:
            self.context.pop()

    @cached_property
    def arrays(self) -> DeviceArrays | None:
        """What the device does with arrays that stay there; None where kernels cannot be compiled.

        Then everything between engines goes through the host, which is slower and right.
        """
        from ...kernels.cuda_arrays import CudaArrays

        try:
            with self.active():
                kernels = CudaArrays(cache_dir() / "kernels", self.driver, self.device, self.stream)
        except (RuntimeError, OSError, self.driver.Error) as error:
            self.no_arrays = str(error)
            return None
        return DeviceArrays(self, kernels)

    def send(self, memory: Any, array: Array) -> None:
        """Copy a contiguous array to the device."""
        # PyCUDA takes allocations and Python's integers for addresses here, numpy's in launches.
        self.driver.memcpy_htod_async(int(memory), array, self.stream)

    def fetch(self, array: Array, memory: Any) -> None:
        """Copy to an array of the host; it is there when the stream has come so far."""
        self.driver.memcpy_dtoh_async(array, int(memory), self.stream)

    def copy(self, target: Any, source: Any, size: int) -> None:
        """Copy on the device."""
        self.driver.memcpy_dtod_async(int(target), int(source), size, self.stream)

    def clear(self, memory: Any, size: int) -> None:
        """Set bytes to zero, behind what was queued before."""
        self.stream.synchronize()
        self.driver.memset_d8(int(memory), 0, size)

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

    def give_back(self) -> None:
        """Free the workspace, which the next run makes as large as it needs, and spare memory."""
        self.stream.synchronize()
        self._workspace, self._workspace_bytes = None, 0
        if self.arrays is not None:
            self.arrays.give_back()
        self.pool.clear()

    @property
    def workspace_bytes(self) -> int:
        return self._workspace_bytes


def does_not_start(trt: Any, error: TypeError) -> EngineError:
    """The error of a TensorRT whose library makes no builder or runtime."""
    return EngineError(
        f"TensorRT {trt.__version__} does not start: {error}",
        field="tensorrt",
        remedy="its log says why; driver, CUDA and TensorRT must be those of one JetPack, and the "
        "device needs free memory",
    )


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
