"""The CUDA sources through nvcc where it is, and how their kernels are launched.

Nothing here runs on a GPU. What a thread computes is tested in `test_array_twins.py` and its
neighbours; that a grid of threads does the same has to be shown on a device.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.kernels import cuda
from tailwire.kernels.cuda import (
    CUDA_SOURCES,
    JETSON_ARCHITECTURES,
    compile_kernel,
    compile_ready,
    find_nvcc,
)
from tailwire.kernels.cuda_arrays import CudaArrays
from tailwire.kernels.prefix_pack import pack_parameters
from tailwire.kernels.token_rows import TokenParameters
from tailwire.kernels.top_rows import top_parameters

needs_nvcc = pytest.mark.skipif(
    find_nvcc() is None, reason="there is no nvcc (CUDA toolkit, or PyPI's nvidia-cuda-nvcc)"
)


@needs_nvcc
@pytest.mark.parametrize("architecture", JETSON_ARCHITECTURES)
@pytest.mark.parametrize("name", CUDA_SOURCES)
def test_every_source_compiles_for_every_jetson(
    tmp_path: Path, name: str, architecture: str
) -> None:
    module = compile_kernel(name, architecture, tmp_path)
    assert module.read_bytes()[:4] == b"\x7fELF"
    made = module.stat().st_mtime_ns
    assert compile_kernel(name, architecture, tmp_path) == module
    assert module.stat().st_mtime_ns == made
    assert [path.name for path in tmp_path.iterdir()] == [module.name]


@needs_nvcc
def test_an_architecture_that_the_compiler_does_not_know_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"range_image\.cu for sm_10"):
        compile_kernel("range_image", "sm_10", tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_compiler_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "find_nvcc", lambda: None)
    with pytest.raises(RuntimeError, match="apt install cuda-nvcc"):
        compile_kernel("range_image", "sm_87", tmp_path)


@needs_nvcc
def test_a_machine_without_a_compiler_takes_modules_that_lie_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    made = compile_ready(ready, ["sm_87"])
    assert len(made) == len(CUDA_SOURCES) and sorted(ready.iterdir()) == sorted(made)
    monkeypatch.setenv("TAILWIRE_KERNELS", str(ready))
    monkeypatch.setattr(cuda, "find_nvcc", lambda: None)
    kept = tmp_path / "kept"
    assert {compile_kernel(name, "sm_87", kept) for name in CUDA_SOURCES} == set(made)
    assert not kept.exists()
    # Those of another architecture, or of other sources, are not taken.
    with pytest.raises(RuntimeError, match="no nvcc was found"):
        compile_kernel("range_image", "sm_110", kept)
    monkeypatch.setattr(cuda, "FLAGS", (*cuda.FLAGS, "-lineinfo"))
    with pytest.raises(RuntimeError, match="no nvcc was found"):
        compile_kernel("range_image", "sm_87", kept)


def signatures(name: str) -> dict[str, list[str]]:
    """Types of the arguments of the kernels of a source, as they are written there."""
    text = Path(cuda.__file__).with_name(f"{name}.cu").read_text()
    found = re.findall(r"__global__ void (\w+)\((.*?)\)", text, re.DOTALL)
    return {
        kernel: [
            " ".join(part.split()[:-1]) + "*" * part.count("*") for part in arguments.split(",")
        ]
        for kernel, arguments in found
    }


class FakeDriver:
    """Stands in for `pycuda.driver`: gives out addresses and writes down launches."""

    class Memory:
        def __init__(self, address: int, size: int) -> None:
            self.address, self.size = address, size

        def __int__(self) -> int:
            return self.address

    def __init__(self, read: int) -> None:
        self.launched: list[tuple[str, tuple[Any, ...], int]] = []
        self._next, self._read = 4096, read

    def mem_alloc(self, size: int) -> Memory:
        self._next += size
        return self.Memory(self._next, size)

    def memcpy_htod_async(self, memory: Memory, array: np.ndarray, stream: object) -> None:
        assert array.nbytes <= memory.size

    def memcpy_dtoh_async(self, array: np.ndarray, memory: Memory, stream: object) -> None:
        assert array.nbytes == memory.size
        array[...] = self._read

    def module_from_file(self, path: str) -> FakeModule:
        return FakeModule(self, path)


class FakeModule:
    def __init__(self, driver: FakeDriver, path: str) -> None:
        self._driver, self._kernels = driver, signatures(path)

    def get_function(self, name: str) -> Any:
        wanted = self._kernels[name]

        def launch(*arguments: Any, block: Any, grid: Any, stream: Any) -> None:
            assert len(arguments) == len(wanted)
            for argument, kind in zip(arguments, wanted, strict=True):
                check_argument(argument, kind)
            self._driver.launched.append((name, arguments, block[0] * grid[0]))

        return launch


def check_argument(argument: Any, kind: str) -> None:
    if kind.endswith("*"):
        assert isinstance(argument, FakeDriver.Memory) or type(argument) is np.uintp, kind
    elif kind[0].isupper():
        assert isinstance(argument, np.void), kind
        # PyCUDA packs what follows behind it, aligned to 8 bytes.
        assert argument.dtype.itemsize % 8 == 0
    else:
        numbers = {"int64_t": np.int64, "int32_t": np.int32, "float": np.float32}
        assert type(argument) is numbers[kind]


class FakeStream:
    def synchronize(self) -> None: ...


class FakeDevice:
    def compute_capability(self) -> tuple[int, int]:
        return 8, 7


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver(read=1)


@pytest.fixture
def arrays(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CudaArrays:
    asked: list[tuple[str, str]] = []

    def compiled(name: str, architecture: str, folder: Path) -> Path:
        asked.append((name, architecture))
        return Path(name)

    monkeypatch.setattr("tailwire.kernels.cuda_arrays.compile_kernel", compiled)
    made = CudaArrays(tmp_path, driver, FakeDevice(), FakeStream())
    assert asked == [(name, "sm_87") for name in CUDA_SOURCES]
    return made


def names(driver: FakeDriver) -> list[str]:
    return [name for name, _, _ in driver.launched]


def test_range_images_clear_claim_and_fill(arrays: CudaArrays, driver: FakeDriver) -> None:
    points = np.ones((1000, 5), np.float32)
    image = arrays.range_image(points, 32, 64, 10.0, -30.0, intensity_max=255.0)
    assert image.size == 4 * 5 * 32 * 64
    assert names(driver) == ["range_image_clear", "range_image_claim", "range_image_fill"]
    threads = [threads for _, _, threads in driver.launched]
    assert threads[0] >= 32 * 64 and threads[1] >= 1000 and threads[2] >= 32 * 64


def test_a_cloud_without_a_usable_point_is_an_error(arrays: CudaArrays, driver: FakeDriver) -> None:
    driver._read = 0
    with pytest.raises(ValueError, match="none of the 2 points"):
        arrays.range_image(np.zeros((2, 4), np.float32), 4, 8, 10.0, -30.0, intensity_max=1.0)


def test_sweeps_from_above_add_the_earlier_one_behind(
    arrays: CudaArrays, driver: FakeDriver
) -> None:
    points = np.ones((10, 4), np.float32)
    grid = arrays.bev_grid(points, points, 0.5, range_m=8.0, cell_m=1.0)
    one = ["bev_grid_clear", "bev_grid_add", "bev_grid_fill"]
    assert names(driver) == 2 * one
    last = driver.launched[-1][1]
    assert (last[1], last[2]) == (1, np.float32(0.5))
    assert int(last[-1]) == int(grid) + 4 * 8 * 16 * 16


def test_pictures_take_two_passes(arrays: CudaArrays, driver: FakeDriver) -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    mean, std = (0.0,) * 3, (1.0,) * 3
    result = arrays.image_input(image, "bgr8", 15, 25, mean, std, half=True)
    assert result.size == 2 * 3 * 15 * 25
    assert names(driver) == ["image_input_rows", "image_input_columns"]


def test_prefixes_and_scores_stay_on_the_device(arrays: CudaArrays, driver: FakeDriver) -> None:
    source = np.zeros((2, 3, 4, 5, 8), np.float32)
    gates, target = np.zeros((2, 5), np.float32), np.zeros((2, 3, 20, 8), np.float32)
    memory = [driver.mem_alloc(8) for _ in range(3)]
    arrays.prefix_pack(pack_parameters(source, gates, target, 0), *memory)
    assert driver.launched[-1][2] >= source.size
    of_tokens = TokenParameters(rows=5, width=8, columns=3, product=1)
    arrays.token_states(of_tokens, memory[0], memory[1])
    first, second, third = memory
    arrays.token_rows(of_tokens, first, second, third, (first, second), third)
    arrays.token_rows(of_tokens, first, second, third, None, third)
    assert driver.launched[-2][2] >= 15 and driver.launched[-1][1][4] == 0
    states, table = np.zeros((2, 8), np.float32), np.zeros((9, 8), np.float32)
    allowed = np.arange(4)
    parameters = top_parameters(states, table, None, allowed, 3)
    places, scores = arrays.top_rows(parameters, memory[0], memory[1], None, allowed)
    assert places.shape == scores.shape == (2, 3) and places.dtype == np.int64
    made = ["prefix_pack", "token_states", "token_rows", "token_rows"]
    assert names(driver) == [*made, "top_rows_score", "top_rows_choose"]


@pytest.mark.parametrize("name", CUDA_SOURCES)
def test_structures_are_as_large_as_in_c(name: str, tmp_path: Path) -> None:
    from tailwire.kernels import (
        bev_grid,
        image_input,
        prefix_pack,
        range_image,
        token_rows,
        top_rows,
    )

    from .twins import C_COMPILER

    if C_COMPILER is None:
        pytest.skip("there is no C compiler")
    structure, kind = {
        "bev_grid": (bev_grid.BevParameters, "BevGrid"),
        "image_input": (image_input.ImageParameters, "ImageInput"),
        "prefix_pack": (prefix_pack.PackParameters, "PrefixPack"),
        "range_image": (range_image.RangeParameters, "RangeImage"),
        "token_rows": (token_rows.TokenParameters, "TokenRows"),
        "top_rows": (top_rows.TopParameters, "TopRows"),
    }[name]
    source = tmp_path / "size.c"
    header = Path(cuda.__file__).with_name(f"{name}.h")
    source.write_text(f'#include "{header}"\nint size(void) {{ return (int)sizeof({kind}); }}\n')
    library = tmp_path / "size.so"
    subprocess.run([C_COMPILER, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    assert ctypes.CDLL(str(library)).size() == ctypes.sizeof(structure)
