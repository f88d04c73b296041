"""Head states computed by torch against those of the engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.export.checkpoint import open_checkpoint
from tailwire.runtime.adaptation.text_states import packed_states

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="training is in torch")

from tailwire.training.device_heads import device_head_texts

TEXTS = ((11, 12, 13, 14), (201, 45, 7, 80, 9, 31, 5, 6, 77), (100,))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_they_are_what_engines_compute(tiny: TinyModels, kind: str) -> None:
    checkpoint = open_checkpoint(tiny.folder(kind))
    model = tiny.model(kind)
    blocks = checkpoint.config.num_blocks
    stops = [group.stop for group, _ in model.groups if group.stop < blocks]
    assert stops
    depths = [blocks - stop for stop in stops]
    found = device_head_texts(checkpoint, TEXTS, depths, "cpu")
    for depth, states in zip(depths, packed_states(model, TEXTS, stops), strict=True):
        np.testing.assert_array_equal(found[depth].offsets, [0, 4, 13, 14])
        np.testing.assert_allclose(found[depth].states, states, rtol=2e-3, atol=2e-3)
