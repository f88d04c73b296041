"""Packs whose encoders are detectors: built from a head and a backbone, and refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import save_file

from tailwire import open_runtime
from tailwire.export.detector_layers import DetectorKind
from tailwire.runtime import connections
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.errors import ModelError, PackError
from tailwire.runtime.files import sha256_of

from .detector_packs import (
    CAMERA,
    ENCODERS,
    LIDAR,
    SENSORS,
    frames,
    head,
    write_detector_pack,
)
from .torch_efficientnet import random_efficientnet

if TYPE_CHECKING:
    from .built_models import TinyModels

QUESTION = ("Is there a bus behind me?", ("yes", "no"))


@pytest.fixture
def config(tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RuntimeConfig:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
    folder = tmp_path / "pack"
    model = tiny.model("llama").config
    spec = ConnectionSpec(kind="plain", tail_blocks=3, hidden=8, width=8, layers=1, heads=2)
    sizes = {name: (one.tokens, one.width) for name, one in ENCODERS.items()}
    shapes = connections.weight_shapes(spec, model, sizes, SENSORS)
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    write_detector_pack(folder, model, spec, name="detectors", weights=weights)
    return RuntimeConfig(
        model=str(tiny.folder("llama")), precision="fp32", pack=str(folder), threads=1
    )


def read(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "pack.yaml").read_text())


def write(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "pack.yaml").write_text(yaml.safe_dump(manifest))


def test_both_detectors_answer_and_what_shapes_them_is_in_their_key(
    config: RuntimeConfig, tmp_path: Path
) -> None:
    with open_runtime(config) as rt:
        answer = rt.ask(frames(), *QUESTION)
        assert answer.text in QUESTION[1]
        assert not answer.dropped
    first = set((tmp_path / "cache" / "engines").glob("*/encoder.onnx"))
    assert len(first) == 2

    folder = Path(config.pack)
    manifest = read(folder)
    # As many cells, but each of another size: another graph of the same weights.
    manifest["encoders"]["lidar"]["input"] |= {"range_m": 10.0, "cell_m": 0.5}
    torch.save(random_efficientnet(1).state_dict(), folder / "backbone.pth")
    manifest["files"]["backbone.pth"]["sha256"] = sha256_of(folder / "backbone.pth")
    write(folder, manifest)
    open_runtime(config).close()
    second = set((tmp_path / "cache" / "engines").glob("*/encoder.onnx"))
    assert len(second - first) == 2


@pytest.mark.parametrize(
    ("file", "field"), [(CAMERA.file, "row"), (LIDAR.file, "head.rest.weight")]
)
def test_a_head_without_an_array_is_refused(config: RuntimeConfig, file: str, field: str) -> None:
    folder = Path(config.pack)
    kind: DetectorKind = "camera_detector" if file == CAMERA.file else "bev_detector"
    weights = head(kind, np.float32)
    del weights[field]
    save_file(weights, folder / file)
    manifest = read(folder)
    manifest["files"][file]["sha256"] = sha256_of(folder / file)
    write(folder, manifest)
    with pytest.raises(ModelError, match=field):
        open_runtime(config)


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_a_head_of_another_dtype_is_refused(config: RuntimeConfig, dtype: type) -> None:
    folder = Path(config.pack)
    save_file(head("bev_detector", dtype), folder / LIDAR.file)
    manifest = read(folder)
    manifest["files"][LIDAR.file]["sha256"] = sha256_of(folder / LIDAR.file)
    write(folder, manifest)
    with pytest.raises(PackError, match="float32 or float16 is needed"):
        open_runtime(config)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda m: m["files"].pop("backbone.pth"), "backbone.pth"),
        (lambda m: m["files"]["backbone.pth"].update(sha256="0" * 64), "backbone.pth"),
        (lambda m: m["encoders"]["camera"].update(backbone=None), "backbone"),
        (lambda m: m["encoders"]["lidar"].update(backbone="backbone.pth"), "backbone"),
        (lambda m: m["encoders"]["lidar"].update(width=320), "width must be 64"),
    ],
    ids=["unlisted", "hash", "none", "of a LiDAR", "width"],
)
def test_a_manifest_that_does_not_fit_is_refused(
    config: RuntimeConfig, change: Any, word: str
) -> None:
    folder = Path(config.pack)
    manifest = read(folder)
    change(manifest)
    write(folder, manifest)
    with pytest.raises(PackError, match=word):
        open_runtime(config)
