"""Counts what an adaptation really used: operations from the shapes of its batches, and memory."""

from __future__ import annotations

import threading
from typing import Any

import torch

from ..metrics import resident_memory_bytes
from .connection_model import ConnectionModel
from .tail_model import TailModel
from .training_cost import BatchShape, TrainingCost

#: How `MemoryWatch` measures.
MEMORY_METHOD = "process RSS above its value at the start, sampled 50 times a second"
_EVERY_S = 0.02


class FlopMeter:
    """Adds up the formulas of all passes through a connection and a tail."""

    def __init__(self) -> None:
        self.training = 0
        self.examining = 0

    @property
    def total(self) -> int:
        return self.training + self.examining

    def watch(
        self, model: ConnectionModel, tail: TailModel, cost: TrainingCost, choices: float
    ) -> None:
        """Count from now on what goes through these two.

        Args:
            model: the connection.
            tail: behind it.
            cost: formulas for the two.
            choices: allowed tokens of a decision, on average.
        """
        rows: dict[str, int] = {}

        def connected(_: Any, args: tuple[Any, ...], __: Any) -> None:
            rows.update({sensor: tokens.shape[1] for sensor, tokens in args[0].items()})

        def passed(_: Any, args: tuple[Any, ...], __: Any) -> None:
            batch, text, _ = args[0].shape
            shape = BatchShape(batch, text, dict(rows), choices)
            rows.clear()
            if torch.is_grad_enabled():
                self.training += cost.step(shape)
            else:
                self.examining += cost.forward(shape)

        model.register_forward_hook(connected)
        tail.register_forward_hook(passed)


class MemoryWatch:
    """Looks at the process's resident memory until it is left; a `with` block."""

    def __init__(self) -> None:
        self._start = resident_memory_bytes()
        self._highest = self._start
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="tailwire-memory", daemon=True)

    @property
    def peak_bytes(self) -> int | None:
        """Growth at its highest, None where the system does not tell."""
        if self._start is None or self._highest is None:
            return None
        return self._highest - self._start

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_EVERY_S):
            now = resident_memory_bytes()
            if now is None or self._highest is None:
                return
            self._highest = max(self._highest, now)
