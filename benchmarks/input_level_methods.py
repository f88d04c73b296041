"""Ways to train an input-level model, and where its sensors' tokens enter; no torch.

Kept apart from `input_level_model.py` so that costs can be counted on machines without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: What is trained beside the projector: all weights, low-rank branches, or rows in front.
Method = Literal["full", "lora", "prompt"]
METHODS: tuple[Method, ...] = ("full", "lora", "prompt")

#: As in mPnP-LLM (2312.07886): rank and scale of the LoRA on keys and values.
LORA_RANK, LORA_ALPHA = 8, 32
PROMPT_ROWS = 20


@dataclass(frozen=True)
class SensorLayout:
    """Sensors whose tokens enter.

    Attributes:
        modalities: by sensor, in the order in which their tokens stand.
        widths: of a token, by modality.
    """

    modalities: Mapping[str, str]
    widths: Mapping[str, int]
