# pyright: reportMissingImports=false
"""Shared memory of a process, as Linux writes it."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

pytest.importorskip("tailwire_ros", reason="`make test-ros` runs this")

from tailwire_ros.diagnostics import shared_memory_bytes


def test_as_it_is_written(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tnode\nVmRSS:\t  839544 kB\nRssShmem:\t   81928 kB\n")
    assert shared_memory_bytes(status) == 81928 * 1024
    for text in ("Name:\tnode\n", "RssShmem:\n"):
        status.write_text(text)
        assert shared_memory_bytes(status) is None
    assert shared_memory_bytes(tmp_path / "nowhere") is None


@pytest.mark.skipif(sys.platform != "linux", reason="proc(5) is Linux's")
def test_of_this_process() -> None:
    before = shared_memory_bytes()
    assert before is not None
    size = 32 << 20
    with mmap.mmap(-1, size) as shared:
        shared.write(b"\1" * size)
        after = shared_memory_bytes()
        assert after is not None
        # Counted with a small error per thread.
        assert size - (1 << 20) < after - before < size + (1 << 20)
