"""Attention as training needs it: few queries over many keys, with gradients.

On a GPU that is torch's own kernel. On a CPU its backward pass takes several times as long as two
plain products and a softmax, which are used there; scores are rounded to the dtype of products.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Weighted sums of values; each head of keys serves several heads of queries in a row.

    Args:
        query: `[batch, heads, tokens, head_dim]`.
        key: `[batch, kv_heads, rows, head_dim]`, where `kv_heads` divides `heads`.
        value: like `key`.
        bias: added to the scores, broadcast to `[batch, 1, tokens, rows]`.

    Returns:
        `[batch, heads, tokens, head_dim]`.
    """
    groups = query.shape[1] // key.shape[1]
    if query.device.type != "cpu":
        key, value = (side.repeat_interleave(groups, dim=1) for side in (key, value))
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    _, _, tokens, head_dim = query.shape
    # Heads that share keys become more tokens of one head, so that no key is copied.
    folded = (query * head_dim**-0.5).unflatten(1, (-1, groups)).flatten(2, 3)
    scores = (folded @ key.mT).unflatten(2, (groups, tokens)) + bias[:, :, None]
    shares = scores.softmax(-1).flatten(2, 3)
    return (shares @ value).unflatten(2, (groups, tokens)).flatten(1, 2)
