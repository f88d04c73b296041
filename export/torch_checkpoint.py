"""Reads PyTorch `.pth` state dicts into numpy arrays, without torch and without trusting pickle.

Both containers are read: the legacy one (a row of pickles, then the storages) and the zip archive
of torch 1.6 and later. The unpickler knows the few names that a state dict needs and refuses all
else.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ModelError

Array = NDArray[np.generic]

#: Numbers at the head of the legacy container (torch/serialization.py).
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

#: Operations of a pickle that keep an object at a place of its own choice.
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")

#: Storage types and the dtypes of their elements; bfloat16 is read as uint16 and widened.
_STORAGES: Mapping[str, str] = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}


@dataclass(frozen=True)
class _StorageType:
    name: str

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(_STORAGES[self.name])


@dataclass(frozen=True)
class _Storage:
    """A storage that a persistent id names; its elements may only be read later."""

    type: _StorageType
    key: str
    size: int


@dataclass(frozen=True)
class _Tensor:
    """A tensor as the pickle describes it: a strided view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Dict(dict[Any, Any]):
    """Stands for OrderedDict; the state that torch attaches (`_metadata`) is dropped."""

    def __setstate__(self, state: object) -> None:
        pass


def read_state_dict(path: Path) -> dict[str, Array]:
    """Read a file that `torch.save(module.state_dict(), path)` wrote.

    Args:
        path: a `.pth` or `.pt` file, legacy or zip, of a flat state dict.

    Returns:
        One array per key in the order of the file, owned by the caller. bfloat16 is widened to
        float32, all other dtypes are kept.

    Raises:
        ModelError: the file is missing, truncated or corrupt, is no state dict, or its pickle
            names anything that a state dict does not need.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        return _read_zip(path) if is_zip else _read_legacy(path.read_bytes())
    except ModelError as error:
        raise ModelError(
            error.problem,
            field=str(path),
            remedy=error.remedy or "fetch the file again; it has to be a saved state dict",
        ) from error
    except Exception as error:
        # A corrupt pickle can raise anything.
        raise ModelError(
            f"no readable PyTorch checkpoint ({type(error).__name__}: {error})",
            field=str(path),
            remedy="fetch the file again; it may be truncated",
        ) from error


class _Unpickler(pickle.Unpickler):
    """Unpickles a state dict whose names and persistent ids give our own small types only.

    `find_class` is the one door through which a pickle reaches code, and persistent ids are the
    one way to storages. Both hand out frozen data or bound methods, so that the pickle can neither
    call nor change anything of ours beyond this one reading.
    """

    def __init__(self, file: BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}
        self._check_memo(file)

    def _check_memo(self, file: BytesIO) -> None:
        """Refuse places of the memo that no pickle of this size can need.

        The unpickler makes room up to any place that is named: five bytes could ask for 64 GB.
        """
        start, size = file.tell(), file.getbuffer().nbytes
        for operation, argument, _ in pickletools.genops(file):
            if operation.name in _MEMO and isinstance(argument, int) and argument > size:
                raise ModelError(f"a pickle of {size} bytes that numbers {argument} objects")
        file.seek(start)

    def find_class(self, module_name: str, global_name: str, /) -> object:
        constructors: Mapping[tuple[str, str], Callable[..., object]] = {
            ("collections", "OrderedDict"): self._dict,
            ("torch", "Size"): self._size,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
        }
        constructor = constructors.get((module_name, global_name))
        if constructor is not None:
            return constructor
        if module_name == "torch" and global_name in _STORAGES:
            return _StorageType(global_name)
        raise ModelError(
            f"the checkpoint asks for {module_name}.{global_name}, which no state dict needs",
            remedy="save it again with torch.save(module.state_dict(), path)",
        )

    def persistent_load(self, pid: object, /) -> _Storage:
        match pid:
            case ("storage", _StorageType() as kind, str() as key, str(), int() as size, *view):
                if any(part is not None for part in view):
                    raise ModelError(f"storage {key} is a view of another one")
                storage = _Storage(kind, key, size)
            case _:
                raise ModelError("a persistent id that is no storage")
        if size < 0 or self.storages.setdefault(key, storage) != storage:
            raise ModelError(f"storage {key} is described in two ways")
        return storage

    def _dict(self, items: Iterable[tuple[object, object]] = ()) -> _Dict:
        return _Dict(items)

    def _size(self, shape: object = ()) -> tuple[int, ...]:
        return _ints(shape, "shape")

    def _tensor(
        self, storage: object, offset: object, shape: object, stride: object, *_: object
    ) -> _Tensor:
        if not isinstance(storage, _Storage) or not isinstance(offset, int):
            raise ModelError("a tensor without a storage")
        return _Tensor(storage, offset, _ints(shape, "shape"), _ints(stride, "stride"))

    def _parameter(self, data: object, *_: object) -> object:
        return data


def _ints(values: object, what: str) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(isinstance(v, int) and v >= 0 for v in values):
        raise ModelError(f"a tensor of {what} {values!r}")
    return values


def _read_zip(path: Path) -> dict[str, Array]:
    """Read `<name>/data.pkl` and the storages `<name>/data/<key>`."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ModelError("a zip archive, but not one that torch.save wrote")
        root = pickles[0].removesuffix("data.pkl")
        order = _member(archive, f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        unpickler = _Unpickler(BytesIO(_member(archive, pickles[0])))
        state = unpickler.load()
        storages = {
            key: _elements(storage, _member(archive, f"{root}data/{key}"), order == b"little")
            for key, storage in unpickler.storages.items()
        }
    return _state_dict(state, storages)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    # torch stores without compression, so that nothing read can be larger than the file.
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ModelError(f"{name} is compressed, which torch.save never does")
    return archive.read(name)


def _read_legacy(data: bytes) -> dict[str, Array]:
    """Read magic, protocol, system info, state, storage keys, then the storages one by one."""
    file = BytesIO(data)
    magic, protocol, _ = (_Unpickler(file).load() for _ in range(3))
    if magic != _LEGACY_MAGIC or protocol != _LEGACY_PROTOCOL:
        raise ModelError("neither a zip archive nor a legacy PyTorch file")
    unpickler = _Unpickler(file)
    state = unpickler.load()
    storages: dict[str, Array] = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        # Sizes and elements are little-endian in this container, on whatever machine it was made.
        size = int.from_bytes(file.read(8), "little")
        if size != storage.size:
            raise ModelError(f"storage {key} has {size} elements instead of {storage.size}")
        content = file.read(size * storage.type.dtype.itemsize)
        storages[key] = _elements(storage, content, little=True)
    return _state_dict(state, storages)


def _elements(storage: _Storage, content: bytes, little: bool) -> Array:
    dtype = storage.type.dtype
    if len(content) != storage.size * dtype.itemsize:
        raise ModelError(f"storage {storage.key} is not {storage.size} elements long")
    return np.frombuffer(content, dtype.newbyteorder("<" if little else ">")).astype(dtype)


def _state_dict(state: object, storages: Mapping[str, Array]) -> dict[str, Array]:
    if not isinstance(state, dict):
        raise ModelError(f"holds a {type(state).__name__} instead of a state dict")
    arrays: dict[str, Array] = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ModelError(f"the entry {name!r} is no tensor, so this is no flat state dict")
        arrays[name] = _array(name, tensor, storages)
    return arrays


def _array(name: str, tensor: _Tensor, storages: Mapping[str, Array]) -> Array:
    """Copy a strided view out of its storage, after checking that it stays inside."""
    elements = storages.get(tensor.storage.key)
    shape, stride = tensor.shape, tensor.stride
    count = math.prod(shape)
    if elements is None or len(shape) != len(stride):
        raise ModelError(f"tensor {name} has no storage or no strides")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    # More elements than the storage holds would be an expanded tensor: a few bytes of file could
    # ask for terabytes.
    if count and (tensor.offset < 0 or last >= len(elements) or count > len(elements)):
        raise ModelError(f"tensor {name} of shape {list(shape)} reaches beyond its storage")
    if count == 0:
        view = np.empty(shape, elements.dtype)
    else:
        steps = [step * elements.itemsize for step in stride]
        view = np.lib.stride_tricks.as_strided(elements[tensor.offset :], shape, steps)
    if tensor.storage.type.name == "BFloat16Storage":
        return (view.astype(np.uint32) << 16).view(np.float32)
    return np.array(view, order="C")
