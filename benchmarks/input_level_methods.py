"""Ways to train a whole language model with sensors, and where their tokens enter; no torch.

Kept apart from the models so that costs can be counted on machines without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: What is trained beside a projector at the input: all weights, branches, or rows in front.
Method = Literal["full", "lora", "prompt"]
METHODS: tuple[Method, ...] = ("full", "lora", "prompt")
#: The same where sensors enter as the tail's prefix and the connection is trained beside it.
PrefixMethod = Literal["prefix-full", "prefix-lora"]
PREFIX_METHODS: tuple[PrefixMethod, ...] = ("prefix-full", "prefix-lora")
BASELINES: tuple[str, ...] = (*METHODS, *PREFIX_METHODS)

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
