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
from .native import ADDRESS, COUNT

#: The file to compile.
SOURCES = (Path(native.__file__).with_name("plan_choice.c"),)

_FUNCTIONS: native.Signatures = {
    "plan_logits": ([*[COUNT] * 4, *[ADDRESS] * 8], None),
    "plan_best": ([ADDRESS, ctypes.c_double, *[ADDRESS] * 3], COUNT),
    "plan_shares": ([ADDRESS] * 2, None),
    "plan_steps": ([ADDRESS, *[COUNT] * 2, *[ctypes.c_double] * 2, ADDRESS], COUNT),
}


class PlanLibrary:
    """The functions of `plan_choice.c`; each may run in several threads at once."""

    def __init__(self, library: ctypes.CDLL) -> None:
        native.declare(library, _FUNCTIONS)
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
