"""The compiled kernels of this machine, made once per process."""

from __future__ import annotations

from functools import cache

from ..kernels.array_library import ArrayLibrary, load_arrays
from ..kernels.plan_library import PlanLibrary, load_plans
from .engine_key import machine_identity
from .errors import CacheError
from .files import cache_dir


@cache
def compiled_arrays() -> tuple[ArrayLibrary | None, str]:
    """Those of sensors and prefixes: the library and how it was made, or None and why not.

    Runs the machine's compiler for seconds if the cache has no library yet. Without a compiler the
    kernels run in numpy, with the same results.
    """
    try:
        folder = cache_dir() / "native"
    except CacheError as error:
        return None, str(error)
    return load_arrays(folder, machine_identity())


@cache
def compiled_plans() -> tuple[PlanLibrary | None, str]:
    """Those of decisions; as `compiled_arrays`."""
    try:
        folder = cache_dir() / "native"
    except CacheError as error:
        return None, str(error)
    return load_plans(folder, machine_identity())
