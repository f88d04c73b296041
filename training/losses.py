"""Losses of the dense detectors: where the centres are, and what stands there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .detectors import DenseMaps
from .targets import Targets

_STATUS_WEIGHT = 0.5
_VALUE_WEIGHT = 1.0


@dataclass(frozen=True)
class TargetBatch:
    """Targets of several pictures or grids, see `Targets`.

    Attributes:
        heat: `[batch, 10, rows, columns]`.
        cells: int64 `[n]`, in the flattened batch of maps.
        values: `[n, d]`.
        known: `[n, d]`.
        status: int64 `[n]`.
    """

    heat: Tensor
    cells: Tensor
    values: Tensor
    known: Tensor
    status: Tensor


def batch_of(targets: Sequence[Targets]) -> TargetBatch:
    """Put targets together."""
    size = targets[0].heat[0].size
    cells = [one.cells + number * size for number, one in enumerate(targets)]
    return TargetBatch(
        torch.from_numpy(np.stack([one.heat for one in targets])),
        torch.from_numpy(np.concatenate(cells)),
        torch.from_numpy(np.concatenate([one.values for one in targets])),
        torch.from_numpy(np.concatenate([one.known for one in targets])),
        torch.from_numpy(np.concatenate([one.status for one in targets])),
    )


def detection_loss(maps: DenseMaps, targets: TargetBatch) -> dict[str, Tensor]:
    """The parts of the loss, by name; their sum is what is minimised.

    The heat's is the penalty-reduced focal loss of CornerNet (Law and Deng, 1808.01244, eq. 1)
    per object; the values' an absolute difference, weighted by what is known.
    """
    count = max(1, len(targets.cells))
    values = torch.cat(list(maps.of.values()), dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    statuses = maps.statuses.permute(0, 2, 3, 1).flatten(0, 2)
    difference = (values[targets.cells].float() - targets.values).abs() * targets.known
    return {
        "heat": _focal(maps.heat.float(), targets.heat) / count,
        "values": _VALUE_WEIGHT * difference.sum() / count,
        "status": _STATUS_WEIGHT
        * functional.cross_entropy(
            statuses[targets.cells].float(), targets.status, ignore_index=-1, reduction="sum"
        )
        / count,
    }


def _focal(logits: Tensor, heat: Tensor) -> Tensor:
    probability = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    centre = heat >= 1
    hit = torch.log(probability) * (1 - probability) ** 2
    miss = torch.log(1 - probability) * probability**2 * (1 - heat) ** 4
    return -torch.where(centre, hit, miss).sum()
