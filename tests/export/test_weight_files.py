"""Safetensors written and read array by array, against the library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save_file

from tailwire.export.weight_files import LaterArray, StoredWeights, WeightFile
from tailwire.runtime.errors import PackError

ARRAYS = {
    "gate": np.arange(3, dtype=np.float32),
    "b.w1": np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(2.5, np.float32),
}


def test_the_library_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    file = WeightFile({n: LaterArray(a.shape, lambda a=a: a) for n, a in ARRAYS.items()})
    written = b"".join(file.chunks())
    assert written == b"".join(file.chunks())
    found = load(written)
    save_file(ARRAYS, tmp_path / "library.safetensors", {"made": "elsewhere"})
    stored = StoredWeights(tmp_path / "library.safetensors")
    assert found.keys() == set(stored) == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        np.testing.assert_array_equal(stored[name], array)
        assert stored.shape(name) == array.shape


def test_broken_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    for content in (b"", b"abc", b"\xff" * 64, (9).to_bytes(8, "little") + b"no JSON at"):
        path.write_bytes(content)
        with pytest.raises(PackError, match="cannot be read"):
            StoredWeights(path)
    save_file({"half": np.zeros(3, np.float16)}, path)
    with pytest.raises(PackError, match="not F32"):
        StoredWeights(path)
    save_file(ARRAYS, path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(PackError, match="ends before"):
        [StoredWeights(path)[name] for name in ARRAYS]
