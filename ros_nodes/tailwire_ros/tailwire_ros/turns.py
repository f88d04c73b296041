"""A lock that is had in the order in which it was asked for.

`threading.Lock` goes to whoever comes first when it is free: a thread that works on and on takes it
again before one that sleeps has woken up, and a question waits for ever beside standing ones.
"""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """A context manager; not to be entered again by who is in it."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        # Released by who goes, so that nobody comes between.
        turn.acquire()

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
