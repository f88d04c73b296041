"""Peaks come from a forward pass of our own; transformers, run on the same tokens, must agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tailwire.export import calibrate
from tailwire.export.calibrate import activation_peaks
from tailwire.export.hf_checkpoint import HfCheckpoint
from tailwire.export.llm_layers import outlier_channels
from tailwire.export.weights import DenseMatrix

from ..tiny_models import BLOCKS, MAX_POSITIONS, save_tiny_model

#: By family: modules whose inputs are those of a block's first layers.
_FIRST_LAYERS = {
    "llama": ("model.layers.{}.self_attn.q_proj", "model.layers.{}.mlp.gate_proj"),
    "llama3": ("model.layers.{}.self_attn.q_proj", "model.layers.{}.mlp.gate_proj"),
    "qwen2": ("model.layers.{}.self_attn.q_proj", "model.layers.{}.mlp.gate_proj"),
    "opt": ("model.decoder.layers.{}.self_attn.q_proj", "model.decoder.layers.{}.fc1"),
    "opt_post_norm": ("model.decoder.layers.{}.self_attn.q_proj", "model.decoder.layers.{}.fc1"),
    "bloom_6_heads": (
        "transformer.h.{}.self_attention.query_key_value",
        "transformer.h.{}.mlp.dense_h_to_4h",
    ),
}


@pytest.mark.parametrize("family", _FIRST_LAYERS)
def test_peaks_equal_those_of_transformers(family: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is the reference")
    transformers = pytest.importorskip("transformers", reason="transformers is the reference")
    folder = save_tiny_model(family, tmp_path)
    text = calibrate._TEXT
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    ids = ids[: min(calibrate._MAX_TOKENS, MAX_POSITIONS)]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found: dict[str, NDArray[np.float32]] = {}

    def record(name: str) -> Any:
        def hook(_module: Any, inputs: Any) -> None:
            values = inputs[0].reshape(-1, inputs[0].shape[-1])
            found[name] = values.abs().amax(0).numpy()

        return hook

    names = [[stem.format(i) for stem in _FIRST_LAYERS[family]] for i in range(BLOCKS)]
    for pair in names:
        for name in pair:
            model.get_submodule(name).register_forward_pre_hook(record(name))
    with torch.no_grad():
        model(torch.tensor([ids]))
    for peaks, (attention, feed_forward) in zip(
        activation_peaks(HfCheckpoint(folder)), names, strict=True
    ):
        np.testing.assert_allclose(peaks.attention, found[attention], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(peaks.feed_forward, found[feed_forward], rtol=1e-3, atol=1e-4)


def test_channels_that_stand_out_are_named() -> None:
    rng = np.random.default_rng(0)
    weight = DenseMatrix(rng.standard_normal((64, 256)).astype(np.float32))
    peaks = rng.uniform(1, 2, 256).astype(np.float32)
    loud = [3, 40, 41, 200]
    peaks[loud] = [80, 30, 50, 60]
    outliers = outlier_channels(weight, peaks)
    assert outliers is not None
    assert set(loud) <= set(outliers.tolist())


def test_even_channels_are_left_together() -> None:
    rng = np.random.default_rng(0)
    weight = DenseMatrix(rng.standard_normal((64, 256)).astype(np.float32))
    assert outlier_channels(weight, rng.uniform(1, 2, 256).astype(np.float32)) is None
    assert outlier_channels(weight, np.zeros(256, dtype=np.float32)) is None
