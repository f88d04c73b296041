"""Runtimes that `open_runtime` made learn a sensor and write a pack that opens again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire import AdaptationData, AdaptationRequest, KnownQuestion, RuntimeConfig, open_runtime
from tailwire.export.range_encoder import TOKEN_WIDTH, TOKENS

from .test_assembly import QUESTION, cloud, write_pack

if TYPE_CHECKING:
    from .built_models import TinyModels

pytest.importorskip("torch", reason="adaptation is in torch")


def lidar_data(moments: int = 96) -> AdaptationData:
    """The answer is the sign of the tokens along one direction."""
    rng = np.random.default_rng(0)
    signs = np.arange(moments) % 2 * 2 - 1
    direction = rng.normal(size=TOKEN_WIDTH)
    tokens = rng.normal(0, 0.3, (moments, TOKENS, TOKEN_WIDTH))
    tokens += 2 * signs[:, None, None] * direction
    text, answers = QUESTION
    return AdaptationData(
        {"lidar_top": tokens.astype(np.float32)},
        [f"scene {moment // 16}" for moment in range(moments)],
        [KnownQuestion(n, text, answers[int(sign < 0)], answers) for n, sign in enumerate(signs)],
    )


def test_what_was_learned_is_a_pack_that_opens(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    old = write_pack(tiny, tmp_path / "pack", kind="conditioned")
    content = {path.name: path.read_bytes() for path in old.iterdir()}
    config = RuntimeConfig(
        model=str(tiny.folder("llama")), precision="fp32", pack=str(old), threads=1, sensors=()
    )
    request = AdaptationRequest(
        add=("lidar_top",),
        epochs=40,
        batch=16,
        learning_rate=1e-2,
        lora_rank=2,
        precision="float32",
        threads=1,
        out=tmp_path / "adapted",
    )
    with open_runtime(config) as rt:
        rt.watch(*QUESTION)
        result = rt.adapt(request, lidar_data()).result(120)
        assert result.outcome == "swapped", result.reason
        answers = rt.step([cloud()])
    assert {path.name: path.read_bytes() for path in old.iterdir()} == content
    again = config.model_copy(update={"pack": str(result.folder), "sensors": None})
    with open_runtime(again) as rt:
        assert rt.pack.version == "1+add-lidar_top"
        rt.watch(*QUESTION)
        repeated = rt.step([cloud()])
    assert [(one.text, one.confidence, one.pack) for one in repeated] == [
        (one.text, one.confidence, one.pack) for one in answers
    ]
