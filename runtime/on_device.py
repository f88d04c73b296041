"""Arrays that stay in a device's memory between engines, as the runtime sees them.

The runtime hands them on like arrays of numpy. Where something reads one with numpy it is copied to
the host, so that whoever knows nothing of devices is right all the same, and slower. What makes
them is a back end (`backends/device_arrays.py`); nothing here needs a device.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..kernels.token_rows import BROKEN_TOKEN
from .engine import Array, Engine

Float = NDArray[np.float32]


@runtime_checkable
class OnDevice(Protocol):
    """An array on a device, or a part of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def device(self) -> ArrayDevice:
        """Where it lies."""
        ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """A copy on the host."""
        ...

    def __getitem__(self, index: Any) -> Any: ...


class ArrayDevice(Protocol):
    """What a device does with arrays that stay there; each is queued behind what was before it."""

    def token_states(self, tokens: OnDevice) -> NDArray[np.int32]:
        """See `kernels.token_rows.token_states`; `[batch, tokens]`, copied to the host.

        What was asked for before is remembered with the array.
        """
        ...

    def split(self, tokens: OnDevice) -> list[Any]:
        """Tokens `[batch, tokens, width]` of a batch, frame by frame; without a copy."""
        ...

    def token_rows(
        self, tokens: OnDevice, offsets: Float, weights: Float | None, bias: Float | None
    ) -> Any:
        """See `kernels.token_rows.token_rows`, of all tokens that are not zero.

        Offsets, weights and bias are kept on the device as long as the arrays live, so nobody may
        write into them.
        """
        ...

    def joined(self, parts: Sequence[Any]) -> Any:
        """Rows `[rows, columns]` of the host or the device, one behind the other."""
        ...

    def pack(
        self, parts: Sequence[tuple[Any, Float]], kv_heads: int, head_dim: int, depth: int
    ) -> Any:
        """See `kernels.prefix_pack.prefix_pack`.

        Args:
            parts: what an engine gave, `[questions, rows, blocks * kv_heads * head_dim]`, of which
                the last `depth` blocks count (one block serves all), with gates
                `[depth, rows]`; all parts have as many questions.
            kv_heads: of the language model.
            head_dim: of it.
            depth: blocks of the result.

        Returns:
            `[depth, kv_heads, rows, head_dim]`: the parts one after the other, in each the
            questions one after the other.
        """
        ...

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """Float32 zeros, made once and the same for all who ask; nobody may write into them."""
        ...


def is_on_device(array: Any) -> TypeGuard[OnDevice]:
    """Whether an array lies on a device; numpy's do not."""
    return not isinstance(array, np.ndarray | np.generic) and isinstance(array, OnDevice)


def is_broken(tokens: OnDevice) -> bool:
    """Whether tokens hold a number that is not finite."""
    return bool((tokens.device.token_states(tokens) == BROKEN_TOKEN).any())


def on_host(arrays: Mapping[str, Any]) -> dict[str, Array]:
    """The same arrays, all of them on the host."""
    return {name: np.asarray(array) for name, array in arrays.items()}


def run_keeping(
    engine: Engine,
    inputs: Mapping[str, Any],
    keep: Collection[str],
    constant: Collection[str] = (),
) -> dict[str, Any]:
    """Run an engine whose inputs may lie on its device, and whose results may stay there.

    Args:
        engine: any; one that keeps nothing gets and gives arrays of numpy.
        inputs: see `Engine.run`, or on a device.
        keep: outputs that stay on the device, if the engine has one.
        constant: inputs that nobody writes into; they are sent once for as long as they live.
    """
    run = getattr(engine, "run_keeping", None)
    if run is None:
        return dict(engine.run(on_host(inputs)))
    return run(inputs, keep, constant)


def consecutive(parts: Sequence[Any], axis: int) -> Any | None:
    """The array on a device that these are the consecutive parts of along an axis, else None."""
    bases = {id(getattr(part, "base", None)) for part in parts}
    if len(bases) != 1 or not all(is_on_device(part) for part in parts):
        return None
    base, at = getattr(parts[0], "base", None), 0
    if base is None:
        return None
    for part in parts:
        if part.span != (axis, at, at + part.shape[axis]):
            return None
        at += part.shape[axis]
    return base if at == base.shape[axis] else None


class ReadWhenAsked(Mapping[int, Any]):
    """Pairs of arrays that are copied to the host when somebody asks for them, once.

    Attributes:
        pairs: by block, where they lie.
    """

    def __init__(self, pairs: Mapping[int, tuple[Any, Any]]) -> None:
        """Nothing is copied yet.

        Args:
            pairs: by block, on a device or on the host.
        """
        self.pairs = dict(pairs)

    def __getitem__(self, block: int) -> tuple[Array, Array]:
        first, second = self.pairs[block]
        if is_on_device(first) or is_on_device(second):
            self.pairs[block] = (np.asarray(first), np.asarray(second))
        return self.pairs[block]

    def __iter__(self) -> Iterator[int]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


def where_they_lie(pairs: Mapping[int, Any]) -> dict[int, Any]:
    """The pairs of a mapping, without copying what lies on a device."""
    return dict(pairs.pairs if isinstance(pairs, ReadWhenAsked) else pairs)
