"""The ONNX Runtime back end on the CPU: the default engine of a machine without a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ..engine import Array, TensorSpec
from ..errors import DeviceMemoryError, EngineError
from ..worker_cpus import affinities

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}


#: What ONNX Runtime, its arena and CUDA (`cudaErrorMemoryAllocation`) say when memory is used up.
_NO_MEMORY = (
    "failed to allocate memory",
    "smaller than requested bytes",
    "out of memory",
    "outofmemory",
    "bad_alloc",
    "bad allocation",
)


#: Name of a provider of ONNX Runtime, alone or with its options.
Provider = str | tuple[str, dict[str, Any]]


class OnnxRuntimeEngine:
    """One graph in one ONNX Runtime session on the CPU."""

    device = "cpu"

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        providers: Sequence[Provider] = ("CPUExecutionProvider",),
        as_written: bool = False,
        keeps_memory: bool = True,
    ) -> None:
        """Load the graph at `path`.

        Args:
            path: an `.onnx` file; large constants may lie beside it.
            threads: threads of one run.
            providers: of ONNX Runtime, the most wanted first.
            as_written: run the operators one by one as the graph has them, without fusions.
            keeps_memory: whether what a run needs is kept for the next one; without it, large
                batches are slower and the process is smaller.

        Raises:
            EngineError: the graph is missing, corrupt, or uses what this ONNX Runtime lacks.
        """
        self._path = path
        options = session_options(threads)
        options.enable_cpu_mem_arena = keeps_memory
        if as_written:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            # Its own way to the CPU is not taken: it prints a line, and nobody is told.
            self._session: ort.InferenceSession | None = ort.InferenceSession(
                str(path), options, providers=list(providers), enable_fallback=0
            )
        except Exception as error:
            raise _kind_of(error)(
                f"ONNX Runtime {ort.__version__} cannot load the engine: {error}",
                field=str(path),
                remedy="remove the file, it is then built again",
            ) from error
        self._check_first(providers[0])
        self.input_specs: Sequence[TensorSpec] = tuple(map(_spec, self._session.get_inputs()))
        self.output_specs: Sequence[TensorSpec] = tuple(map(_spec, self._session.get_outputs()))
        self._output_names = [spec.name for spec in self.output_specs]

    def _check_first(self, wanted: Provider) -> None:
        """Refuse a session without the provider that was wanted most.

        Raises:
            EngineError: ONNX Runtime left it out, which it tells in its log alone.
        """
        name = wanted if isinstance(wanted, str) else wanted[0]
        used = self.session.get_providers()
        if name not in used:
            self.close()
            raise does_not_start(name, f"it would take {used[0]} for {self._path.name}")

    @property
    def session(self) -> ort.InferenceSession:
        """The session itself, for callers that bind buffers."""
        if self._session is None:
            raise EngineError("the engine is closed", field=str(self._path), remedy="load it again")
        return self._session

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph once; see `Engine.run`."""
        try:
            values = self.session.run(self._output_names, dict(inputs))
        except EngineError:
            raise
        except Exception as error:
            raise _kind_of(error)(f"the engine failed: {error}", field=self._path.name) from error
        return dict(zip(self._output_names, map(np.asarray, values), strict=True))

    def bind(self, buffers: Mapping[str, Array]) -> OnnxRuntimeBinding:
        """Prepare runs on fixed buffers; see `Engine.bind`."""
        inputs = {spec.name for spec in self.input_specs}
        return OnnxRuntimeBinding(self.session, inputs, buffers, self._path.name)

    def close(self) -> None:
        """Free the session."""
        self._session = None


def does_not_start(provider: str, why: str) -> EngineError:
    """The error of a provider that ONNX Runtime has and does not start."""
    return EngineError(
        f"ONNX Runtime {ort.__version__} does not start {provider} here: {why}",
        field="backend",
        remedy="it needs a driver and CUDA, cuDNN or TensorRT of the versions that it was built "
        "for; onnxruntime-cpu needs none of them",
    )


class OnnxRuntimeBinding:
    """A session with its inputs and outputs bound to numpy buffers."""

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: set[str],
        buffers: Mapping[str, Array],
        name: str,
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._inputs = inputs
        self._name = name
        # The binding keeps addresses only, so the arrays must live as long as it does.
        self._buffers: dict[str, Array] = {}
        for name_of_value, buffer in buffers.items():
            self.rebind(name_of_value, buffer)

    def rebind(self, name: str, buffer: Array) -> None:
        """Exchange one buffer; see `BoundRun.rebind`."""
        if not buffer.flags.c_contiguous:
            raise EngineError("the buffer is not contiguous", field=name, remedy="copy it")
        self._buffers[name] = buffer
        bind = self._binding.bind_input if name in self._inputs else self._binding.bind_output
        bind(name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)

    def run(self) -> None:
        """Run the graph; see `BoundRun.run`."""
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            raise _kind_of(error)(f"the engine failed: {error}", field=self._name) from error


def session_options(threads: int) -> ort.SessionOptions:
    """Session options for one of several engines that take turns on the same cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Engines take turns: a pool that spins after its run would steal the next engine's core.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    where = affinities(threads)
    if where is not None:
        options.add_session_config_entry("session.intra_op_thread_affinities", where)
    return options


def _kind_of(error: Exception) -> type[EngineError]:
    """What an exception of ONNX Runtime is; it tells used up memory from others only in words."""
    text = str(error).lower()
    return DeviceMemoryError if any(words in text for words in _NO_MEMORY) else EngineError


def _spec(argument: ort.NodeArg) -> TensorSpec:
    shape = tuple(d if isinstance(d, int) else -1 for d in argument.shape)
    kind = str(argument.type)
    return TensorSpec(str(argument.name), shape, _DTYPES.get(kind, kind))
