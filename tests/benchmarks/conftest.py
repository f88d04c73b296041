"""A tiny language model: a benchmark must measure the right thing before the right time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.llm_graphs import build_language_model
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.language_model import LanguageModel

from ..tiny_models import DEPTHS, save_tiny_model


@pytest.fixture(scope="module", params=["llama", "bloom", "opt"])
def tiny_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LanguageModel]:
    checkpoint: Path = save_tiny_model(request.param, tmp_path_factory.mktemp("checkpoint"))
    folder = tmp_path_factory.mktemp("engines")
    build_language_model(
        open_checkpoint(checkpoint),
        folder,
        name=request.param,
        content_hash="test",
        precision="fp32",
        depths=DEPTHS,
    )
    model = LanguageModel(folder, OnnxRuntimeEngine, threads=1)
    yield model
    model.close()
