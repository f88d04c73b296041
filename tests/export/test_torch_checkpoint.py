"""Our reader of `.pth` files against torch, and against pickles that mean harm."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tailwire.export.torch_checkpoint import read_state_dict
from tailwire.runtime.errors import ModelError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def saved(path: Path, state: object, zipped: bool) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return path


def module() -> torch.nn.Module:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 8, 3, bias=False)
    return torch.nn.Sequential(convolution, torch.nn.BatchNorm2d(8), torch.nn.Linear(5, 2))


@FORMATS
def test_equals_what_torch_reads(tmp_path: Path, zipped: bool) -> None:
    state = module().state_dict()
    arrays = read_state_dict(saved(tmp_path / "m.pth", state, zipped))
    assert list(arrays) == list(state)
    for name, tensor in state.items():
        assert arrays[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(arrays[name], tensor.numpy())
        assert arrays[name].flags.writeable


@FORMATS
@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
    ],
    ids=str,
)
def test_dtypes(tmp_path: Path, zipped: bool, dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0.0, 1.5, -3.25], [7.0, 100.0, 0.0]]).to(dtype)
    arrays = read_state_dict(saved(tmp_path / "m.pth", {"a": tensor}, zipped))
    wanted = (tensor.float() if dtype == torch.bfloat16 else tensor).numpy()
    assert arrays["a"].dtype == wanted.dtype
    np.testing.assert_array_equal(arrays["a"], wanted)


@FORMATS
def test_views_of_one_storage(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(60.0).reshape(3, 4, 5)
    state = {
        "transposed": base.transpose(0, 2),
        "part": base[1:, ::2, 3],
        "scalar": base[2, 3, 4],
        "none": base[:0],
        "parameter": torch.nn.Parameter(base[0]),
    }
    arrays = read_state_dict(saved(tmp_path / "m.pth", state, zipped))
    for name, tensor in state.items():
        np.testing.assert_array_equal(arrays[name], tensor.detach().numpy())
    assert not np.shares_memory(arrays["transposed"], arrays["parameter"])


@FORMATS
def test_a_file_cut_anywhere_is_an_error(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "m.pth", module().state_dict(), zipped)
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError) as caught:
            read_state_dict(path)
        assert caught.value.field == str(path)
        assert caught.value.remedy


@FORMATS
@given(position=st.integers(0, 100_000), content=st.binary(min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_a_changed_file_gives_arrays_or_a_model_error(
    tmp_path_factory: pytest.TempPathFactory, zipped: bool, position: int, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"changed_{zipped}.pth"
    saved(path, {"a": torch.arange(12.0).reshape(3, 4)}, zipped)
    data = path.read_bytes()
    position %= len(data)
    path.write_bytes(data[:position] + content + data[position + len(content) :])
    try:
        arrays = read_state_dict(path)
    except ModelError:
        return
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


def test_a_missing_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.pth"):
        read_state_dict(tmp_path / "nowhere.pth")


class Harm:
    """Unpickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


@FORMATS
@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_that_calls_is_refused_and_not_run(
    tmp_path: Path, zipped: bool, inside: bool
) -> None:
    mark = tmp_path / "harmed"
    harm = Harm(os.system, f"touch {mark}")
    state = {"a": torch.zeros(2), "b": harm} if inside else harm
    path = saved(tmp_path / "m.pth", state, zipped)
    with pytest.raises(ModelError, match=rf"{os.system.__module__}\.system"):
        read_state_dict(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "function",
    [eval, exec, getattr, setattr, __import__, torch.load, torch.nn.Linear, np.frombuffer],
)
def test_only_the_names_of_a_state_dict_are_known(
    tmp_path: Path, function: Callable[..., object]
) -> None:
    path = tmp_path / "m.pth"
    path.write_bytes(pickle.dumps(Harm(function, "1"), protocol=2))
    with pytest.raises(ModelError, match="which no state dict needs"):
        read_state_dict(path)


@FORMATS
@pytest.mark.parametrize(
    "state",
    [
        [torch.zeros(2)],
        {"state_dict": {"a": torch.zeros(2)}, "epoch": 3},
        {"a": torch.zeros(2), "b": 1.0},
        {1: torch.zeros(2)},
        torch.zeros(2),
        OrderedDict(a=OrderedDict()),
    ],
    ids=["list", "nested", "number", "key", "tensor", "empty"],
)
def test_what_is_no_flat_state_dict_is_an_error(
    tmp_path: Path, zipped: bool, state: object
) -> None:
    with pytest.raises(ModelError, match="state dict"):
        read_state_dict(saved(tmp_path / "m.pth", state, zipped))


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x7f", b"p2147483647\n"])
def test_a_place_in_the_memo_cannot_ask_for_memory(tmp_path: Path, put: bytes) -> None:
    path = tmp_path / "memo.pth"
    # An empty dict, kept at a place that the unpickler would make room for: 32 GB.
    path.write_bytes(b"\x80\x02}" + put + b".")
    with pytest.raises(ModelError, match="numbers 2147483647 objects") as caught:
        read_state_dict(path)
    assert caught.value.field == str(path)


@FORMATS
def test_an_expanded_tensor_cannot_ask_for_memory(tmp_path: Path, zipped: bool) -> None:
    state = {"a": torch.zeros(1).expand(1 << 20, 1 << 20)}
    with pytest.raises(ModelError, match="beyond its storage"):
        read_state_dict(saved(tmp_path / "m.pth", state, zipped))


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pth", {"a": torch.zeros(2, 3)}, zipped=False)
    shape = b"K\x02K\x03\x86"
    data = path.read_bytes()
    assert data.count(shape) == 1
    path.write_bytes(data.replace(shape, b"K\x02K\x04\x86"))
    with pytest.raises(ModelError, match="beyond its storage"):
        read_state_dict(path)


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pth", {"a": torch.zeros(1000)}, zipped=True)
    squeezed = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ModelError, match="compressed"):
        read_state_dict(squeezed)
