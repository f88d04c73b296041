"""What users may declare about models, and how their mistakes are named."""

from __future__ import annotations

import hashlib
import textwrap
from pathlib import Path

import pytest

from tailwire.runtime.errors import ConfigError, ModelError
from tailwire.runtime.model_registry import ModelRegistry
from tailwire.runtime.model_specs import (
    BUILT_IN_MODELS,
    DEFAULT_LANGUAGE_MODEL,
    LocalSource,
    ModelSpec,
)

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


class TestDeclarations:
    def test_built_in_models(self, tmp_path: Path) -> None:
        entries = ModelRegistry(tmp_path / "cache").entries()
        assert [(e.name, e.state) for e in entries] == [
            (DEFAULT_LANGUAGE_MODEL, "missing"),
            ("efficientnet-lite0", "missing"),
        ]
        assert all(e.licence == "Apache-2.0" and e.sha256 and e.size_bytes for e in entries)
        assert not (tmp_path / "cache").exists()

    def test_unknown_names(self, registry: ModelRegistry) -> None:
        with pytest.raises(ModelError, match="did you mean smollm2-135m-instruct;"):
            registry.path("smollm2-135m")
        with pytest.raises(ModelError, match="known are smollm2-135m-instruct, efficient"):
            registry.path("gpt")

    def test_models_of_the_user(
        self, tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = """
        models:
          - name: mine
            kind: language_model
            source: {type: local, path: mine.gguf}
            licence: MIT
            sha256: %s
          - name: absent
            kind: language_model
            source: {type: local, path: absent.gguf}
            licence: MIT
        """
        (tmp_path / "models.yaml").write_text(
            textwrap.dedent(text) % hashlib.sha256(GGUF).hexdigest()
        )
        (tmp_path / "other.yaml").write_text(
            "models: [{name: other, kind: encoder, licence: MIT, sha256: '%s', size_bytes: 1,"
            " source: {type: wheel, package: a, version: '1', member: b/c}}]" % ("0" * 64)
        )
        monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path))
        monkeypatch.setenv("TAILWIRE_MODELS", str(tmp_path / "other.yaml"))
        registry = ModelRegistry()
        states = {entry.name: entry.state for entry in registry.entries()}
        assert states == {
            **{spec.name: "missing" for spec in BUILT_IN_MODELS},
            "mine": "available",
            "absent": "missing",
            "other": "missing",
        }
        assert registry.path("mine") == gguf
        gguf.write_bytes(b"GGUF swapped")
        with pytest.raises(ModelError, match="expected"):
            registry.path("mine")

    @pytest.mark.parametrize(
        ("source", "key"),
        [
            ("{type: wheel, packge: a, version: '1', member: m}", "models.0.source.pack"),
            ("{type: wheel, package: a, version: '1', member: ../m}", "models.0.source.member"),
            ("{type: wheel, package: a, version: '1', member: /m}", "models.0.source.member"),
            ("{type: wheel, package: -r, version: '1', member: m}", "models.0.source.package"),
            ("{type: wheel, package: a, version: 1; x, member: m}", "models.0.source.version"),
            ("{type: git, path: m}", "models.0.source"),
            ("{type: local, path: m}, sise: 1", "models.0.sise: unknown key"),
            ("{type: local, path: m}, sha256: abc", "models.0.sha256"),
            ("{type: wheel, package: a, version: '1', member: m}", "needs sha256 and size_bytes"),
        ],
    )
    def test_wrong_keys_are_named(self, tmp_path: Path, source: str, key: str) -> None:
        (tmp_path / "models.yaml").write_text(
            f"models: [{{name: a, kind: encoder, licence: MIT, source: {source}}}]"
        )
        with pytest.raises(ConfigError) as caught:
            ModelRegistry(tmp_path)
        assert key in str(caught.value)
        assert str(tmp_path / "models.yaml") in str(caught.value)

    @pytest.mark.parametrize("name", ["../up", ".hidden", "UPPER", "a/b", ""])
    def test_names_that_are_no_folder_names(self, name: str) -> None:
        with pytest.raises(ValueError, match="name"):
            ModelSpec(name=name, kind="encoder", source=LocalSource(path=Path("x")), licence="MIT")

    def test_a_built_in_name_cannot_be_taken(self, tmp_path: Path) -> None:
        source = LocalSource(path=tmp_path)
        usurper = ModelSpec(
            name=DEFAULT_LANGUAGE_MODEL, kind="language_model", source=source, licence="MIT"
        )
        with pytest.raises(ConfigError, match=DEFAULT_LANGUAGE_MODEL):
            ModelRegistry(tmp_path, extra=[usurper])

    def test_files_that_are_no_yaml(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for content in ("models: [", "\x00", "- 1", "3"):
            (tmp_path / "models.yaml").write_text(content)
            with pytest.raises(ConfigError, match=r"models\.yaml"):
                ModelRegistry(tmp_path)
        monkeypatch.setenv("TAILWIRE_MODELS", str(tmp_path / "absent.yaml"))
        (tmp_path / "models.yaml").unlink()
        with pytest.raises(ConfigError, match="TAILWIRE_MODELS"):
            ModelRegistry(tmp_path)
