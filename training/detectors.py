"""The detectors behind object tokens, in torch; `export/detectors.py` builds their graphs.

Both give dense maps as CenterNet does (Zhou et al., 1904.07850): per cell a heat per class, whose
peaks are objects, and what such an object is like. What turns peaks into tokens is `decoding.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..kernels.bev_grid import CHANNELS
from ..kernels.object_tokens import OBJECT_CLASSES, OBJECT_STATUSES
from ..runtime.detectors import BEV_MAPS, IMAGE_MAPS
from .layers import ConvNorm, doubled

#: Heat of empty cells before training: sigmoid of it is 0.02.
_FIRST_HEAT = -3.9


@dataclass(frozen=True)
class DenseMaps:
    """What a detector says of each cell.

    Attributes:
        heat: logits `[batch, 10, rows, columns]`.
        statuses: logits `[batch, 7, rows, columns]`.
        of: the other maps by name, see `BEV_MAPS` and `IMAGE_MAPS` of `runtime/detectors.py`.
    """

    heat: Tensor
    statuses: Tensor
    of: dict[str, Tensor]


class MapHead(nn.Module):
    """From features to the maps: one hidden 1x1 layer."""

    def __init__(self, inputs: int, hidden: int, maps: dict[str, int]) -> None:
        super().__init__()
        self._maps = maps
        self.hidden = ConvNorm(inputs, hidden, 1)
        self.heat = nn.Conv2d(hidden, len(OBJECT_CLASSES), 1)
        self.rest = nn.Conv2d(hidden, len(OBJECT_STATUSES) + sum(maps.values()), 1)
        nn.init.constant_(self.heat.bias, _FIRST_HEAT)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> DenseMaps:
        x = self.hidden(x)
        statuses, *rest = self.rest(x).split([len(OBJECT_STATUSES), *self._maps.values()], dim=1)
        return DenseMaps(self.heat(x), statuses, dict(zip(self._maps, rest, strict=True)))


class BevDetector(nn.Module):
    """Objects from a LiDAR sweep seen from above (`kernels.bev_grid`), 1 m cells."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(len(CHANNELS), 32, 3, 2)
        self.fine = ConvNorm(32, 32)
        self.down1 = ConvNorm(32, 64, 3, 2)
        self.middle = ConvNorm(64, 64)
        self.down2 = ConvNorm(64, 128, 3, 2)
        self.coarse1 = ConvNorm(128, 128)
        self.coarse2 = ConvNorm(128, 128)
        self.up2 = ConvNorm(128, 64, 1, linear=True)
        self.merge2 = ConvNorm(64, 64)
        self.up1 = ConvNorm(64, 48, 1, linear=True)
        self.lateral1 = ConvNorm(32, 48, 1, linear=True)
        self.merge1 = ConvNorm(48, 48)
        self.head = MapHead(48, 64, BEV_MAPS)

    def forward(self, grid: Tensor) -> DenseMaps:
        """Maps `[batch, ., cells / 2, cells / 2]` of a grid `[batch, 12, cells, cells]`."""
        fine = self.fine(self.stem(grid))
        middle = self.middle(self.down1(fine))
        coarse = self.coarse2(self.coarse1(self.down2(middle)))
        middle = self.merge2(middle + doubled(self.up2(coarse), middle))
        fine = self.merge1(self.lateral1(fine) + doubled(self.up1(middle), fine))
        return self.head(fine)


class CameraDetector(nn.Module):
    """Objects from the features of EfficientNet-Lite0 at strides 8, 16 and 32.

    The backbone keeps its ImageNet weights and is no part of this module.
    """

    #: Channels of the features at each stride.
    FEATURES = (40, 112, 320)

    def __init__(self, rows: int, columns: int) -> None:
        """Take the size of the map at stride 8."""
        super().__init__()
        fine, middle, coarse = self.FEATURES
        self.lateral32 = ConvNorm(coarse, 96, 1, linear=True)
        self.lateral16 = ConvNorm(middle, 96, 1, linear=True)
        self.merge16 = ConvNorm(96, 96)
        self.up16 = ConvNorm(96, 64, 1, linear=True)
        self.lateral8 = ConvNorm(fine, 64, 1, linear=True)
        # On a flat ground the row tells the distance, which convolutions do not know.
        self.row = nn.Parameter(torch.zeros(1, 64, rows, 1))
        self.column = nn.Parameter(torch.zeros(1, 64, 1, columns))
        self.merge8 = ConvNorm(64, 64)
        self.refine = ConvNorm(64, 64)
        self.head = MapHead(64, 96, IMAGE_MAPS)

    def forward(self, at8: Tensor, at16: Tensor, at32: Tensor) -> DenseMaps:
        """Maps at stride 8 of features `[batch, 40 | 112 | 320, rows, columns]`."""
        coarse = self.lateral32(at32)
        middle = self.lateral16(at16)
        middle = self.merge16(middle + doubled(coarse, middle))
        fine = self.lateral8(at8)
        fine = fine + doubled(self.up16(middle), fine) + self.row + self.column
        return self.head(self.refine(self.merge8(fine)))
