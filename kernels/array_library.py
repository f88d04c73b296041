"""The compiled array kernels: `arrays.c` behind ctypes.

Kernels take it as an argument and go without where there is none; the results are the same bits.
Where libraries are kept is for the caller to say, see `runtime/compiled_kernels.py`.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from . import native

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

_ADDRESS, _COUNT, _FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32

#: Arguments behind the address of the parameters, and result, by function.
_FUNCTIONS: dict[str, tuple[list[type], type | None]] = {
    "array_range_image": ([_ADDRESS, _COUNT, *[_ADDRESS] * 3], _COUNT),
    "array_bev_grid_add": ([_ADDRESS, _COUNT, *[_ADDRESS] * 5], _COUNT),
    "array_bev_grid_fill": ([_FLAG, ctypes.c_float, *[_ADDRESS] * 7], None),
    "array_image_input": ([*[_ADDRESS] * 7, _FLAG], None),
    "array_prefix_pack": ([*[_ADDRESS] * 3, _FLAG], None),
    "array_token_states": ([_ADDRESS] * 2, None),
    "array_token_rows": ([_ADDRESS] * 6, None),
    "array_top_rows": ([_ADDRESS] * 7, None),
    "array_half": ([_COUNT, _ADDRESS], None),
}


class ArrayLibrary:
    """The functions of `arrays.c`; each may run in several threads at once."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, (arguments, result) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.argtypes = [_ADDRESS, *arguments]
            function.restype = result
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
