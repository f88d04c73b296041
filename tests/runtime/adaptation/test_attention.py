"""Attention of the training against torch's own, with gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tailwire.runtime.adaptation.attention import attend


@pytest.mark.parametrize("masked_by", ["rows", "text", "batch"])
def test_equals_torchs_attention(masked_by: str) -> None:
    torch.manual_seed(3)
    batch, heads, kv_heads, tokens, rows, size = 3, 6, 2, 4, 7, 8
    shapes = [(heads, tokens), (kv_heads, rows), (kv_heads, rows)]
    inputs = [
        torch.randn(batch, count, length, size, dtype=torch.float64, requires_grad=True)
        for count, length in shapes
    ]
    shape = {"rows": (batch, 1, 1, rows), "text": (1, 1, tokens, rows), "batch": (batch, 1, 4, 7)}
    bias = torch.zeros(shape[masked_by], dtype=torch.float64)
    bias = bias.masked_fill(torch.rand(bias.shape) < 0.4, -1e30)
    bias[..., 0] = 0
    wanted = torch.randn(batch, heads, tokens, size, dtype=torch.float64)

    query, key, value = inputs
    theirs = functional.scaled_dot_product_attention(
        query, key.repeat_interleave(3, 1), value.repeat_interleave(3, 1), attn_mask=bias
    )
    expected = torch.autograd.grad((theirs * wanted).sum(), inputs)
    ours = attend(query, key, value, bias)
    found = torch.autograd.grad((ours * wanted).sum(), inputs)

    torch.testing.assert_close(ours, theirs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
