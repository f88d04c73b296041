"""How many threads a token is decoded with: all, unless others keep the cores busy.

Threads that share one token meet some hundred times in it. Where another process takes a core, each
meeting may wait for a whole slice of the scheduler, and one thread alone is several times as fast.
Nothing but times tells, so the count that is not in use is tried now and then: soon where that paid
last time, ever more seldom where it did not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median

#: Times that a median rests on, and tokens in a row with which the other count is tried.
_TIMES, _TRIED = 5, 2
#: Tokens between two trials: at first and after one that paid, and at most.
_FIRST_WAIT, _LONGEST_WAIT = 8, 512
#: Another count is taken where it needs less than this share of the time.
_BETTER = 0.9


class ThreadChoice:
    """Chooses between all threads and one; not safe between threads."""

    def __init__(self, threads: int) -> None:
        """Begin with all.

        Args:
            threads: how many there are; 1 leaves nothing to choose.
        """
        self.count = threads
        self._times: Mapping[int, deque[float]] = {
            count: deque(maxlen=_TIMES) for count in {threads, 1}
        }
        self._others = {threads: 1, 1: threads}
        self._trial, self._since, self._wait = 0, 0, _FIRST_WAIT

    def next_count(self) -> int:
        """Threads of the next token."""
        if len(self._times) == 1:
            return self.count
        if not self._trial and self._since >= self._wait:
            self._trial = _TRIED
            self._times[self._others[self.count]].clear()
        return self._others[self.count] if self._trial else self.count

    def note(self, count: int, seconds: float) -> None:
        """What a token took with this count of threads."""
        if len(self._times) == 1:
            return
        self._times[count].append(seconds)
        if not self._trial:
            self._since += 1
            return
        self._trial -= 1
        if self._trial:
            return
        self._since = 0
        other = self._others[self.count]
        # The faster one of few: the first token of a trial wakes threads and fills caches.
        if min(self._times[other]) < _BETTER * median(self._times[self.count]):
            self.count, self._wait = other, _FIRST_WAIT
        else:
            self._wait = min(2 * self._wait, _LONGEST_WAIT)
