"""llama.cpp must get the same weights: Q8_0 written from the pinned file, checked by the reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType

from tailwire.benchmarks.peers.llama_peer import write_q8_0
from tailwire.export.gguf_checkpoint import GgufCheckpoint

from ..tiny_gguf import write_tiny_gguf
from ..tiny_models import save_tiny_model


def test_q8_0_copy_has_the_same_weights_and_metadata(tmp_path: Path) -> None:
    checkpoint = save_tiny_model("llama", tmp_path / "checkpoint")
    source = write_tiny_gguf(checkpoint, tmp_path / "tiny.gguf", GGMLQuantizationType.Q4_1)
    target = tmp_path / "tiny.Q8_0.gguf"
    write_q8_0(source, target)
    before, after = GgufCheckpoint(source), GgufCheckpoint(target)
    assert after.config == before.config
    assert after.tokenizer_json() == before.tokenizer_json()
    for index in range(before.config.num_blocks):
        for part in ("qkv", "output", "ffn_in", "ffn_out"):
            old = getattr(before.block(index), part).weight.dense()
            new = getattr(after.block(index), part).weight.dense()
            # Rounding to 1/127 of the largest of 32, plus a float16 scale.
            step = np.abs(old).reshape(-1, 32).max(axis=1) / 127
            error = np.abs(new - old).reshape(-1, 32).max(axis=1)
            assert (error <= 0.51 * step + 1e-3 * np.abs(old).max()).all()
