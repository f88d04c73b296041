"""Numpy's own threads stay out of the process while a runtime is open."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tailwire.runtime import blas_threads
from tailwire.runtime.blas_threads import OneThread


def _threads() -> set[int]:
    # Numpy's alone: a library that another package brings may have other limits.
    return {
        int(found["num_threads"])
        for found in threadpool_info()
        if found["user_api"] == "blas" and "numpy" in found["filepath"]
    }


def test_one_thread_while_any_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    if not _threads():
        pytest.skip("numpy's library of products tells no number of threads")
    # Runtimes of other tests may be open still.
    monkeypatch.setattr(blas_threads, "_open", [])
    monkeypatch.setattr(blas_threads, "_limits", [])
    with threadpool_limits(3, user_api="blas"):
        before = _threads()
        first, second = OneThread(), OneThread()
        assert _threads() == {1}
        first.close()
        first.close()
        assert _threads() == {1}
        second.close()
        assert _threads() == before
        third = OneThread()
        assert _threads() == {1}
        third.close()
    ones = np.ones((300, 300), np.float32)
    assert np.array_equal(ones @ ones, np.full((300, 300), 300, np.float32))
