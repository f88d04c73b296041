"""Connections in torch, weight for weight those of `runtime/connections.py`.

Trained here, run there: `weights()` gives the arrays that a pack holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..connections import ConnectionSpec, ModelSizes, weight_shapes
from .attention import attend
from .tail_model import LowRank, Prefix

_EPSILON = 1e-5
_MASKED = -1e30

#: Tokens of active sensors, `[batch, tokens, width]`; a row of zeros is no token.
SensorTokens = Mapping[str, Tensor]


class ConnectionModel(nn.Module):
    """A connection that can be trained."""

    def __init__(
        self,
        spec: ConnectionSpec,
        config: ModelSizes,
        encoders: Mapping[str, tuple[int, int]],
        sensors: Mapping[str, str],
        weights: Mapping[str, NDArray[np.float32]],
        shared_slots: Iterable[str] = (),
    ) -> None:
        """Start from given weights.

        Args:
            spec: of the connection.
            config: sizes of the language model.
            encoders: by modality name, tokens and width of its encoder.
            sensors: modality name by sensor.
            weights: as named by `connections.weight_shapes`.
            shared_slots: modalities whose tokens have no order (objects), so that a sensor's
                learned offset is the same for all of them.
        """
        super().__init__()
        self.spec, self._config = spec, config
        self._sensors = dict(sensors)
        self._shapes = weight_shapes(spec, config, encoders, sensors)
        self._shared = {s for s, modality in sensors.items() if modality in set(shared_slots)}
        self.p = nn.ParameterDict()
        for name in self._shapes:
            array = torch.from_numpy(np.array(weights[name], np.float32))
            if name.startswith("sensor.") and name.removeprefix("sensor.") in self._shared:
                array = array.mean(0, keepdim=True)
            self.p[_key(name)] = nn.Parameter(array)

    @property
    def sensors(self) -> Mapping[str, str]:
        """Modality name by sensor."""
        return self._sensors

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights as a pack holds them."""
        return {
            name: self[name].detach().float().expand(shape).contiguous().cpu().numpy().copy()
            for name, shape in self._shapes.items()
        }

    def __getitem__(self, name: str) -> Tensor:
        return self.p[_key(name)]

    def trained(self, names: Iterable[str] | None = None) -> list[nn.Parameter]:
        """Parameters to train: those whose name begins with one of `names`, None for all.

        A whole name means that weight alone (`sensor.cam_front`, not `sensor.cam_front_left`).
        The others are frozen.
        """
        chosen: list[nn.Parameter] = []
        wanted = None if names is None else frozenset(names)
        beginnings = tuple((wanted or frozenset()) - self._shapes.keys())
        for name in self._shapes:
            parameter = self.p[_key(name)]
            parameter.requires_grad_(
                wanted is None or name in wanted or name.startswith(beginnings)
            )
            if parameter.requires_grad:
                chosen.append(parameter)
        return chosen

    def gate_names(self) -> list[str]:
        """Names of all gates."""
        return [name for name in self._shapes if name.startswith("gate.")]

    def low_rank(self) -> LowRank | None:
        """The branches beside the tail's key and value projections, None without any."""
        if not self.spec.lora_rank:
            return None
        branches = {
            (block, side): (self[f"lora.{block}.{side}.a"], self[f"lora.{block}.{side}.b"])
            for block in range(self.spec.tail_blocks)
            for side in ("key", "value")
        }
        counted = self.spec.lora_weights
        if counted is None:
            return branches
        scale = torch.from_numpy(counted)[:, None]
        return {place: (a, b * scale.to(b.device)) for place, (a, b) in branches.items()}

    def forward(
        self, tokens: SensorTokens, states: Tensor, lengths: Tensor
    ) -> tuple[Prefix, Tensor | None]:
        """Make the prefixes of a batch of questions.

        Args:
            tokens: of the active sensors, in the pack's order.
            states: `[batch, length, hidden_size]`, head states at the deepest boundary.
            lengths: int64 `[batch]`.

        Returns:
            The prefix, and for the conditioned kind what its keys and values are made of,
            `[batch, 1 + tokens, width]`, the summary first; training may supervise it too.
        """
        if self.spec.kind == "plain":
            return self._plain(tokens), None
        return self._conditioned(tokens, states, lengths)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self[f"{name}.w"] + self[f"{name}.b"]

    def _offset(self, sensor: str, rows: Tensor) -> Tensor:
        """One offset for all tokens, or one each; rows at the end may have been left out."""
        return self[f"sensor.{sensor}"][: rows.shape[1]]

    def _gates(self, modality: str) -> Tensor:
        return torch.sigmoid(self[f"gate.{modality}"])

    def _blocks(self, rows: Tensor) -> Tensor:
        """`[batch, rows, out]` to `[batch, blocks_out, kv_heads, rows, head_dim]`."""
        c = self._config
        split = rows.unflatten(-1, (self.spec.blocks_out, c.num_kv_heads, c.head_dim))
        return split.permute(0, 2, 3, 1, 4)

    def _plain(self, tokens: SensorTokens) -> Prefix:
        made: dict[str, list[Tensor]] = {"key": [], "value": []}
        present = []
        for sensor, rows in tokens.items():
            modality = self._sensors[sensor]
            x = rows + self._offset(sensor, rows)
            gate = self._gates(modality)[None, :, None, None, None]
            for side, parts in made.items():
                name = f"{modality}.{side}"
                inner = functional.gelu(x @ self[f"{name}.w1"] + self[f"{name}.b1"])
                parts.append(gate * self._blocks(inner @ self[f"{name}.w2"] + self[f"{name}.b2"]))
            present.append(_present(rows))
        return Prefix(torch.cat(made["key"], 3), torch.cat(made["value"], 3), torch.cat(present, 1))

    def _conditioned(
        self, tokens: SensorTokens, states: Tensor, lengths: Tensor
    ) -> tuple[Prefix, Tensor]:
        batch, length, _ = states.shape
        scene = [self["summary"].expand(batch, 1, -1)]
        gates = [self._gates("summary")[:, None]]
        present = [torch.ones(batch, 1, dtype=torch.bool, device=states.device)]
        for sensor, rows in tokens.items():
            modality = self._sensors[sensor]
            scene.append(self._linear(rows + self._offset(sensor, rows), f"{modality}.in"))
            gates.append(self._gates(modality)[:, None].expand(-1, rows.shape[1]))
            present.append(_present(rows))
        there = torch.cat(present, 1)
        kept = there.shape[1]
        x = torch.cat([*scene, self._question(states)], dim=1)
        text = torch.arange(length, device=states.device)[None, :] < lengths[:, None]
        seen = torch.cat([there, text], 1)
        bias = torch.zeros(seen.shape, device=states.device).masked_fill(~seen, _MASKED)
        bias = bias[:, None, None, :]
        for layer in range(self.spec.layers):
            x = self._layer(x, bias, f"layer{layer}")
        x = self._layer_norm(x[:, :kept], "final.norm")
        gate = torch.cat(gates, 1)[None, :, None, :, None]
        keys, values = (gate * self._blocks(self._linear(x, side)) for side in ("key", "value"))
        return Prefix(keys, values, there), x

    def _question(self, states: Tensor) -> Tensor:
        scale = torch.sqrt((states * states).mean(-1, keepdim=True) + _EPSILON)
        return self._linear(states / scale * self["question.norm"], "question")

    def _layer_norm(self, x: Tensor, name: str) -> Tensor:
        width = (self.spec.width,)
        return functional.layer_norm(x, width, self[f"{name}.w"], self[f"{name}.b"], _EPSILON)

    def _layer(self, x: Tensor, bias: Tensor, name: str) -> Tensor:
        packed = self._linear(self._layer_norm(x, f"{name}.norm1"), f"{name}.qkv")
        q, k, v = (
            part.unflatten(-1, (self.spec.heads, -1)).transpose(1, 2)
            for part in packed.chunk(3, -1)
        )
        mixed = attend(q, k, v, bias.to(q.dtype))
        x = x + self._linear(mixed.transpose(1, 2).flatten(2), f"{name}.out")
        inner = functional.gelu(self._linear(self._layer_norm(x, f"{name}.norm2"), f"{name}.ffn1"))
        return x + self._linear(inner, f"{name}.ffn2")


def _present(rows: Tensor) -> Tensor:
    return (rows != 0).any(-1)


def _key(name: str) -> str:
    # torch's parameter names must not hold dots.
    return name.replace(".", "/")
