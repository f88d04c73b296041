"""Keeps the process within its memory budget: knows what encoders hold, and unloads some of them.

What the process holds without its encoders is its resident memory less what was measured of those
that are loaded. It is read anew in each frame, so whatever else grows counts too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from .metrics import begin_peak, peak_since_begin, resident_memory_bytes
from .perception import Perception
from .plan_costs import MemoryUse
from .process_memory import return_at_once, trim

#: Frames whose peaks say what a frame adds while it runs.
_FRAMES = 32
#: Share of the limit above which what was freed is given back before a frame.
_NEARLY_FULL = 0.85


class EncoderMemory:
    """What the encoders of one runtime hold in memory."""

    def __init__(self, perception: Perception) -> None:
        self._perception = perception
        self._limit: int | None = None
        self._peaks: deque[int] = deque(maxlen=_FRAMES)

    @property
    def limit(self) -> int | None:
        """Bytes that the process may hold."""
        return self._limit

    def keep_within(self, limit: int | None) -> None:
        """Hold to a limit from now on, None for none.

        With the first one all encoders are unloaded: what they hold is known from their next load
        on, while runs without a limit may have left any amount with them.
        """
        if limit is not None and self._limit is None:
            return_at_once()
            for engine in self._perception.reloadable.values():
                engine.unload()
        self._limit = limit
        self._perception.watches_memory = limit is not None

    @property
    def loaded(self) -> frozenset[str]:
        """Encoders that run without being loaded first."""
        unloaded = {
            name for name, engine in self._perception.reloadable.items() if not engine.is_loaded
        }
        return frozenset(self._perception.encoders) - unloaded

    def use(self) -> MemoryUse | None:
        """What is held now; None where the system does not tell."""
        resident = resident_memory_bytes()
        if resident is None:
            return None
        engines = self._perception.reloadable
        held = {name: engine.held_bytes or 0 for name, engine in engines.items()}
        loaded = sum(held[name] for name, engine in engines.items() if engine.is_loaded)
        on_the_way = 0
        for engine in engines.values():
            if not engine.is_loaded and engine.last_load.peak_bytes is not None:
                resident_after = engine.last_load.resident_bytes or 0
                on_the_way = max(on_the_way, engine.last_load.peak_bytes - resident_after)
        return MemoryUse(
            max(resident - loaded, 0),
            dict.fromkeys(self._perception.encoders, 0) | held,
            max(on_the_way, max(self._peaks, default=0)),
        )

    def make_room(self, needed: Collection[str]) -> list[str]:
        """Unload encoders that are not needed until the needed ones fit, the largest first.

        Returns:
            What was unloaded.
        """
        use = None if self._limit is None else self.use()
        if use is None or self._limit is None:
            return []
        loaded = {name for name, e in self._perception.reloadable.items() if e.is_loaded}
        spare = sorted(loaded - set(needed), key=lambda name: (-use.encoder_bytes[name], name))
        unloaded: list[str] = []
        for name in spare:
            if use.with_encoders(loaded | set(needed)) <= self._limit:
                break
            self._perception.reloadable[name].unload()
            loaded.discard(name)
            unloaded.append(name)
        return unloaded

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Learn what a frame adds while it runs; nothing without a limit."""
        if self._limit is None:
            yield
            return
        if (resident_memory_bytes() or 0) > _NEARLY_FULL * self._limit:
            trim()
        before, has_peak = resident_memory_bytes(), begin_peak()
        held = self._held()
        try:
            yield
        finally:
            peak = peak_since_begin() if has_peak else None
            if before is not None and peak is not None:
                self._peaks.append(max(peak - before - max(self._held() - held, 0), 0))

    def _held(self) -> int:
        engines = self._perception.reloadable.values()
        return sum(engine.held_bytes or 0 for engine in engines if engine.is_loaded)
