"""Models that are used where they lie: folders that lack files, swapped weights, odd indices."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from tailwire.runtime.errors import ModelError
from tailwire.runtime.local_models import content_sha256, local_model_files
from tailwire.runtime.model_registry import ModelRegistry

GGUF = b"GGUF" + bytes(range(256))


@pytest.fixture(autouse=True)
def no_models_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TAILWIRE_OFFLINE", "TAILWIRE_MODELS", "TAILWIRE_CACHE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path / "cache")


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(GGUF)
    return path


class TestLocalModels:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "my-model"
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": "llama"}')
        (folder / "tokenizer.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
        return folder

    @pytest.fixture
    def sharded(self, folder: Path) -> Path:
        (folder / "model.safetensors").unlink()
        (folder / "a.safetensors").write_bytes(b"a")
        (folder / "b.safetensors").write_bytes(b"b")
        (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "a.safetensors"}}'
        )
        return folder

    def test_used_where_they_lie(
        self, registry: ModelRegistry, folder: Path, gguf: Path, tmp_path: Path
    ) -> None:
        before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
        for path in (folder, gguf):
            assert registry.path(path) == registry.get(str(path)) == path
            assert len(registry.sha256(path)) == 64
        assert registry.sha256(gguf) == hashlib.sha256(GGUF).hexdigest()
        # Records of hashes go to the cache, not beside files that are not ours.
        assert before == {path for path in tmp_path.rglob("*") if "cache" not in path.parts}

    def test_relative_path(
        self, registry: ModelRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder.parent)
        assert registry.path("./my-model") == registry.path("my-model") == folder

    def test_hash_is_what_sha256sum_says(self, sharded: Path) -> None:
        names = sorted(path.name for path in local_model_files(sharded))
        assert len(names) == 5
        listed = subprocess.run(
            ["sha256sum", *names], cwd=sharded, capture_output=True, check=True
        ).stdout
        assert content_sha256(sharded) == hashlib.sha256(listed).hexdigest()

    def test_pins(self, registry: ModelRegistry, folder: Path) -> None:
        pin = content_sha256(folder)
        assert registry.get(folder, sha256=pin) == registry.path(folder, sha256=pin) == folder
        (folder / "model.safetensors").write_bytes(b"swapped!")
        for call in (registry.get, registry.path):
            with pytest.raises(ModelError, match=f"{pin} expected, {content_sha256(folder)} found"):
                call(folder, sha256=pin)

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "b.safetensors"])
    def test_missing_files_are_named(
        self, registry: ModelRegistry, sharded: Path, name: str
    ) -> None:
        (sharded / name).unlink()
        with pytest.raises(ModelError, match=f"lacks {name}"):
            registry.path(sharded)

    def test_pickled_weights(self, registry: ModelRegistry, folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match=r"lacks model.safetensors.*convert"):
            registry.path(folder)

    @pytest.mark.parametrize(
        "index", ["", "[]", "{}", '{"weight_map": {"x": "../a.safetensors"}}', '{"weight_map": 1}']
    )
    def test_a_broken_index(self, registry: ModelRegistry, sharded: Path, index: str) -> None:
        (sharded / "model.safetensors.index.json").write_text(index)
        with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json: "):
            registry.path(sharded)

    def test_files_of_other_kinds(self, registry: ModelRegistry, tmp_path: Path) -> None:
        (tmp_path / "x.gguf").write_bytes(b"no model")
        with pytest.raises(ModelError, match="neither a GGUF file"):
            registry.path(tmp_path / "x.gguf")
        with pytest.raises(ModelError, match="No such file"):
            registry.path("absent.gguf")

    def test_no_file_is_put_in_its_place(
        self, registry: ModelRegistry, folder: Path, gguf: Path
    ) -> None:
        with pytest.raises(ModelError, match="where it lies"):
            registry.get(folder, from_file=gguf)
