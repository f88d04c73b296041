"""The benchmark of composing: real compositions, counted and weighed; no times are asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailwire.benchmarks.composition import PackSizes, bench_composing, write_made_pack
from tailwire.cli import main
from tailwire.runtime.errors import ConfigError
from tailwire.runtime.pack import load_pack

from ..runtime.test_pack import CONFIG

if TYPE_CHECKING:
    from ..built_models import TinyModels

SMALL = PackSizes(tail_blocks=3, hidden=16, lora_rank=2, text_rank=2, encoder_bytes=10_000)


def test_made_packs_are_whole_and_differ(tmp_path: Path) -> None:
    packs = [
        load_pack(write_made_pack(tmp_path / n, CONFIG, "tiny", n, SMALL)) for n in ("one", "two")
    ]
    assert [pack.manifest.connection.lora_rank for pack in packs] == [2, 2]
    assert packs[0].text_label and packs[0].text_label != packs[1].text_label
    # Neither the search for weights nor anything else may take them for trained ones.
    assert not any(pack.manifest.trained for pack in packs)


def test_every_method_is_measured_for_every_number_of_packs(tmp_path: Path) -> None:
    result = bench_composing(tmp_path, CONFIG, "tiny", SMALL, (2, 3), rounds=1)
    assert set(result["composing"]) == {"2", "3"}
    for count, methods in result["composing"].items():
        assert set(methods) == {"naive", "damc", "task-arithmetic", "ties", "dare", "tsv"}
        for method, one in methods.items():
            pack = load_pack(tmp_path / f"{method}-{count}-0")
            composition = pack.manifest.composition
            assert composition is not None and len(composition.parts) == int(count)
            assert one["pack_bytes"] == sum(file.stat().st_size for file in pack.folder.iterdir())
            assert one["seconds"] > 0


def test_one_pack_is_no_composition(tmp_path: Path) -> None:
    for counts, rounds in (((), 1), ((1, 2), 1), ((2,), 0)):
        with pytest.raises(ConfigError):
            bench_composing(tmp_path, CONFIG, "tiny", SMALL, counts, rounds)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_one_object(
    tiny: TinyModels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "composition", "--model", str(tiny.folder("llama")), "--packs", "2"]
    options = ["--rounds", "1", "--tail", "2", "--no-decode", "--json"]
    assert main([*arguments, *options]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["benchmark"] == "composition"
    assert {"naive", "damc"} <= said["composing"]["2"].keys()
    assert main([*arguments[:-1], "1", *options]) == 2
    assert "--packs" in capsys.readouterr().err
