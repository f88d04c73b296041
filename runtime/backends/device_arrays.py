"""Arrays in the memory of a CUDA device, through PyCUDA: what `runtime/on_device.py` describes.

All work of a process is queued on one stream, so memory that nobody holds any more may be handed
out again at once: what still runs on it was queued before. This file has not run on a GPU yet.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...kernels.prefix_pack import PackParameters
from ...kernels.token_rows import NO_TOKEN, TokenParameters, token_parameters
from ..engine import Array

if TYPE_CHECKING:
    from ...kernels.cuda_arrays import CudaArrays
    from .tensorrt_context import TensorRtContext

Float = NDArray[np.float32]

#: TensorRT and CUDA hand out and take memory in steps of these.
ALIGNMENT = 256


class Pool:
    """Memory of one device; what is given back is handed out again."""

    def __init__(self, context: TensorRtContext) -> None:
        """Hold nothing yet.

        Args:
            context: that allocates.
        """
        self._context = context
        self._free: dict[int, list[Any]] = {}

    def take(self, size: int) -> Block:
        """A block of at least so many bytes, returned when nobody holds it any more.

        Raises:
            DeviceMemoryError: there is no room.
        """
        # In powers of two, so that frames of many sizes share few kinds of blocks.
        whole = max(ALIGNMENT, 1 << max(size - 1, 0).bit_length())
        free = self._free.setdefault(whole, [])
        memory = free.pop() if free else self._context.room(whole)
        return Block(memory, free)

    def clear(self) -> None:
        """Free what nobody holds."""
        for free in self._free.values():
            free.clear()


class Block:
    """Memory that goes back to its pool with its last holder."""

    def __init__(self, memory: Any, free: list[Any]) -> None:
        self.address = int(memory)
        # Appending is one step of the interpreter, so any thread may let go of a block.
        weakref.finalize(self, free.append, memory).atexit = False


class DeviceTensor:
    """A contiguous array on the device; implements `OnDevice`."""

    def __init__(
        self,
        arrays: DeviceArrays,
        block: Block,
        offset: int,
        shape: tuple[int, ...],
        dtype: Any,
    ) -> None:
        self.device, self.block, self.offset = arrays, block, offset
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        #: See `ArrayDevice.token_states`.
        self.states: NDArray[np.int32] | None = None

    @property
    def address(self) -> int:
        return self.block.address + self.offset

    @property
    def memory(self) -> np.uintp:
        """Its address, as PyCUDA takes one."""
        return np.uintp(self.address)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("an array on a device is always copied to the host")
        found = self.device.read(self)
        return found if dtype is None else found.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> DeviceTensor | DevicePart:
        """A part: of the first axis without a copy, else one that is read as a whole."""
        if index is None:
            shape = (1, *self.shape)
            return DeviceTensor(self.device, self.block, self.offset, shape, self.dtype)
        if isinstance(index, int | np.integer):
            part = self[int(index) : int(index) + 1]
            assert isinstance(part, DeviceTensor)
            return DeviceTensor(self.device, part.block, part.offset, self.shape[1:], self.dtype)
        if isinstance(index, slice):
            start, stop, step = index.indices(self.shape[0])
            if step == 1:
                shape = (max(stop - start, 0), *self.shape[1:])
                row = self.nbytes // max(self.shape[0], 1)
                return DeviceTensor(
                    self.device, self.block, self.offset + start * row, shape, self.dtype
                )
        return DevicePart(self, index)


class DevicePart:
    """A part of an array on the device that does not lie in one piece; implements `OnDevice`."""

    def __init__(self, base: DeviceTensor, index: Any) -> None:
        self.base, self._index = base, index
        self.device, self.dtype = base.device, base.dtype
        # Of an array that takes no memory.
        self.shape = np.broadcast_to(np.zeros((), base.dtype), base.shape)[index].shape
        self.span = _span(base.shape, index)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(np.asarray(self.base)[self._index], dtype=dtype)

    def __getitem__(self, index: Any) -> Array:
        return np.asarray(self)[index]


def _span(shape: tuple[int, ...], index: Any) -> tuple[int, int, int] | None:
    """Axis, start and stop of a part that is whole along all other axes, else None."""
    if not isinstance(index, tuple) or not all(isinstance(one, slice) for one in index):
        return None
    cut = [
        (axis, *one.indices(shape[axis]))
        for axis, one in enumerate(index)
        if one.indices(shape[axis]) != (0, shape[axis], 1)
    ]
    if len(cut) > 1 or any(step != 1 for *_, step in cut):
        return None
    if cut:
        axis, start, stop, _ = cut[0]
        return axis, start, stop
    axis = len(index) - 1
    return axis, 0, shape[axis]


class DeviceArrays:
    """What the device of a context does with arrays; implements `ArrayDevice`."""

    def __init__(self, context: TensorRtContext, kernels: CudaArrays) -> None:
        """Work on a context.

        Args:
            context: whose stream and memory these are.
            kernels: compiled for its device.
        """
        self._context, self._kernels = context, kernels
        self._kept: dict[int, tuple[Any, DeviceTensor]] = {}
        self._zeros: dict[tuple[int, ...], DeviceTensor] = {}

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> DeviceTensor:
        """Memory for an array.

        Raises:
            DeviceMemoryError: there is no room.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return DeviceTensor(self, self._context.pool.take(size), 0, shape, dtype)

    def sent(self, array: Array) -> DeviceTensor:
        """A copy of an array of the host."""
        array = np.ascontiguousarray(array)
        made = self.empty(array.shape, array.dtype)
        if array.nbytes:
            self._context.send(made.memory, array)
        return made

    def kept(self, array: Array) -> DeviceTensor:
        """A copy that is made once for as long as the array lives."""
        found = self._kept.get(id(array))
        if found is not None and found[0]() is array:
            return found[1]
        made, key = self.sent(array), id(array)
        self._kept[key] = (weakref.ref(array, lambda _: self._kept.pop(key, None)), made)
        return made

    def give_back(self) -> None:
        """Forget what was only kept to be faster."""
        self._kept.clear()
        self._zeros.clear()

    def read(self, tensor: DeviceTensor) -> Array:
        """A copy on the host."""
        found = np.empty(tensor.shape, tensor.dtype)
        if found.nbytes:
            with self._context.active():
                self._context.fetch(found, tensor.memory)
                self._context.stream.synchronize()
        return found

    def zeros(self, shape: tuple[int, ...]) -> DeviceTensor:
        """See `ArrayDevice.zeros`."""
        with self._context.active():
            if shape not in self._zeros:
                self._zeros.clear()
                self._zeros[shape] = made = self.empty(shape)
                self._context.clear(made.memory, made.nbytes)
            return self._zeros[shape]

    def token_states(self, tokens: DeviceTensor) -> NDArray[np.int32]:
        """See `ArrayDevice.token_states`."""
        if tokens.states is None:
            *batch, count, width = tokens.shape
            total = count * int(np.prod(batch, dtype=np.int64))
            with self._context.active():
                states = self.empty((*batch, count), np.int32)
                parameters = TokenParameters(rows=total, width=width, columns=0, product=0)
                self._kernels.token_states(parameters, tokens.memory, states.memory)
                tokens.states = self.read(states)
        return tokens.states

    def split(self, tokens: DeviceTensor) -> list[DeviceTensor]:
        """Tokens `[batch, tokens, width]` by frame, with their states."""
        states, frames = self.token_states(tokens), []
        for place in range(len(tokens)):
            frame = tokens[place]
            assert isinstance(frame, DeviceTensor)
            frame.states = states[place]
            frames.append(frame)
        return frames

    def token_rows(
        self, tokens: DeviceTensor, offsets: Float, weights: Float | None, bias: Float | None
    ) -> DeviceTensor:
        """See `ArrayDevice.token_rows`."""
        chosen = np.flatnonzero(self.token_states(tokens) != NO_TOKEN).astype(np.int64)
        parameters = token_parameters(tokens.shape, offsets, chosen, weights, bias)
        with self._context.active():
            rows = self.empty((len(chosen), parameters.columns))  # pyright: ignore[reportAttributeAccessIssue]
            if len(chosen):
                product = None
                if weights is not None and bias is not None:
                    product = (self.kept(weights).memory, self.kept(bias).memory)
                self._kernels.token_rows(
                    parameters,
                    tokens.memory,
                    self.kept(offsets).memory,
                    self.sent(chosen).memory,
                    product,
                    rows.memory,
                )
        return rows

    def joined(self, parts: Sequence[Any]) -> DeviceTensor:
        """See `ArrayDevice.joined`."""
        if len(parts) == 1 and isinstance(parts[0], DeviceTensor):
            return parts[0]
        with self._context.active():
            made = self.empty((sum(part.shape[0] for part in parts), *parts[0].shape[1:]))
            at = 0
            for part in parts:
                place = made[at : at + part.shape[0]]
                assert isinstance(place, DeviceTensor)
                at += part.shape[0]
                if isinstance(part, DeviceTensor):
                    if part.nbytes:
                        self._context.copy(place.memory, part.memory, part.nbytes)
                elif part.size:
                    self._context.send(place.memory, np.ascontiguousarray(part))
        return made

    def pack(
        self, parts: Sequence[tuple[DeviceTensor, Float]], kv_heads: int, head_dim: int, depth: int
    ) -> DeviceTensor:
        """See `ArrayDevice.pack`."""
        block = kv_heads * head_dim
        total = sum(source.shape[0] * source.shape[1] for source, _ in parts)
        with self._context.active():
            target, first = self.empty((depth, kv_heads, total, head_dim)), 0
            for source, gates in parts:
                questions, rows, width = source.shape
                blocks = width // block
                # One block that serves all is read again and again.
                skipped = 0 if blocks == 1 else (blocks - depth) * block
                parameters = PackParameters(
                    blocks=depth,
                    heads=kv_heads,
                    questions=questions,
                    rows=rows,
                    head_dim=head_dim,
                    block_stride=0 if blocks == 1 else block,
                    head_stride=head_dim,
                    question_stride=rows * width,
                    row_stride=width,
                    capacity=total,
                    first=first,
                    half=False,
                )
                if questions * rows:
                    self._kernels.prefix_pack(
                        parameters,
                        np.uintp(source.address + 4 * skipped),
                        self.sent(gates).memory,
                        target.memory,
                    )
                first += questions * rows
        return target
