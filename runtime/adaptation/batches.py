"""The data of a training run on the device that trains, and batches gathered there.

Arrays that lie in files stay there on the CPU; another device holds a copy, so that a step sends
it nothing but numbers of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .samples import ROW_BYTES, Samples, TrainingData


class Batches:
    """Gathers what samples need."""

    def __init__(self, data: TrainingData, device: torch.device) -> None:
        """Bring the data to the device.

        Args:
            data: of the run.
            device: that trains.
        """
        self.device = device
        heads = data.heads
        self._offsets = np.asarray(heads.offsets)
        self._states = self._here(heads.states)
        self._entering = None if heads.entering is None else self._here(heads.entering)
        self._tokens = {sensor: self._here(tokens) for sensor, tokens in data.tokens.items()}
        #: By sensor and moment, one behind the last row that holds anything.
        self._stops = {sensor: _stops(tokens) for sensor, tokens in data.tokens.items()}
        self._mirror = data.mirror
        if data.mirror is not None:
            self._columns, self._signs = map(self._here, (data.mirror.columns, data.mirror.signs))
        self._matches = None
        if data.matches is not None:
            self._matches = {sensor: self._here(found) for sensor, found in data.matches.items()}

    def rows(self, moments: NDArray[np.integer]) -> NDArray[np.int64]:
        """Rows of tokens that these moments have, of all sensors together."""
        return sum((stops[moments] for stops in self._stops.values()), np.zeros(len(moments), int))

    def texts(self, texts: NDArray[np.integer], *, entering: bool = False) -> tuple[Tensor, Tensor]:
        """Head states padded on the right, float32 `[n, longest, hidden_size]`, lengths `[n]`.

        Args:
            texts: their numbers.
            entering: what enters the tail, where that differs from what the connection reads.
        """
        source = self._entering if entering and self._entering is not None else self._states
        return padded_texts(source, self._offsets, texts)

    def tokens(
        self, moments: NDArray[np.integer], sensors: Sequence[str], *, mirrored: bool = False
    ) -> dict[str, Tensor]:
        """By sensor float32 `[n, rows, width]`, without rows that no moment of these fills.

        Args:
            moments: their numbers.
            sensors: the active ones.
            mirrored: as if left and right had changed places.
        """
        at = self._here(moments.astype(np.int64))
        found: dict[str, Tensor] = {}
        for sensor in sensors:
            source = self._source(sensor, mirrored)
            stop = max(1, int(self._stops[source][moments].max()))
            rows = self._tokens[source][at, :stop].float()
            found[sensor] = rows[..., self._columns] * self._signs if mirrored else rows
        return found

    def _source(self, sensor: str, mirrored: bool) -> str:
        if not mirrored or self._mirror is None:
            return sensor
        return self._mirror.sensors.get(sensor, sensor)

    def row_targets(
        self, samples: Samples, tokens: Mapping[str, Tensor], *, mirrored: bool = False
    ) -> tuple[Tensor, Tensor] | None:
        """What each row of tokens stands for in the samples' questions.

        Args:
            samples: a batch.
            tokens: of the active sensors, as `tokens` gave them.
            mirrored: as there.

        Returns:
            Whether the row has each role, and whether that counts: float32 `[n, roles, rows]`
            each; None where nobody knows.
        """
        if self._matches is None or samples.certain is None or samples.possible is None:
            return None
        at = self._here(samples.moment.astype(np.int64))
        found = {sensor: self._matches[self._source(sensor, mirrored)] for sensor in tokens}
        objects = torch.cat(
            [found[sensor][at, : rows.shape[1]] for sensor, rows in tokens.items()], 1
        ).long()
        present = torch.cat([(rows != 0).any(-1) for rows in tokens.values()], 1)[:, None]
        known = (objects >= 0)[:, None]
        column = objects.clamp(min=0)[:, None].expand(-1, samples.certain.shape[1], -1)
        certain, possible = (
            _bits(self._here(bits)).gather(2, column)
            for bits in (samples.certain, samples.possible)
        )
        return (certain & known).float(), (present & ~(possible & known)).float()

    def here(self, array: NDArray[np.generic]) -> Tensor:
        """A few numbers on the device."""
        return self._here(array)

    def _here(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.asarray(array)).to(self.device)


def padded_texts(
    states: Tensor, offsets: NDArray[np.integer], texts: NDArray[np.integer]
) -> tuple[Tensor, Tensor]:
    """States of a few texts, padded on the right with zeros.

    Args:
        states: of all texts, one behind the other, `[tokens, hidden_size]`.
        offsets: where each begins, and the end, `[texts + 1]`.
        texts: numbers of the wanted ones, `[n]`.

    Returns:
        float32 `[n, longest, hidden_size]` and lengths int64 `[n]`, where the states are.
    """
    starts = offsets[texts]
    lengths = offsets[np.asarray(texts) + 1] - starts
    first, count = (torch.from_numpy(one).to(states.device) for one in (starts, lengths))
    rows, there = padded_rows(first, count, int(lengths.max()))
    return states[rows].float() * there[..., None], count


def padded_rows(first: Tensor, count: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Where parts lie in an array of all of them, padded to the longest.

    Args:
        first: int64 `[n]`, row at which each begins.
        count: int64 `[n]`, rows of each.
        longest: of these.

    Returns:
        Rows int64 `[n, longest]` (the last one again beyond the end), and whether they are there.
    """
    place = torch.arange(longest, device=first.device)
    return first[:, None] + torch.minimum(place, count[:, None] - 1), place < count[:, None]


def last_filled(filled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """One behind the last row of each moment that holds anything, of `[moments, rows]`."""
    return np.where(filled, np.arange(1, filled.shape[1] + 1), 0).max(axis=1)


def _stops(tokens: NDArray[np.floating]) -> NDArray[np.int64]:
    # Moment by moment: the whole may be larger than memory.
    return last_filled(np.stack([moment.any(axis=-1) for moment in tokens]))


def _bits(packed: Tensor) -> Tensor:
    """Bytes `[n, roles, 16]` to their bits, the highest first, bool `[n, roles, 128]`."""
    shifts = torch.arange(7, -1, -1, device=packed.device, dtype=torch.uint8)
    return ((packed[..., None] >> shifts) & 1).flatten(-2).bool()[..., : 8 * ROW_BYTES]
