"""Counted figures of two packs are those on record: FLOPs, bytes, operators and tokens, exactly.

A change that makes a frame dearer, or counts it otherwise, shows here. Where that is meant:
`TAILWIRE_RECORD=1 pytest tests/benchmarks/test_counted_figures.py` writes the record anew, and the
commit says why. Times are recorded by benchmarks only.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import save_file

from tailwire.assembly import Assembly
from tailwire.benchmarks.cost_card import cost_card
from tailwire.export.range_encoder import random_weights
from tailwire.runtime.config import DRIVING_PACK, RuntimeConfig, shipped_pack
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.errors import TailwireError

from ..built_models import TinyModels
from ..packs import RANGE_LIDAR, write_small_pack

RECORD = Path(__file__).parents[1] / "data" / "counted_figures.json"
QUESTIONS = (
    ("Is there a bus behind me?", ("yes", "no")),
    ("How many moving cars are there?", ("0", "1", "2", "3")),
)


def counted(config: RuntimeConfig, sensors: list[str] | None = None) -> dict[str, Any]:
    """All counted figures of a pack, as JSON has them."""
    assembly = Assembly(config, lambda _: None)
    with assembly.runtime() as runtime:
        asked = [runtime.prepare(text, answers) for text, answers in QUESTIONS]
        card = cost_card(
            runtime.parts, asked, assembly.graphs, sensors or list(runtime.sensors), None
        )
    # Texts are free to change, and files are as large as the paths in them are long.
    card.pop("method")
    card["parts"]["language model"].pop("name")
    for engine in card["engines"].values():
        engine.pop("file_bytes")
    return json.loads(json.dumps(card))


def check(name: str, found: dict[str, Any]) -> None:
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if os.environ.get("TAILWIRE_RECORD"):
        record[name] = found
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    for part, value in record[name].items():
        assert found[part] == value, f"{part} of {name}; see the top of {__file__}"
    assert found.keys() == record[name].keys()


def test_tiny_pack(tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "pack"
    folder.mkdir()
    save_file(random_weights(0), folder / "lidar.safetensors")
    lidar = RANGE_LIDAR
    spec = ConnectionSpec(
        kind="conditioned", tail_blocks=3, hidden=8, width=8, layers=1, heads=2, lora_rank=2
    )
    sensors = {"lidar_top": "lidar", "lidar_back": "lidar"}
    config = tiny.model("llama").config
    write_small_pack(folder, config, spec, {"lidar": lidar}, sensors)
    model = str(tiny.folder("llama"))
    check("tiny", counted(RuntimeConfig(model=model, pack=str(folder), precision="int8")))


def test_shipped_pack() -> None:
    folder = shipped_pack(DRIVING_PACK)
    assert folder is not None
    manifest = yaml.safe_load((folder / "pack.yaml").read_text())
    sensors = [one["name"] for one in manifest["sensors"] if one["encoder"] != "objects"]
    try:
        found = counted(RuntimeConfig(pack=DRIVING_PACK, precision="int8"), sensors)
    except TailwireError as error:
        if "fetch" in str(error) or "offline" in str(error).lower():
            pytest.skip(f"the language model cannot be had: {error}")
        raise
    check("driving", found)
