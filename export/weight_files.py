"""Safetensors files read and written array by array, so that a large one is never in memory whole.

The format is a length, a JSON header and the arrays one after another
(https://github.com/huggingface/safetensors); the library itself wants all arrays at once.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import PackError

Float = NDArray[np.float32]

_LENGTH = struct.Struct("<Q")
#: As the library bounds it.
_MOST_HEADER_BYTES = 100_000_000


class StoredWeights(Mapping[str, Float]):
    """The arrays of a file; each is read when it is asked for, and not kept."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            PackError: the file cannot be read, or holds something other than float32.
        """
        self._path = path
        self._places: dict[str, tuple[tuple[int, ...], int]] = {}
        try:
            with path.open("rb") as file:
                (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
                if length > _MOST_HEADER_BYTES:
                    raise ValueError(f"a header of {length} bytes")
                header = json.loads(file.read(length))
            for name, one in header.items():
                if name == "__metadata__":
                    continue
                if one["dtype"] != "F32":
                    raise ValueError(f"'{name}' is {one['dtype']}, not F32")
                begin = _LENGTH.size + length + int(one["data_offsets"][0])
                self._places[name] = (tuple(map(int, one["shape"])), begin)
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise PackError(
                f"the weights cannot be read: {error}",
                field=str(path),
                remedy="copy the pack again",
            ) from error

    def shape(self, name: str) -> tuple[int, ...]:
        """Of an array, which is not read for it."""
        return self._places[name][0]

    def __getitem__(self, name: str) -> Float:
        shape, begin = self._places[name]
        count = int(np.prod(shape, dtype=np.int64))
        array = np.fromfile(self._path, "<f4", count, offset=begin)
        if len(array) != count:
            raise PackError(
                "the file ends before its arrays do",
                field=f"{self._path}: {name}",
                remedy="copy the pack again",
            )
        return array.reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True)
class LaterArray:
    """An array that is made when it is written.

    Attributes:
        shape: of it.
        make: makes it, float32.
    """

    shape: tuple[int, ...]
    make: Callable[[], Float]


@dataclass(frozen=True)
class WeightFile:
    """A file whose arrays are made one by one, the same each time.

    Attributes:
        arrays: by name, in the order in which they lie.
    """

    arrays: Mapping[str, LaterArray]

    def chunks(self) -> Iterator[bytes]:
        """The file, a piece at a time."""
        header: dict[str, object] = {}
        end = 0
        for name, one in self.arrays.items():
            begin, end = end, end + 4 * int(np.prod(one.shape, dtype=np.int64))
            header[name] = {"dtype": "F32", "shape": one.shape, "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        # Arrays begin at multiples of eight bytes, as the library has it.
        text += b" " * (-len(text) % 8)
        yield _LENGTH.pack(len(text)) + text
        for name, one in self.arrays.items():
            array = one.make()
            if array.shape != one.shape:
                raise ValueError(f"{name} is {array.shape}, not {one.shape}")
            yield np.ascontiguousarray(array, "<f4").tobytes()
