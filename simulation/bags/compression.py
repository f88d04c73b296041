"""Decompression of parts of bags, careful with parts that are cut off or claim to be huge."""

from __future__ import annotations

import sys
from typing import Any

from .typestore import missing_rosbags

MAX_BYTES = 1 << 30
"""A chunk or message that would be larger is not decompressed."""


def decompress(kind: str, data: bytes, size: int | None) -> bytes:
    """Decompress one part.

    Args:
        kind: `zstd` or `lz4` (frame format).
        data: compressed, perhaps cut off.
        size: what comes out, None where it is not known.

    Returns:
        What came out, less than `size` where `data` was cut off.

    Raises:
        ValueError: `data` is broken, too large, or `kind` is not known.
        DataError: the package for it is not installed.
    """
    if size is not None and not 0 <= size <= MAX_BYTES:
        raise ValueError(f"it claims {size} bytes")
    limit = MAX_BYTES if size is None else size
    if kind not in ("zstd", "lz4"):
        raise ValueError(f"the compression {kind!r} is not known")
    decompressor, errors = _zstd() if kind == "zstd" else _lz4()
    try:
        # One byte more tells whether more would come.
        content = decompressor.decompress(data, max_length=limit + 1) if limit else b""
    except errors as error:
        raise ValueError(str(error) or "broken data") from error
    if len(content) > limit:
        raise ValueError(f"more than {limit} bytes came out")
    return content


def _zstd() -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd  # pyright: ignore[reportMissingImports]
        else:
            from backports import zstd
    except ImportError as error:
        raise missing_rosbags(error) from error
    return zstd.ZstdDecompressor(), (zstd.ZstdError, EOFError, ValueError, MemoryError)


def _lz4() -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        import lz4.frame
    except ImportError as error:
        raise missing_rosbags(error) from error
    decompressor = lz4.frame.LZ4FrameDecompressor()  # pyright: ignore[reportAttributeAccessIssue]
    return decompressor, (RuntimeError, EOFError, ValueError, MemoryError)
