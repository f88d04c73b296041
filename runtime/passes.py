"""Which questions share a pass through the tail."""

from __future__ import annotations

from collections.abc import Sequence

#: Tokens of all questions of one tail pass. Attention between questions is computed and masked;
#: with passes of this size it stays below a tenth of the linear layers.
MAX_PACKED_TOKENS = 192

#: Likewise, where each question brings prefix rows of its own, which the others attend to in vain:
#: from seven questions on two smaller passes take no longer than one, and half of that attention.
MAX_TOKENS_WITH_OWN_ROWS = 128


def question_passes(lengths: Sequence[int], *, own_rows: bool) -> list[slice]:
    """Cut standing questions into as few passes as may be, all about as long, in their order.

    Args:
        lengths: tokens of each question.
        own_rows: whether each question has prefix rows of its own (conditioned connections).
    """
    limit = MAX_TOKENS_WITH_OWN_ROWS if own_rows else MAX_PACKED_TOKENS
    passes = split_passes(lengths, limit)
    low, high = 1, limit
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
