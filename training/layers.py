"""Layers that both detectors are made of; the export folds their batch norms away."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..runtime.detectors import NORM_EPSILON


class ConvNorm(nn.Module):
    """A convolution without bias, a batch norm, and ReLU unless `linear`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=NORM_EPSILON)
        self._linear = linear

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x if self._linear else functional.relu(x)


def doubled(x: Tensor, like: Tensor) -> Tensor:
    """Twice as many rows and columns, each value four times, cut to the size of `like`."""
    rows, columns = like.shape[-2:]
    return functional.interpolate(x, scale_factor=2, mode="nearest")[..., :rows, :columns]
