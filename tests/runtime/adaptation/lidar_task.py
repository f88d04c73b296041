"""A task that only the LiDAR can solve: its tokens say yes or no, those of cameras are noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from tailwire.runtime.adaptation.data import AdaptationData, KnownQuestion
from tailwire.runtime.adaptation.request import AdaptationRequest

from ...fakes import MODALITIES, QUESTIONS, SENSORS, SPECS, WIDTH, YES_NO

CAMERAS = ("cam_front", "cam_back")
TEXT = QUESTIONS[0][0]
#: Quick to learn on one core.
QUICK: dict[str, Any] = {
    "epochs": 40.0,
    "batch": 16,
    "learning_rate": 1e-2,
    "precision": "float32",
    "threads": 1,
    "nice": 0,
    "lora_rank": 0,
}


def lidar_data(moments: int = 96, scenes: int = 6, **changes: Any) -> AdaptationData:
    """Moments in blocks; the answer is the sign of the LiDAR's tokens along one direction."""
    rng = np.random.default_rng(0)
    tokens = {
        sensor: rng.normal(0, 0.3, (moments, SPECS[MODALITIES[sensor]].tokens, WIDTH)).astype(
            np.float32
        )
        for sensor in SENSORS
    }
    signs = rng.permutation(np.arange(moments) % 2 * 2 - 1)
    tokens["lidar_top"] += 2 * signs[:, None, None] * rng.normal(size=WIDTH).astype(np.float32)
    questions = [
        KnownQuestion(moment, TEXT, YES_NO[int(sign < 0)], YES_NO)
        for moment, sign in enumerate(signs)
    ]
    columns: dict[str, Any] = {
        "tokens": tokens,
        "blocks": [f"scene {moment * scenes // moments}" for moment in range(moments)],
        "questions": questions,
    }
    return AdaptationData(**{**columns, **changes})


def add_lidar(**changes: Any) -> AdaptationRequest:
    """A request that is quickly learned."""
    return AdaptationRequest(**{"add": ("lidar_top",), **QUICK, **changes})
