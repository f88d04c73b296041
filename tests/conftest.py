"""Models that several rooms' tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .built_models import SmolLm2, TinyModels


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyModels]:
    """Tiny random-weight models of every family."""
    models = TinyModels(tmp_path_factory.mktemp("tiny-models"))
    yield models
    models.close()


@pytest.fixture(scope="session")
def smollm2() -> Iterator[SmolLm2]:
    """SmolLM2-135M-Instruct, the default language model."""
    model = SmolLm2()
    yield model
    model.close()


@pytest.fixture(scope="session")
def ordinary_text() -> str:
    """A thousand and more tokens of plain English."""
    return Path(__file__).parents[1].joinpath("benchmarks", "ordinary_text.txt").read_text("utf-8")


@pytest.fixture(scope="module")
def export_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of a module's own, and no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILWIRE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TAILWIRE_OFFLINE", "1")
        yield
