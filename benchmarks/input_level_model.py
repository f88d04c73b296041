"""The usual way to teach a language model a sensor, in torch: tokens at the input of all blocks.

Sensor tokens go through a projector of two layers and stand in front of the text, and gradients
flow through every block. Three ways to train it: the whole model, a LoRA, or learned prompt rows.
Baseline of `adaptation.py`; the blocks are those of the tail that connections are trained through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..runtime.adaptation.attention import attend
from ..runtime.adaptation.tail_model import LowRank
from ..runtime.adaptation.tail_weights import TailWeights
from .input_level_methods import PROMPT_ROWS, Method, SensorLayout
from .whole_model import WholeModel

#: Score of what lies behind a token.
_MASKED = -1e30


class InputLevelModel(WholeModel):
    """All blocks of a language model with a projector in front, trained by one of the methods."""

    def __init__(
        self,
        weights: TailWeights,
        embedding: NDArray[np.float32],
        sensors: SensorLayout,
        method: Method,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        """Copy the weights, and begin with a random projector.

        Args:
            weights: of all blocks.
            embedding: of tokens, `[vocab_size, hidden_size]`.
            sensors: that can be active.
            method: of training.
            dtype: of products. Trained weights, norms and the residual stream stay float32.
            device: where it lies.
            seed: of what begins at random.

        Raises:
            ConfigError: these are not all blocks, or the model is not of the Llama or Qwen2 kind.
        """
        trains_all = method == "full"
        super().__init__(weights, embedding, trains_all=trains_all, dtype=dtype, device=device)
        self.sensors = sensors
        self.method: Method = method
        rng = torch.Generator().manual_seed(seed)
        hidden = weights.config.hidden_size

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter((scale * torch.randn(shape, generator=rng)).to(device))

        # What sensors add shall be as large as words are.
        size = float(np.sqrt(np.mean(np.square(embedding[::17]))))
        self.projector = nn.ParameterDict()
        for modality, width in sensors.widths.items():
            parts = self.projector
            parts[f"{modality}/w1"] = normal(width, hidden, scale=width**-0.5)
            parts[f"{modality}/b1"] = nn.Parameter(torch.zeros(hidden, device=device))
            parts[f"{modality}/w2"] = normal(hidden, hidden, scale=2 * size * hidden**-0.5)
            parts[f"{modality}/b2"] = nn.Parameter(torch.zeros(hidden, device=device))
        for sensor, modality in sensors.modalities.items():
            width = sensors.widths[modality]
            offset = nn.Parameter(torch.zeros(1, width, device=device))
            self.projector[f"offset/{sensor}"] = offset
        self.prompt: nn.Parameter | None = None
        if method == "lora":
            self._begin_branches(rng)
        elif method == "prompt":
            # Prompts that begin as words learn faster than random ones (Lester et al., 2021).
            words = torch.randint(len(embedding), (PROMPT_ROWS,), generator=rng)
            self.prompt = nn.Parameter(self.embedding.detach()[words.to(device)].clone())

    def trained(self, learning: Sequence[str]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """What is trained for these sensors: beside the language model, and of the model itself.

        The projectors and offsets of other sensors are frozen.

        Args:
            learning: sensors whose offset and projector are trained.
        """
        modalities = {self.sensors.modalities[sensor] for sensor in learning}
        front: list[nn.Parameter] = []
        for name, parameter in self.projector.items():
            first, _, second = name.partition("/")
            wanted = second in learning if first == "offset" else first in modalities
            parameter.requires_grad_(wanted)
            front += [parameter] if wanted else []
        front += [*self.branches.values(), *([] if self.prompt is None else [self.prompt])]
        beside = {id(one) for one in (*self.projector.values(), *front)}
        model = [p for p in self.parameters() if p.requires_grad and id(p) not in beside]
        return front, model

    @torch.no_grad()
    def begin_modality(self, modality: str, like: str) -> None:
        """Let a modality begin with the projector of another, whose tokens mean the same."""
        for part in ("w1", "b1", "w2", "b2"):
            self.projector[f"{modality}/{part}"].copy_(self.projector[f"{like}/{part}"])

    def trained_state(self) -> dict[str, Tensor]:
        """Everything that the method may change, on the CPU."""
        kept = self.named_parameters()
        return {n: p.detach().cpu().clone() for n, p in kept if self._is_own(n)}

    @torch.no_grad()
    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what `trained_state` gave.

        Raises:
            KeyError: the state is of another method or other sensors.
        """
        for name, parameter in self.named_parameters():
            if self._is_own(name):
                parameter.copy_(state[name])

    def _is_own(self, name: str) -> bool:
        return self.method == "full" or name.startswith(("projector.", "branches.", "prompt"))

    def answer(
        self,
        tokens: Mapping[str, Tensor],
        ids: Tensor,
        lengths: Tensor,
        longest: int | None = None,
    ) -> Tensor:
        """States behind the last token of each text, with sensors in front.

        Args:
            tokens: of the active sensors, float32 `[batch, tokens, width]`; rows of zeros are no
                tokens.
            ids: int64 `[batch, tokens]`, texts padded on the right.
            lengths: int64 `[batch]`.
            longest: rows of the longest sequence, where the host knows it; else it waits for it.

        Returns:
            float32 `[batch, hidden_size]`, normed: logits are products with `rows_of`.
        """
        rows, counts = self._sequence(tokens, ids, lengths, longest)
        return self._through(rows, counts)

    @property
    def prompt_rows(self) -> int:
        """Learned rows in front of everything."""
        return 0 if self.prompt is None else len(self.prompt)

    def _sequence(
        self,
        tokens: Mapping[str, Tensor],
        ids: Tensor,
        lengths: Tensor,
        longest: int | None,
    ) -> tuple[Tensor, Tensor]:
        """Prompt rows, present sensor rows and text of each question, without gaps."""
        batch = len(ids)
        parts, present = [], []
        if self.prompt is not None:
            parts.append(self.prompt.expand(batch, -1, -1))
            present.append(torch.ones(parts[0].shape[:2], dtype=torch.bool, device=ids.device))
        for sensor, rows in tokens.items():
            parts.append(self._project_sensor(sensor, rows))
            present.append((rows != 0).any(-1))
        parts.append(functional.embedding(ids, self.embedding).float())
        places = torch.arange(ids.shape[1], device=ids.device)
        present.append(places < lengths[:, None])
        whole, there = torch.cat(parts, 1), torch.cat(present, 1)
        counts = there.sum(1)
        # Absent rows go to the end, where no other row sees them.
        stop = int(counts.max()) if longest is None else longest
        order = torch.argsort((~there).int(), dim=1, stable=True)[:, :stop]
        return whole.gather(1, order[..., None].expand(-1, -1, whole.shape[-1])), counts

    def _project_sensor(self, sensor: str, rows: Tensor) -> Tensor:
        modality, parts = self.sensors.modalities[sensor], self.projector
        x = (rows + parts[f"offset/{sensor}"]).to(self.dtype)
        for number in (1, 2):
            weight = parts[f"{modality}/w{number}"].to(self.dtype)
            x = x @ weight + parts[f"{modality}/b{number}"].to(self.dtype)
            x = functional.gelu(x) if number == 1 else x
        return x.float()

    def _through(self, x: Tensor, counts: Tensor) -> Tensor:
        last, branches = counts - 1, self.low_rank()
        for index in range(self.num_blocks):
            only = last if index == self.num_blocks - 1 else None
            x = self._block(x, index, only, branches)
        return self._norm(x[:, 0], "final_norm")

    def _block(
        self, x: Tensor, index: int, only: Tensor | None, branches: LowRank | None
    ) -> Tensor:
        """One block; `only` is the one row of each sequence that is wanted behind it."""
        normed = self._norm(x, f"attention_norm{index}").to(self.dtype)
        query, key, value = self._project(normed, index, branches)
        query = query.transpose(1, 2)
        places = torch.arange(x.shape[1], device=x.device)
        if only is None:
            query = self._rotate(query, places)
            hidden = (places > places[:, None])[None, None]
        else:
            at = torch.arange(len(x), device=x.device)
            query = self._rotate(query[at, :, only][:, :, None], only[:, None, None])
            hidden = (places > only[:, None])[:, None, None]
            x = x[at, only][:, None]
        bias = torch.zeros(hidden.shape, dtype=self.dtype, device=x.device)
        bias = bias.masked_fill(hidden, _MASKED)
        attended = attend(query, key, value, bias).transpose(1, 2).flatten(2)
        return self._behind_attention(x, attended, index)
