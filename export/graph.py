"""A small builder of ONNX graphs: nodes by operator name, constants as numpy arrays.

It knows no architectures. `export/llm_graphs.py` and the encoder builders describe theirs with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.generic]
Dim = int | str

#: Opset of every graph but those with 4-bit constants: understood by ONNX Runtime 1.17+ and by
#: TensorRT 10.3's parser.
OPSET = 20
#: The first one with 4-bit numbers and with scales per block; TensorRT 10's parser takes both.
INT4_OPSET = 21
#: The first one with `Attention`, and its version of the format; ONNX Runtime 1.23 runs it.
ATTENTION_OPSET, _ATTENTION_IR = 23, 11
CONTRIB = "com.microsoft"

_DTYPES: Mapping[str, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "bool": TensorProto.BOOL,
}

#: Constants of at least this many bytes are written beside the graph, so that they can be mapped.
_EXTERNAL_BYTES = 1024


class GraphBuilder:
    """Collects nodes and constants, then writes one ONNX model.

    Names are made unique by the builder; equal small constants are stored once. Its own names begin
    with a slash, so that they never meet the names of inputs and outputs.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._packed: list[onnx.TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Array] = {}
        self._interned: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0
        self._kinds: set[tuple[str, str]] = set()

    @property
    def name(self) -> str:
        """Of the graph."""
        return self._name

    def fresh(self, stem: str) -> str:
        """A value name that nobody uses yet."""
        self._count += 1
        return f"/{stem}/{self._count}"

    def input(self, name: str, dtype: str, shape: Sequence[Dim]) -> str:
        """Declare a graph input; a string dimension is free."""
        self._inputs.append(helper.make_tensor_value_info(name, _DTYPES[dtype], list(shape)))
        return name

    def output(self, value: str, name: str, dtype: str, shape: Sequence[Dim]) -> str:
        """Declare `value` as the graph output called `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _DTYPES[dtype], list(shape)))
        return name

    def declare_output(self, name: str, dtype: str, shape: Sequence[Dim]) -> str:
        """Declare a graph output that a node writes under this very name."""
        self._outputs.append(helper.make_tensor_value_info(name, _DTYPES[dtype], list(shape)))
        return name

    def constant(self, array: Array, stem: str = "const") -> str:
        """Add a constant tensor and return its name."""
        array = np.ascontiguousarray(array)
        if array.nbytes < _EXTERNAL_BYTES:
            key = (array.dtype.str, array.shape, array.tobytes())
            if key not in self._interned:
                self._interned[key] = self.fresh(stem)
                self._constants[self._interned[key]] = array
            return self._interned[key]
        name = self.fresh(stem)
        self._constants[name] = array
        return name

    def constant_int4(self, codes: NDArray[np.int8], stem: str = "codes") -> str:
        """Add a constant of 4-bit numbers, -8 to 7, two to a byte, and return its name."""
        name = self.fresh(stem)
        halves = codes.reshape(-1).view(np.uint8) & np.uint8(15)
        if len(halves) % 2:
            halves = np.append(halves, np.uint8(0))
        tensor = TensorProto()
        tensor.name, tensor.data_type = name, TensorProto.INT4
        tensor.dims.extend(codes.shape)
        tensor.raw_data = (halves[::2] | (halves[1::2] << np.uint8(4))).tobytes()
        self._packed.append(tensor)
        return name

    def ints(self, *values: int) -> str:
        """A constant int64 vector, e.g. a shape or axes."""
        return self.constant(np.asarray(values, dtype=np.int64), "ints")

    def scalar(self, value: float) -> str:
        """A constant float32 scalar."""
        return self.constant(np.asarray(value, dtype=np.float32), "scalar")

    def op(
        self,
        op_type: str,
        *inputs: str,
        domain: str = "",
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node with one output and return the output's name."""
        name = output or self.fresh(op_type.lower())
        self._kinds.add((domain, op_type))
        self._nodes.append(
            helper.make_node(op_type, list(inputs), [name], domain=domain, **attributes)
        )
        return name

    def multi(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str] | int,
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Add a node with several outputs; empty names mark outputs that nobody reads."""
        names = (
            [self.fresh(op_type.lower()) for _ in range(outputs)]
            if isinstance(outputs, int)
            else list(outputs)
        )
        self._kinds.add((domain, op_type))
        self._nodes.append(
            helper.make_node(op_type, list(inputs), names, domain=domain, **attributes)
        )
        return names

    def choose(
        self,
        condition: str,
        then: Callable[[], Sequence[str]],
        otherwise: Callable[[], Sequence[str]],
        outputs: Sequence[str],
    ) -> None:
        """Add two ways to compute float32 values, of which each run takes one.

        Args:
            condition: name of a bool scalar.
            then: adds the nodes of one way and returns its values, which must be fresh ones.
            otherwise: the same for the other way.
            outputs: names of the values.
        """
        around, branches = self._nodes, {}
        for key, make in (("then_branch", then), ("else_branch", otherwise)):
            self._nodes = []
            made = [
                helper.make_tensor_value_info(value, TensorProto.FLOAT, None) for value in make()
            ]
            branches[key] = helper.make_graph(self._nodes, self.fresh(key), [], made)
        self._nodes = around
        self._nodes.append(helper.make_node("If", [condition], list(outputs), **branches))

    def _opsets(self) -> list[onnx.OperatorSetIdProto]:
        domains = {domain for domain, _ in self._kinds}
        opset = ATTENTION_OPSET if self._attends else INT4_OPSET if self._packed else OPSET
        opsets = [helper.make_opsetid("", opset)]
        if CONTRIB in domains:
            opsets.append(helper.make_opsetid(CONTRIB, 1))
        return opsets

    @property
    def _attends(self) -> bool:
        """Whether there is an `Attention` of the standard."""
        return ("", "Attention") in self._kinds

    def build(self) -> onnx.ModelProto:
        """Return the model with all constants inside; for small graphs and tests."""
        constants = [numpy_helper.from_array(a, n) for n, a in self._constants.items()]
        return self._model([*constants, *self._packed])

    def save(self, path: Path) -> None:
        """Write `path` (the graph) and `path` with suffix `.bin` (large constants, 4096-aligned).

        The caller gives a folder that nobody reads yet; see `runtime/engine_store.py`.
        """
        data_path = path.with_suffix(".bin")
        constants: list[onnx.TensorProto] = []
        with data_path.open("wb") as data:
            for name, array in self._constants.items():
                if array.nbytes < _EXTERNAL_BYTES:
                    constants.append(numpy_helper.from_array(array, name))
                    continue
                data.write(b"\0" * (-data.tell() % 4096))
                constants.append(_external_tensor(name, array, data_path.name, data.tell()))
                data.write(array.data.cast("B"))
            packed = [self._written(tensor, data, data_path.name) for tensor in self._packed]
            data.flush()
            os.fsync(data.fileno())
        path.write_bytes(self._model([*constants, *packed]).SerializeToString())

    @staticmethod
    def _written(tensor: onnx.TensorProto, data: BinaryIO, location: str) -> onnx.TensorProto:
        """The tensor with its bytes in `data`."""
        data.write(b"\0" * (-data.tell() % 4096))
        written = TensorProto()
        written.CopyFrom(tensor)
        written.ClearField("raw_data")
        _set_external(written, location, data.tell(), len(tensor.raw_data))
        data.write(tensor.raw_data)
        return written

    def _model(self, constants: Sequence[onnx.TensorProto]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, initializer=list(constants)
        )
        model = helper.make_model(graph, opset_imports=self._opsets(), producer_name="tailwire")
        model.ir_version = _ATTENTION_IR if self._attends else 10 if self._packed else 9
        return model


def _external_tensor(name: str, array: Array, location: str, offset: int) -> onnx.TensorProto:
    tensor = TensorProto()
    tensor.name = name
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor.dims.extend(array.shape)
    _set_external(tensor, location, offset, array.nbytes)
    return tensor


def _set_external(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key = key
        entry.value = value
