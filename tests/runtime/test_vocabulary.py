"""Vocabulary tables: exact rows, and clear words about broken files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from tailwire.runtime.errors import EngineError
from tailwire.runtime.vocabulary import VocabularyTable, write_table

if TYPE_CHECKING:
    from ..built_models import SmolLm2


def test_float_tables_come_back_bit_by_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((50, 48)).astype(np.float32)
    write_table(tmp_path / "table", values, None)
    table = VocabularyTable(tmp_path / "table")
    assert table.shape == (50, 48)
    assert table.nbytes == values.nbytes
    tokens = np.asarray([49, 0, 7, 7])
    np.testing.assert_array_equal(table.rows(tokens), values[tokens])
    assert table.rows(np.zeros(0, np.int64)).shape == (0, 48)


def test_smollm2_embeddings_are_the_files_own(smollm2: SmolLm2) -> None:
    """The file holds them as Q8_0, and dequantising is one product, so they must be exact."""
    stored = smollm2.tensors["token_embd.weight"]
    assert stored.tensor_type == gguf.GGMLQuantizationType.Q8_0
    tokens = np.asarray([0, 1, 2, 17, 4_000, 30_000, 49_151])
    expected = gguf.dequantize(stored.data[tokens], stored.tensor_type)
    for precision in ("fp32", "int8", "int4"):
        model = smollm2.model(precision)
        np.testing.assert_array_equal(model.embedding.rows(tokens), expected)
        np.testing.assert_array_equal(model.head_rows.rows(tokens), expected)


@pytest.fixture
def stem(tmp_path: Path) -> Path:
    """A quantised table of 4 rows of 64."""
    write_table(tmp_path / "table", np.ones((4, 64), np.int8), np.ones((4, 2), np.float32))
    return tmp_path / "table"


@pytest.mark.parametrize("name", ["table.npy", "table.scales.npy"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"garbage" * 50])
def test_broken_tables_are_named(stem: Path, name: str, content: bytes) -> None:
    (stem.parent / name).write_bytes(content)
    expect_refusal(stem)


def test_cut_off_tables_are_named(stem: Path) -> None:
    path = stem.with_suffix(".npy")
    path.write_bytes(path.read_bytes()[:-1])
    expect_refusal(stem)


@pytest.mark.parametrize(
    ("values", "scales"),
    [
        (np.ones((4, 64), np.int8), None),
        (np.ones((4, 64), np.int8), np.ones((3, 2), np.float32)),
        (np.ones((4, 64), np.int8), np.ones((4, 64), np.float32)),
        (np.ones(4, np.float32), None),
        (np.ones((), np.float32), None),
        (np.ones((4, 64), np.int64), None),
    ],
)
def test_tables_that_do_not_fit_their_scales_are_named(
    tmp_path: Path, values: np.ndarray, scales: np.ndarray | None
) -> None:
    write_table(tmp_path / "table", values, scales)
    expect_refusal(tmp_path / "table")


def test_missing_tables_are_named(tmp_path: Path) -> None:
    expect_refusal(tmp_path / "table")


def expect_refusal(stem: Path) -> None:
    with pytest.raises(EngineError) as caught:
        VocabularyTable(stem)
    assert caught.value.field == str(stem)
    assert "built again" in caught.value.remedy
