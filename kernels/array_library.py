"""The compiled array kernels: `arrays.c` behind ctypes.

Kernels take it as an argument and go without where there is none; the results are the same bits.
Where libraries are kept is for the caller to say, see `runtime/compiled_kernels.py`.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from . import native
from .native import ADDRESS, COUNT, FLAG

_FOLDER = Path(native.__file__).parent

#: The file to compile, then what it includes.
SOURCES = tuple(
    _FOLDER / name
    for name in (
        "arrays.c",
        "bev_grid.h",
        "device.h",
        "image_input.h",
        "prefix_pack.h",
        "range_image.h",
        "token_rows.h",
        "top_rows.h",
    )
)

#: The first argument of each is the address of the parameters.
_FUNCTIONS: native.Signatures = {
    "array_range_image": ([*[ADDRESS] * 2, COUNT, *[ADDRESS] * 3], COUNT),
    "array_bev_grid_add": ([*[ADDRESS] * 2, COUNT, *[ADDRESS] * 5], COUNT),
    "array_bev_grid_fill": ([ADDRESS, FLAG, ctypes.c_float, *[ADDRESS] * 7], None),
    "array_image_input": ([*[ADDRESS] * 8, FLAG], None),
    "array_prefix_pack": ([*[ADDRESS] * 4, FLAG], None),
    "array_token_states": ([ADDRESS] * 3, None),
    "array_token_rows": ([ADDRESS] * 7, None),
    "array_top_rows": ([ADDRESS] * 8, None),
    "array_half": ([ADDRESS, COUNT, ADDRESS], None),
}


class ArrayLibrary:
    """The functions of `arrays.c`; each may run in several threads at once."""

    def __init__(self, library: ctypes.CDLL) -> None:
        native.declare(library, _FUNCTIONS)
        self.range_image = library.array_range_image
        self.bev_grid_add = library.array_bev_grid_add
        self.bev_grid_fill = library.array_bev_grid_fill
        self.image_input = library.array_image_input
        self.prefix_pack = library.array_prefix_pack
        self.token_states = library.array_token_states
        self.token_rows = library.array_token_rows
        self.top_rows = library.array_top_rows
        self.half = library.array_half


def load_arrays(folder: Path, machine: str) -> tuple[ArrayLibrary | None, str]:
    """Compile the array kernels, or load what was compiled before.

    Args:
        folder: where libraries are kept; made if missing.
        machine: see `native.load_native`.

    Returns:
        The library and how it was made, or None and why there is none.
    """
    library, reason = native.load_native(SOURCES, folder, machine, native.EXACT)
    return (None if library is None else ArrayLibrary(library)), reason
