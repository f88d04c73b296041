"""EfficientNet-Lite0 in torch, the reference of its graphs, with the names of its checkpoints."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: EfficientNet's own block strings: repeats, kernel, stride, expansion, input and output channels.
BLOCKS = (
    "r1_k3_s1_e1_i32_o16",
    "r2_k3_s2_e6_i16_o24",
    "r2_k5_s2_e6_i24_o40",
    "r3_k3_s2_e6_i40_o80",
    "r3_k5_s1_e6_i80_o112",
    "r4_k5_s2_e6_i112_o192",
    "r1_k3_s1_e6_i192_o320",
)


class SameConv(nn.Conv2d):
    """TensorFlow's SAME padding, computed from the input as it comes."""

    def forward(self, input: Tensor) -> Tensor:
        pads = []
        for length, kernel, stride in zip(
            input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(input, pads))


class MBConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = inputs * expand
        if expand != 1:
            self._expand_conv = SameConv(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=1e-3)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=1e-3)
        self._project_conv = SameConv(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        self._blocks = nn.ModuleList()
        for text in BLOCKS:
            values = {part[0]: int(part[1:]) for part in text.split("_")}
            for repeat in range(values["r"]):
                inputs = values["o"] if repeat else values["i"]
                stride = 1 if repeat else values["s"]
                block = MBConv(inputs, values["o"], values["k"], stride, values["e"])
                self._blocks.append(block)
        self._conv_head = SameConv(320, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def features(self, x: Tensor) -> Tensor:
        return self.each_block(x)[-1]

    def each_block(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        outputs = []
        for block in self._blocks:
            x = block(x)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn1(self._conv_head(self.features(x))))
        return self._fc(x.mean(dim=(2, 3)))


def random_efficientnet(seed: int) -> EfficientNetLite0:
    """Random weights whose activations stay in the range of ReLU6."""
    torch.manual_seed(seed)
    model = EfficientNetLite0().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            statistics = dict(module.named_buffers())
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(statistics["running_mean"], std=0.3)
            nn.init.uniform_(statistics["running_var"], 0.5, 2.0)
    return model
