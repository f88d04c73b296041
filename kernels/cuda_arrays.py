"""The array kernels on a GPU through PyCUDA: same names and contracts as the twins on the CPU.

Inputs come from the host, results stay on the device for the engine that reads them. Everything is
queued on one stream and nothing waits, but where a kernel has to say whether its input was usable.

This file has not run on a GPU yet: tests go through it with a stand-in for PyCUDA that checks the
order and the arguments of launches, and the bodies of the kernels run in tests on the CPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bev_grid import (
    CELL_M,
    CHANNELS,
    PREVIOUS_SLICES_M,
    RANGE_M,
    SLICES_M,
    bev_parameters,
    cells_of,
    count_logarithms,
)
from .cuda import CUDA_SOURCES, compile_kernel
from .image_input import image_parameters, image_size, resize_tables
from .range_image import CHANNELS as RANGE_CHANNELS
from .range_image import range_parameters

#: Memory on the device, as PyCUDA hands it out: an address and what frees it.
DeviceMemory = Any

_THREADS = 256


class CudaArrays:
    """The kernels of one device, compiled for it; to be used from the thread of its context."""

    def __init__(self, folder: Path, driver: Any, device: Any, stream: Any) -> None:
        """Compile, or load what was compiled before.

        Args:
            folder: where compiled modules are kept.
            driver: the module `pycuda.driver`.
            device: a `pycuda.driver.Device`, whose context is current.
            stream: a `pycuda.driver.Stream`.

        Raises:
            RuntimeError: the sources cannot be compiled here.
        """
        self._driver, self._stream = driver, stream
        major, minor = device.compute_capability()
        self._modules = {
            name: driver.module_from_file(str(compile_kernel(name, f"sm_{major}{minor}", folder)))
            for name in CUDA_SOURCES
        }

    def range_image(
        self,
        points: NDArray[np.float32],
        height: int,
        width: int,
        fov_up_deg: float,
        fov_down_deg: float,
        *,
        intensity_max: float,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> DeviceMemory:
        """See `range_image.range_image`; float32 `[5, height, width]` on the device.

        Raises:
            ValueError: no point is usable.
        """
        points = np.ascontiguousarray(points, np.float32)
        parameters = range_parameters(
            height, width, fov_up_deg, fov_down_deg, intensity_max=intensity_max, mean=mean, std=std
        )
        parameters.stride = points.shape[1]
        size = height * width
        given, used = self._sent(points), self._sent(np.zeros(1, np.int32))
        winners = self._room(4 * size)
        image = self._room(4 * len(RANGE_CHANNELS) * size)
        self._launch("range_image", "range_image_clear", size, winners, np.int64(size))
        self._launch(
            "range_image",
            "range_image_claim",
            len(points),
            *(_value(parameters), given, np.int64(len(points)), winners, used),
        )
        self._launch(
            "range_image", "range_image_fill", size, _value(parameters), given, winners, image
        )
        if not self._read(used, np.zeros(1, np.int32))[0]:
            raise ValueError(f"none of the {len(points)} points is usable")
        return image

    def bev_grid(
        self,
        points: NDArray[np.float32],
        previous: NDArray[np.float32] | None = None,
        previous_s: float = 0.0,
        *,
        range_m: float = RANGE_M,
        cell_m: float = CELL_M,
    ) -> DeviceMemory:
        """See `bev_grid.bev_grid`; float32 `[12, cells, cells]` on the device."""
        cells = cells_of(range_m, cell_m)
        size = cells * cells
        grid = self._sent(np.zeros((len(CHANNELS), size), np.float32))
        self._add_sweep(points, SLICES_M, range_m, cell_m, grid, 0, None)
        if previous is not None:
            first = len(SLICES_M) - 1 + 4
            self._add_sweep(
                previous, PREVIOUS_SLICES_M, range_m, cell_m, grid, 4 * first * size, previous_s
            )
        return grid

    def _add_sweep(
        self,
        points: NDArray[np.float32],
        slices: tuple[float, ...],
        range_m: float,
        cell_m: float,
        grid: DeviceMemory,
        offset: int,
        seconds: float | None,
    ) -> None:
        points = np.ascontiguousarray(points, np.float32)
        parameters = bev_parameters(points.shape[1], slices, range_m, cell_m)
        size, levels = parameters.cells**2, parameters.levels
        logarithms = self._sent(count_logarithms(len(points)))
        arrays = [self._room(4 * size * levels), *(self._room(4 * size) for _ in range(3))]
        arrays.append(self._room(8 * size))
        value = _value(parameters)
        self._launch("bev_grid", "bev_grid_clear", size * levels, value, *arrays)
        self._launch(
            "bev_grid",
            "bev_grid_add",
            len(points),
            *(value, self._sent(points), np.int64(len(points)), *arrays),
        )
        self._launch(
            "bev_grid",
            "bev_grid_fill",
            size,
            *(value, np.int32(seconds is not None), np.float32(seconds or 0.0), logarithms),
            *arrays,
            np.uintp(int(grid) + offset),
        )

    def image_input(
        self,
        image: NDArray[np.uint8],
        encoding: str,
        height: int,
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        half: bool = False,
    ) -> DeviceMemory:
        """See `image_input.image_input`; `[3, height, width]` on the device."""
        image = np.ascontiguousarray(image)
        size = image_size(image, encoding)
        rows, columns = resize_tables(*size, height, width)
        parameters = image_parameters(
            image.strides[0], encoding, size, rows, columns, mean, std, half
        )
        middle = self._room(4 * 3 * height * parameters.all_columns)
        result = self._room((2 if half else 4) * 3 * height * width)
        value = _value(parameters)
        self._launch(
            "image_input",
            "image_input_rows",
            height * parameters.all_columns,
            value,
            *(self._sent(a) for a in (image, rows.starts, rows.weights)),
            middle,
        )
        self._launch(
            "image_input",
            "image_input_columns",
            height * width,
            value,
            middle,
            *(self._sent(a) for a in (columns.starts, columns.weights)),
            result,
        )
        return result

    def prefix_pack(
        self, parameters: ctypes.Structure, source: DeviceMemory, gates: DeviceMemory, target: Any
    ) -> None:
        """See `prefix_pack.prefix_pack`; everything lies on the device already.

        Args:
            parameters: of `prefix_pack.pack_parameters`.
            source: keys or values, as a connection's engine gives them.
            gates: float32 `[blocks, rows]`.
            target: the tail's buffer.
        """
        sizes = ("blocks", "heads", "questions", "rows", "head_dim")
        count = int(np.prod([getattr(parameters, name) for name in sizes], dtype=np.int64))
        self._launch("prefix_pack", "prefix_pack", count, _value(parameters), source, gates, target)

    def token_states(
        self, parameters: ctypes.Structure, tokens: DeviceMemory, states: DeviceMemory
    ) -> None:
        """See `token_rows.token_states`; everything lies on the device already.

        Args:
            parameters: `token_rows.TokenParameters`, of which `rows` is the number of tokens.
            tokens: of an encoder.
            states: int32 `[tokens]`.
        """
        count = int(parameters.rows)  # pyright: ignore[reportAttributeAccessIssue]
        self._launch("token_rows", "token_states", count, _value(parameters), tokens, states)

    def token_rows(
        self,
        parameters: ctypes.Structure,
        tokens: DeviceMemory,
        offsets: DeviceMemory,
        chosen: DeviceMemory,
        product: tuple[DeviceMemory, DeviceMemory] | None,
        result: DeviceMemory,
    ) -> None:
        """See `token_rows.token_rows`; everything lies on the device already.

        Args:
            parameters: of `token_rows.token_parameters`.
            tokens: of an encoder.
            offsets: of the sensor.
            chosen: int64 `[rows]`.
            product: weights and bias, or None.
            result: float32 `[rows, columns]`.
        """
        count = int(np.prod([getattr(parameters, name) for name in ("rows", "columns")]))
        weights = (np.uintp(0), np.uintp(0)) if product is None else product
        self._launch(
            "token_rows",
            "token_rows",
            count,
            *(_value(parameters), tokens, offsets, chosen, *weights, result),
        )

    def top_rows(
        self,
        parameters: ctypes.Structure,
        states: DeviceMemory,
        table: DeviceMemory,
        scales: DeviceMemory | None,
        allowed: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `top_rows.top_rows`; states and table lie on the device, places come to the host.

        Args:
            parameters: of `top_rows.top_parameters`.
            states: of the tail.
            table: of the vocabulary.
            scales: of the table, or None.
            allowed: rows of the table.
        """
        of = {name: int(getattr(parameters, name)) for name in ("states", "allowed", "best")}
        count, wanted = of["states"] * of["allowed"], (of["states"], of["best"])
        scores = self._room(4 * count)
        best_scores, best = (self._room(size * wanted[0] * wanted[1]) for size in (4, 8))
        value = _value(parameters)
        no_scales = np.uintp(0) if scales is None else scales
        self._launch(
            "top_rows",
            "top_rows_score",
            count,
            *(value, states, table, no_scales, self._sent(allowed), scores),
        )
        self._launch("top_rows", "top_rows_choose", count, value, scores, best_scores, best)
        places = self._read(best, np.empty(wanted, np.int64))
        return places, self._read(best_scores, np.empty(wanted, np.float32))

    def _launch(self, module: str, kernel: str, count: int, *arguments: Any) -> None:
        if count:
            self._modules[module].get_function(kernel)(
                *arguments,
                block=(_THREADS, 1, 1),
                grid=(-(-count // _THREADS), 1),
                stream=self._stream,
            )

    def _room(self, size: int) -> DeviceMemory:
        return self._driver.mem_alloc(max(size, 1))

    def _sent(self, array: NDArray[Any]) -> DeviceMemory:
        memory = self._room(array.nbytes)
        if array.nbytes:
            self._driver.memcpy_htod_async(memory, np.ascontiguousarray(array), self._stream)
        return memory

    def _read(self, memory: DeviceMemory, into: NDArray[Any]) -> NDArray[Any]:
        self._driver.memcpy_dtoh_async(into, memory, self._stream)
        self._stream.synchronize()
        return into


def _value(parameters: ctypes.Structure) -> np.void:
    """A structure that PyCUDA passes by value."""
    size = ctypes.sizeof(parameters)
    return np.frombuffer(bytes(parameters), dtype=np.dtype((np.void, size)))[0]
