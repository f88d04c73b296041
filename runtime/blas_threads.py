"""Keeps the threads of numpy's matrix products out of frames.

OpenBLAS gives a product of a quarter of a million multiply-adds to threads of its own, and these
wait spinning for a tenth of a second after it. Thirty objects in a connection's input are enough:
on two cores the frames that followed took one and a half times as long.
"""

from __future__ import annotations

import threading

from threadpoolctl import threadpool_limits

_LOCK = threading.Lock()
_open: list[OneThread] = []
_limits: list[threadpool_limits] = []


class OneThread:
    """While any of these is open, products of numpy run in the thread that asks for them.

    It holds for the whole process, since the library knows nothing finer; when the last one is
    closed, it has as many threads again as before.
    """

    def __init__(self) -> None:
        """Open it."""
        with _LOCK:
            if not _open:
                _limits.append(threadpool_limits(1, user_api="blas"))
            _open.append(self)

    def close(self) -> None:
        """End it; the second time, nothing happens."""
        with _LOCK:
            if self not in _open:
                return
            _open.remove(self)
            if not _open:
                _limits.pop().restore_original_limits()
