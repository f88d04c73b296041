"""Which questions share a pass through the tail."""

from __future__ import annotations

from collections.abc import Sequence

#: Tokens of all questions of one tail pass. Attention between questions is computed and masked;
#: with passes of this size it stays below a tenth of the linear layers.
MAX_PACKED_TOKENS = 192


def split_passes(lengths: Sequence[int], limit: int = MAX_PACKED_TOKENS) -> list[slice]:
    """Cut a list of questions into passes, keeping their order.

    Args:
        lengths: tokens of each question.
        limit: most tokens of a pass; a longer question has a pass of its own.
    """
    passes: list[slice] = []
    tokens = 0
    for index, length in enumerate(lengths):
        if passes and tokens + length <= limit:
            passes[-1] = slice(passes[-1].start, index + 1)
            tokens += length
        else:
            passes.append(slice(index, index + 1))
            tokens = length
    return passes
