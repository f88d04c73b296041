"""Composed packs in a whole runtime: they load, answer with the sensors of all parts, and adapt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from tailwire import open_runtime
from tailwire.cli import main
from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.folded_checkpoint import FoldedCheckpoint
from tailwire.export.range_encoder import random_weights
from tailwire.export.tail_weights import tail_weights
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.pack import load_pack

from .composed import random_change, seal, shape
from .packs import RANGE_LIDAR, write_small_pack

if TYPE_CHECKING:
    from .built_models import TinyModels

pytest.importorskip("torch", reason="the tiny models are made with torch")

QUESTION = ("Is there a bus behind me?", ("yes", "no"))


def cloud(sensor: str, seed: int) -> SensorFrame:
    points = np.random.default_rng(seed).normal(0, 10, (200, 5)).astype(np.float32)
    return SensorFrame(sensor, "lidar", seed, "lidar_link", points)


def write_pack(tiny: TinyModels, folder: Path, sensor: str, seed: int, *, text: bool) -> Path:
    folder.mkdir()
    config = tiny.model("llama").config
    save_file(random_weights(seed), folder / RANGE_LIDAR.file)
    encoders, sensors = {"lidar": RANGE_LIDAR}, {sensor: "lidar"}
    write_small_pack(folder, config, shape(), encoders, sensors, name=folder.name)
    if text:
        change = random_change(config, (1, 4), seed=seed)
        save_file(change.arrays(), folder / "text.safetensors")
        seal(folder, text=[{"file": "text.safetensors"}])
    return folder


@pytest.mark.parametrize("text", [False, True], ids=["beside", "folded"])
def test_a_composed_pack_answers_with_the_sensors_of_all_parts(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bool
) -> None:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
    folders = [
        write_pack(tiny, tmp_path / f"of_{sensor}", sensor, seed, text=text)
        for seed, sensor in enumerate(("lidar_front", "lidar_rear"))
    ]
    out = tmp_path / "both"
    assert main(["compose", *map(str, folders), "--out", str(out)]) == 0
    config = RuntimeConfig(
        model=str(tiny.folder("llama")), precision="fp32", pack=str(out), threads=1
    )
    frames = [cloud("lidar_front", 1), cloud("lidar_rear", 2)]
    with open_runtime(config) as runtime:
        assert runtime.known_sensors == ("lidar_front", "lidar_rear")
        both = runtime.ask(frames, *QUESTION)
        assert list(both.sensors) == ["lidar_front", "lidar_rear"]
        # Parts count differently from one frame to the next, and back.
        louder = runtime.connection.with_lora_weights({"of_lidar_rear": 1.0})
        before = runtime.swap_connection(louder)
        assert runtime.ask(frames, *QUESTION).confidence != both.confidence
        runtime.swap_connection(before)
        assert runtime.ask(frames, *QUESTION).confidence == both.confidence
        # Adaptation learns through the tail that answers.
        checkpoint = open_checkpoint(tiny.folder("llama"))
        change = load_pack(out).text_change()
        assert (change is not None) == text
        wanted = checkpoint if change is None else FoldedCheckpoint(checkpoint, change)
        read = runtime.parts.tail_weights
        assert read is not None
        for mine, theirs in zip(read(3).blocks, tail_weights(wanted, 3).blocks, strict=True):
            np.testing.assert_array_equal(mine.ffn_out, theirs.ffn_out)
    # Engines with a change folded in are never taken for those of the model itself.
    with open_runtime(config.model_copy(update={"pack": str(folders[0])})) as runtime:
        assert runtime.ask(frames[:1], *QUESTION).confidence != both.confidence
