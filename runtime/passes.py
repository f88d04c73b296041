"""Which questions share a pass through the tail."""

from __future__ import annotations

from collections.abc import Sequence

#: Tokens of all questions of one tail pass: enough for the linear layers to be at their fastest.
#: Where questions do not attend apart (`apart.py`), attention between them is computed and masked.
MAX_PACKED_TOKENS = 192


def question_passes(lengths: Sequence[int]) -> list[slice]:
    """Cut standing questions into as few passes as may be, all about as long, in their order.

    Args:
        lengths: tokens of each question.
    """
    passes = split_passes(lengths)
    low, high = 1, MAX_PACKED_TOKENS
    while low < high:
        middle = (low + high) // 2
        if len(split_passes(lengths, middle)) > len(passes):
            low = middle + 1
        else:
            high = middle
    return split_passes(lengths, high)


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
