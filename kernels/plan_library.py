"""The compiled kernels of decisions: `plan_choice.c` behind ctypes.

`plan_logits.py`, `plan_choice.py` and `plan_steps.py` take it as an argument and go without where
there is none; the results are the same bits. Where libraries are kept is for the caller to say, see
`runtime/compiled_kernels.py`.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from numpy.typing import NDArray

from . import native

#: The file to compile.
SOURCES = (Path(native.__file__).with_name("plan_choice.c"),)

_ADDRESS, _COUNT = ctypes.c_void_p, ctypes.c_int64

#: Arguments and result, by function.
_FUNCTIONS: dict[str, tuple[list[type], type | None]] = {
    "plan_logits": ([*[_COUNT] * 4, *[_ADDRESS] * 8], None),
    "plan_best": ([_ADDRESS, ctypes.c_double, *[_ADDRESS] * 3], _COUNT),
    "plan_shares": ([_ADDRESS] * 2, None),
    "plan_steps": ([_ADDRESS, *[_COUNT] * 2, *[ctypes.c_double] * 2, _ADDRESS], _COUNT),
}


class PlanLibrary:
    """The functions of `plan_choice.c`; each may run in several threads at once."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name, (arguments, result) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.argtypes = arguments
            function.restype = result
        self.logits = library.plan_logits
        self.best = library.plan_best
        self.shares = library.plan_shares
        self.steps = library.plan_steps


def load_plans(folder: Path, machine: str) -> tuple[PlanLibrary | None, str]:
    """Compile the kernels of decisions, or load what was compiled before.

    Args:
        folder: where libraries are kept; made if missing.
        machine: see `native.load_native`.

    Returns:
        The library and how it was made, or None and why there is none.
    """
    library, reason = native.load_native(SOURCES, folder, machine, native.EXACT)
    return (None if library is None else PlanLibrary(library)), reason


def address_of(array: NDArray) -> int:
    """Where an array begins, several times as fast as numpy says it.

    Raises:
        TypeError: it is not contiguous or not writable.
    """
    return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
