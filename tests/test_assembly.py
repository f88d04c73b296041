"""Putting a runtime together: from files and caches, again from a warm cache, and failing whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from tailwire import engine_assembly, open_runtime
from tailwire.assembly import load_language_model
from tailwire.export.range_encoder import random_weights
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.errors import (
    ConfigError,
    EngineError,
    ModelError,
    PackError,
    SensorError,
    TailwireError,
)
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.model_registry import ModelRegistry
from tailwire.runtime.plans import Budget

from .packs import RANGE_LIDAR, write_small_pack

if TYPE_CHECKING:
    from .built_models import TinyModels

QUESTION = ("Is there a bus behind me?", ("yes", "no"))


def cloud(seed: int = 0) -> SensorFrame:
    points = np.random.default_rng(seed).normal(0, 10, (200, 5)).astype(np.float32)
    return SensorFrame("lidar_top", "lidar", seed, "lidar_link", points)


def write_pack(tiny: TinyModels, folder: Path, **connection: Any) -> Path:
    """A pack with one LiDAR, for the tiny Llama."""
    folder.mkdir(parents=True)
    config = tiny.model("llama").config
    sizes: dict[str, Any] = {"kind": "plain", "tail_blocks": 3, "hidden": 8, "width": 8}
    spec = ConnectionSpec(**{**sizes, "layers": 1, "heads": 2, **connection})
    save_file(random_weights(0), folder / RANGE_LIDAR.file)
    encoders, sensors = {"lidar": RANGE_LIDAR}, {"lidar_top": "lidar"}
    return write_small_pack(folder, config, spec, encoders, sensors, name="one-lidar")


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "pack.yaml").write_text(yaml.safe_dump(manifest))


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = yaml.safe_load((folder / "pack.yaml").read_text())
    change(manifest)
    write_manifest(folder, manifest)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
    return tmp_path / "cache"


@pytest.fixture
def config(tiny: TinyModels, tmp_path: Path, cache: Path) -> RuntimeConfig:
    return RuntimeConfig(
        model=str(tiny.folder("llama")),
        precision="fp32",
        pack=str(write_pack(tiny, tmp_path / "pack")),
        threads=1,
    )


class Loader:
    """Loads engines and remembers them; fails at a given one."""

    def __init__(self, fail_at: int = -1) -> None:
        self.opened: list[OnnxRuntimeEngine] = []
        self.closed: set[int] = set()
        self._fail_at = fail_at

    def __call__(self, path: Path, *, threads: int) -> OnnxRuntimeEngine:
        if len(self.opened) == self._fail_at:
            raise EngineError("no memory left", field=path.name)
        engine = OnnxRuntimeEngine(path, threads=threads)
        close, number = engine.close, len(self.opened)

        def noted() -> None:
            self.closed.add(number)
            close()

        engine.close = noted
        self.opened.append(engine)
        return engine

    @property
    def left_open(self) -> list[int]:
        return [n for n in range(len(self.opened)) if n not in self.closed]


@pytest.fixture
def use_loader(monkeypatch: pytest.MonkeyPatch) -> Callable[[Loader], Loader]:
    def use(loader: Loader) -> Loader:
        backends = {"onnxruntime-cpu": (loader, "onnxruntime test")}
        monkeypatch.setattr(engine_assembly, "_BACKENDS", backends)
        return loader

    return use


def test_from_nothing_and_again_from_the_cache(config: RuntimeConfig, cache: Path) -> None:
    told: list[list[str]] = [[], []]
    answers = []
    for progress in told:
        with open_runtime(config, progress.append) as rt:
            rt.watch(*QUESTION)
            answers += rt.step([cloud()])
    assert any("building" in line for line in told[0])
    assert told[1] == []
    assert answers[0].text == answers[1].text
    assert answers[0].confidence == answers[1].confidence
    assert answers[0].pack == "one-lidar 1"
    assert answers[0].pack_trained
    assert answers[0].dropped == {}
    assert answers[0].flops > answers[0].plan.flops > 0
    assert len(list((cache / "engines").iterdir())) >= 3


def test_the_configuration_reaches_the_runtime(config: RuntimeConfig) -> None:
    changed = config.model_copy(
        update={
            "tail_blocks": 1,
            "sensors": (),
            "max_age_ms": 5.0,
            "budget": Budget(flops=10**12),
            "precision": "int8",
        }
    )
    with open_runtime(changed) as rt:
        assert rt.tail_blocks == 1
        assert rt.sensors == ()
        assert rt.known_sensors == ("lidar_top",)
        assert rt.max_age_ms == 5
        assert rt.budget.flops == 10**12
        assert rt.ask((), *QUESTION).plan.precision == "int8"


@pytest.mark.parametrize("depth", [1, 3, 5, 6])
def test_any_depth_of_a_conditioned_pack_gets_its_stage(
    tiny: TinyModels, tmp_path: Path, config: RuntimeConfig, depth: int
) -> None:
    """The connection reads head states where its deepest tail begins, so engines must cut there."""
    pack = write_pack(tiny, tmp_path / "conditioned", kind="conditioned", tail_blocks=max(2, depth))
    changed = config.model_copy(update={"pack": str(pack), "tail_blocks": depth})
    with open_runtime(changed) as rt:
        answer = rt.ask([cloud()], *QUESTION)
        assert answer.plan.tail_blocks == depth
        assert list(answer.sensors) == ["lidar_top"]


def test_a_language_model_alone(tiny: TinyModels, cache: Path) -> None:
    model = load_language_model(str(tiny.folder("llama")), "fp32", threads=1, depths=(5,))
    ids = model.tokenizer.encode("Is there a bus?").ids
    logits = model.logits(model.tail([model.encode(ids, [5])], None, 5).final)
    np.testing.assert_allclose(logits[0], tiny.reference("llama").logits(ids)[-1], atol=1e-3)
    assert 1 in {group.start for group, _ in model.groups}
    model.close()


@pytest.fixture
def camera_weights() -> Path:
    """The real ones of the user's cache; asked for before a test takes a cache of its own."""
    try:
        return ModelRegistry().path("efficientnet-lite0")
    except ModelError as error:
        pytest.skip(f"the camera weights are not here: {error}")


@pytest.mark.parametrize(("pack", "kind"), [("starter", "plain"), ("starter-conditioned", None)])
def test_the_starter_pack_is_made_once(
    camera_weights: Path, tiny: TinyModels, cache: Path, pack: str, kind: str | None
) -> None:
    target = cache / "models" / "efficientnet-lite0" / camera_weights.name
    target.parent.mkdir(parents=True)
    target.symlink_to(camera_weights)
    config = RuntimeConfig(model=str(tiny.folder("llama")), precision="fp32", threads=1, pack=pack)
    told: list[list[str]] = [[], []]
    for progress in told:
        with open_runtime(config, progress.append) as rt:
            answer = rt.ask([cloud()], *QUESTION)
            assert rt.pack.connection.kind == (kind or "conditioned")
            assert answer.pack_trained is False
            assert answer.pack.startswith("starter ")
            assert len(rt.known_sensors) == 7
    assert told[0]
    assert told[1] == []


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "base model": (lambda m: m["base_model"].update(hidden_size=128), "hidden_size"),
    "hash": (lambda m: m["files"][RANGE_LIDAR.file].update(sha256="0" * 64), RANGE_LIDAR.file),
    "no builder": (lambda m: m["encoders"]["lidar"].update(kind="onnx"), "encoders.lidar.kind"),
    "weights of another encoder": (
        lambda m: m["encoders"]["lidar"].update(file="connection.safetensors"),
        "stem.conv.weight",
    ),
    "registry": (
        lambda m: m["files"][RANGE_LIDAR.file].update(registry="no-such-model"),
        "no-such-model",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_pack_that_does_not_fit_is_refused_and_nothing_stays_open(
    config: RuntimeConfig, use_loader: Callable[[Loader], Loader], name: str
) -> None:
    change, word = WRONG[name]
    change_manifest(Path(config.pack), change)
    loader = use_loader(Loader())
    with pytest.raises(TailwireError) as caught:
        open_runtime(config)
    assert word in str(caught.value)
    assert loader.left_open == []


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"backend": "abacus"}, ConfigError, "onnxruntime-cpu"),
        ({"model": "no-such-model"}, ModelError, "no-such-model"),
        ({"model": "nowhere/at/all"}, ModelError, "nowhere"),
        ({"pack": "nowhere/at/all"}, PackError, "pack.yaml"),
        ({"sensors": ("radar",)}, SensorError, "radar"),
        ({"tail_blocks": 4}, ConfigError, "tail"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_wrong_configuration_is_refused_and_nothing_stays_open(
    config: RuntimeConfig,
    use_loader: Callable[[Loader], Loader],
    change: dict[str, Any],
    error: type[TailwireError],
    word: str,
) -> None:
    loader = use_loader(Loader())
    with pytest.raises(error, match=word):
        open_runtime(config.model_copy(update=change))
    assert loader.left_open == []


def test_an_engine_that_cannot_be_loaded_leaves_none_open(
    config: RuntimeConfig, use_loader: Callable[[Loader], Loader]
) -> None:
    whole = use_loader(Loader())
    open_runtime(config).close()
    assert whole.left_open == []
    for index in range(len(whole.opened)):
        loader = use_loader(Loader(fail_at=index))
        with pytest.raises(EngineError, match="no memory left"):
            open_runtime(config)
        assert loader.left_open == []


def test_a_damaged_cost_file_is_named(config: RuntimeConfig, cache: Path) -> None:
    open_runtime(config).close()
    (path,) = (cache / "engines").glob("*/cost.json")
    for text in ("{}", "[]", "x"):
        path.chmod(0o644)
        # The same size, or the store would build the engine again by itself.
        path.write_text(text.ljust(path.stat().st_size))
        with pytest.raises(EngineError, match=r"cost\.json"):
            open_runtime(config)


def test_a_warm_start_needs_neither_builders_nor_torch(config: RuntimeConfig) -> None:
    open_runtime(config).close()
    code = f"""
import sys
for name in ("onnx", "gguf", "torch", "transformers", "rclpy"):
    sys.modules[name] = None
from tailwire import RuntimeConfig, open_runtime
config = RuntimeConfig.model_validate_json({config.model_dump_json()!r})
with open_runtime(config, lambda line: sys.exit(line)) as rt:
    print(rt.ask((), {QUESTION[0]!r}, {QUESTION[1]!r}).text)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in QUESTION[1]
