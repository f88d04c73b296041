"""Codes and scales: what a file holds is carried exactly, what is rounded stays in its bound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
import onnx
import pytest
from gguf import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

from tailwire.export.quantize import can_quantize, pack_int4, pack_int8, to_int4, to_int8
from tailwire.export.weights import (
    BLOCK,
    AffineBlocks,
    BlockMatrix,
    DenseMatrix,
    Linear,
    SymmetricBlocks,
    stack_biases,
    stack_rows,
    take_rows,
)
from tailwire.runtime.errors import ModelError

if TYPE_CHECKING:
    from ..built_models import SmolLm2

Float = NDArray[np.float32]

#: A Q4_1 block: float16 scale, float16 minimum, 32 codes in 16 bytes.
_Q4_1_BYTES = 20


def random_matrix(rows: int = 8, columns: int = 3 * BLOCK, seed: int = 0) -> Float:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def random_affine(rows: int = 8, blocks: int = 3, seed: int = 0) -> AffineBlocks:
    generator = np.random.default_rng(seed)
    scales = generator.uniform(0.01, 0.2, (rows, blocks)).astype(np.float32)
    # Values around zero, as weights have them: between 3 and 13 codes lie below it.
    zero = generator.uniform(3, 13, (rows, blocks)).astype(np.float32)
    codes = generator.integers(0, 16, (rows, blocks * BLOCK)).astype(np.uint8)
    return AffineBlocks(codes, scales, scales * (8 - zero))


def step_of_plain_rounding(dense: Float) -> Float:
    """What 8 bits over `[-max, max]` resolve, per block."""
    return np.abs(dense.reshape(dense.shape[0], -1, BLOCK)).max(axis=2) / 127


def errors(blocks: SymmetricBlocks, exact: Float) -> Float:
    """Largest error per block."""
    difference = np.abs(blocks.dense() - exact)
    return difference.reshape(exact.shape[0], -1, BLOCK).max(axis=2)


def file_codes(tensor: gguf.ReaderTensor) -> NDArray[np.uint8]:
    """Codes of a Q4_1 tensor: what `gguf` makes of it with all scales 1 and all minima 0."""
    raw = np.array(tensor.data).reshape(-1, _Q4_1_BYTES)
    raw[:, :4] = np.asarray([1, 0], np.float16).view(np.uint8)
    values = gguf.dequantize(raw.reshape(tensor.data.shape), GGMLQuantizationType.Q4_1)
    return values.astype(np.uint8)


@pytest.mark.parametrize("name", ["attn_v", "attn_output", "ffn_down"])
@pytest.mark.parametrize("block", [0, 17, 29])
def test_smollm2_codes_are_carried_exactly(smollm2: SmolLm2, name: str, block: int) -> None:
    tensor = smollm2.tensors[f"blk.{block}.{name}.weight"]
    assert tensor.tensor_type == GGMLQuantizationType.Q4_1
    ours = smollm2.checkpoint.block(block)
    layer = {"attn_v": ours.qkv, "attn_output": ours.output, "ffn_down": ours.ffn_out}[name]
    rows = tensor.data.shape[0]
    carried = to_int4(layer.weight)  # `attn_v` is the last part of `qkv`
    np.testing.assert_array_equal(carried.codes[-rows:], file_codes(tensor))
    exact = gguf.dequantize(tensor.data, tensor.tensor_type)
    # The same numbers, but for the order of one sum in float32.
    np.testing.assert_allclose(carried.dense()[-rows:], exact, atol=2e-7 * np.abs(exact).max())


def engine_constants(path: Path) -> dict[str, NDArray[np.generic]]:
    model = onnx.load(path)
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("name", ["attn_output", "ffn_down"])
def test_smollm2_int4_engines_hold_the_files_codes(smollm2: SmolLm2, name: str) -> None:
    """The codes in the graph that ONNX Runtime loads, unpacked by the operator's specification."""
    tensor = smollm2.tensors[f"blk.27.{name}.weight"]
    rows, packed = tensor.data.shape
    columns = packed // _Q4_1_BYTES * BLOCK
    expected = file_codes(tensor)
    low_first = (expected[:, 0::2] | expected[:, 1::2] << 4).reshape(rows, -1, BLOCK // 2)
    smollm2.model("int4")
    constants = engine_constants(smollm2.engines("int4") / "blocks_026_030.onnx")
    held = [c for c in constants.values() if c.shape == (rows, columns // BLOCK, BLOCK // 2)]
    assert any(np.array_equal(codes, low_first) for codes in held)


def test_smollm2_embedding_codes_are_carried_exactly(smollm2: SmolLm2) -> None:
    tensor = smollm2.tensors["token_embd.weight"]
    blocks = to_int8(smollm2.checkpoint.embedding())
    rows = slice(0, 49152, 97)
    exact = gguf.dequantize(tensor.data[rows], tensor.tensor_type)
    part = SymmetricBlocks(blocks.codes[rows], blocks.scales[rows])
    np.testing.assert_array_equal(part.dense(), exact)


def test_smollm2_widened_codes_err_less_than_rounding_anew(smollm2: SmolLm2) -> None:
    for block in (0, 15, 29):
        matrix = smollm2.checkpoint.block(block).ffn_out.weight
        exact = matrix.dense()
        widened = errors(to_int8(matrix), exact)
        rounded = errors(to_int8(DenseMatrix(exact)), exact)
        assert widened.mean() <= 0.4 * rounded.mean()
        assert (widened <= 0.501 * step_of_plain_rounding(exact)).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_widened_codes_stay_within_half_a_step(seed: int) -> None:
    blocks = random_affine(seed=seed)
    exact = blocks.dense()
    bound = 0.501 * step_of_plain_rounding(exact)
    assert (errors(to_int8(BlockMatrix(blocks)), exact) <= bound).all()


def test_widened_codes_of_q4_0_are_exact() -> None:
    """Without a minimum zero is one of the codes, so nothing is rounded."""
    affine = random_affine()
    blocks = AffineBlocks(affine.codes, affine.scales, None)
    widened = to_int8(BlockMatrix(blocks))
    np.testing.assert_allclose(widened.dense(), blocks.dense(), rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "offset"),
    [
        (0.0, 0.5),  # all values alike, as gguf stores a constant block
        (0.0, -0.5),
        (0.0, 0.0),
        (0.001, 3.0),  # values far from zero: no step of the codes fits 8 bits
        (-0.05, 0.3),  # Q4_0 files have negative scales
    ],
)
def test_blocks_that_cannot_be_widened_are_rounded_and_others_are_not(
    scale: float, offset: float
) -> None:
    usual = random_affine()
    assert usual.offsets is not None
    scales, offsets = usual.scales.copy(), usual.offsets.copy()
    scales[2, 1], offsets[2, 1] = scale, offset
    blocks = AffineBlocks(usual.codes, scales, offsets)
    exact = blocks.dense()
    error = errors(to_int8(BlockMatrix(blocks)), exact)
    assert (error <= 0.501 * step_of_plain_rounding(exact)).all()
    before = errors(to_int8(BlockMatrix(usual)), usual.dense())
    others = np.ones_like(error, dtype=bool)
    others[2, 1] = False
    np.testing.assert_array_equal(error[others], before[others])


def test_floats_are_rounded_to_the_nearest_code() -> None:
    exact = random_matrix()
    matrix = DenseMatrix(exact)
    step = step_of_plain_rounding(exact)
    assert (errors(to_int8(matrix), exact) <= 0.501 * step).all()
    grouped = exact.reshape(8, -1, BLOCK)
    spread = (grouped.max(axis=2) - grouped.min(axis=2)) / 15
    error = np.abs(to_int4(matrix).dense() - exact).reshape(8, -1, BLOCK).max(axis=2)
    assert (error <= 0.501 * spread).all()


@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_constant_floats_are_kept(value: float) -> None:
    matrix = DenseMatrix(np.full((2, BLOCK), value, np.float32))
    np.testing.assert_allclose(to_int8(matrix).dense(), value, rtol=1e-6)
    np.testing.assert_allclose(to_int4(matrix).dense(), value, rtol=1e-6)


def test_packed_codes_follow_the_operators_specification() -> None:
    affine = random_affine(rows=2, blocks=2)
    packed = pack_int4(affine)
    assert packed.dtype == np.uint8
    assert packed.shape == (2, 2, BLOCK // 2)
    codes = affine.codes.reshape(2, 2, BLOCK)
    np.testing.assert_array_equal(packed & 15, codes[..., 0::2])
    np.testing.assert_array_equal(packed >> 4, codes[..., 1::2])
    symmetric = SymmetricBlocks(
        np.asarray([[-128, -1, 0, 127] * 8], np.int8), np.ones((1, 1), np.float32)
    )
    assert pack_int8(symmetric).reshape(-1)[:4].tolist() == [0, 127, 128, 255]


def test_columns_that_do_not_split_into_blocks_are_refused() -> None:
    matrix = DenseMatrix(random_matrix(4, 48))
    assert not can_quantize(matrix)
    assert can_quantize(DenseMatrix(random_matrix(5, 64)))
    for convert in (to_int8, to_int4):
        with pytest.raises(ModelError, match="48 columns") as caught:
            convert(matrix)
        assert caught.value.field == "precision"
        assert "fp32" in caught.value.remedy


def test_stacking_and_taking_rows_keeps_the_codes() -> None:
    first, second = random_affine(rows=3, seed=1), random_affine(rows=5, seed=2)
    second = AffineBlocks(second.codes, second.scales, None)
    stacked = stack_rows([BlockMatrix(first), BlockMatrix(second)])
    affine = stacked.affine()
    assert affine is not None
    np.testing.assert_array_equal(affine.codes, np.concatenate([first.codes, second.codes]))
    dense = np.concatenate([first.dense(), second.dense()])
    np.testing.assert_array_equal(stacked.dense(), dense)
    rows = np.asarray([7, 0, 3])
    taken = take_rows(stacked, rows)
    assert taken.affine() is not None
    np.testing.assert_array_equal(taken.dense(), dense[rows])


def test_stacking_different_kinds_gives_floats() -> None:
    floats = DenseMatrix(random_matrix(3))
    codes = BlockMatrix(to_int8(DenseMatrix(random_matrix(2, seed=1))))
    stacked = stack_rows([floats, codes])
    assert stacked.affine() is None
    assert stacked.symmetric() is None
    np.testing.assert_array_equal(stacked.dense()[3:], codes.dense())
    assert stack_rows([codes, codes]).symmetric() is not None


def test_a_layer_without_bias_among_others_gets_zeros() -> None:
    weight = DenseMatrix(random_matrix(2))
    with_bias = Linear(weight, np.ones(2, np.float32))
    assert stack_biases([Linear(weight), Linear(weight)]) is None
    biases = stack_biases([with_bias, Linear(weight), with_bias])
    assert biases is not None
    assert biases.tolist() == [1, 1, 0, 0, 1, 1]
