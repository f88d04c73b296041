"""The configuration: YAML and arguments together, wrong keys and values by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import tailwire.runtime.config as config_module
from tailwire.runtime.config import (
    STARTER_PACK,
    RuntimeConfig,
    default_pack,
    pack_folder,
    read_config,
)
from tailwire.runtime.errors import ConfigError, PackError
from tailwire.runtime.plans import Budget


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_without_anything_the_defaults_hold() -> None:
    config = read_config(None)
    assert config == RuntimeConfig()
    assert config.precision == "int8"
    assert config.pack == default_pack(config.model)
    assert config.sensors is None
    assert config.budget == Budget()


def test_a_file_is_read_and_arguments_win(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "precision: int4\nthreads: 3\nsensors: [cam_front, lidar_top]\nbudget: {flops: 1000}\n",
    )
    config = read_config(path, threads=1, pack=None)
    assert (config.precision, config.threads) == ("int4", 1)
    assert config.sensors == ("cam_front", "lidar_top")
    assert config.budget.flops == 1000
    assert config.pack == RuntimeConfig().pack


@pytest.fixture
def packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped packs with nothing in it."""
    folder = tmp_path / "packs"
    monkeypatch.setattr("tailwire.runtime.config._SHIPPED_PACKS", folder)
    return folder


def test_the_shipped_pack_is_the_default_where_it_is(packs: Path) -> None:
    assert RuntimeConfig().pack == STARTER_PACK
    with pytest.raises(PackError, match="driving"):
        pack_folder("driving")
    (packs / "driving").mkdir(parents=True)
    assert RuntimeConfig().pack == STARTER_PACK, "a folder without a manifest is no pack"
    (packs / "driving" / "pack.yaml").touch()
    assert RuntimeConfig().pack == "driving"
    assert pack_folder(RuntimeConfig().pack) == packs / "driving"


def test_a_named_pack_or_another_model_keeps_the_default_away(packs: Path) -> None:
    (packs / "driving").mkdir(parents=True)
    (packs / "driving" / "pack.yaml").touch()
    assert read_config(None, pack="starter").pack == STARTER_PACK
    assert RuntimeConfig(model="other.gguf").pack == STARTER_PACK
    assert RuntimeConfig(model="other.gguf", pack="driving").pack == "driving"
    assert pack_folder("./driving") == Path("driving")


def test_shipped_packs_lie_where_wheels_and_checkouts_have_them() -> None:
    import tailwire

    assert Path(tailwire.__file__).parent / "packs" == config_module._SHIPPED_PACKS


def test_what_is_written_beside_results_reads_back(tmp_path: Path) -> None:
    config = RuntimeConfig(
        sensors=("cam_front",), tail_blocks=4, budget=Budget(flops=10**9, latency_ms=33.3)
    )
    path = write(tmp_path, yaml.safe_dump(config.model_dump(mode="json")))
    assert read_config(path) == config


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "{}\n"])
def test_an_empty_file_means_the_defaults(tmp_path: Path, text: str) -> None:
    assert read_config(write(tmp_path, text)) == RuntimeConfig()


#: The wrong value, and the key that the message names.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"tail": 4}, "tail"),
    "unknown key inside": ({"budget": {"watts": 5}}, "budget.watts"),
    "precision": ({"precision": "int2"}, "precision"),
    "text for a number": ({"threads": "many"}, "threads"),
    "fraction": ({"tail_blocks": 2.5}, "tail_blocks"),
    "zero": ({"tail_blocks": 0}, "tail_blocks"),
    "negative": ({"threads": -1}, "threads"),
    "too many threads": ({"threads": 10_000}, "threads"),
    "one sensor as text": ({"sensors": "cam_front"}, "sensors"),
    "sensors of numbers": ({"sensors": [1]}, "sensors.0"),
    "NaN age": ({"max_age_ms": float("nan")}, "max_age_ms"),
    "endless age": ({"max_age_ms": float("inf")}, "max_age_ms"),
    "no age": ({"max_age_ms": 0}, "max_age_ms"),
    "NaN latency": ({"budget": {"latency_ms": float("nan")}}, "budget.latency_ms"),
    "NaN energy": ({"budget": {"energy_mj": float("nan")}}, "budget.energy_mj"),
    "NaN flops": ({"budget": {"flops": float("nan")}}, "budget.flops"),
    "endless flops": ({"budget": {"flops": float("inf")}}, "budget.flops"),
    "no memory": ({"budget": {"memory_bytes": 0}}, "budget.memory_bytes"),
    "negative flops": ({"budget": {"flops": -1}}, "budget.flops"),
    "a number for a budget": ({"budget": 7}, "budget"),
    "a list for a name": ({"model": ["a"]}, "model"),
    "numbered key": ({5: "five"}, "5"),  # pyright: ignore[reportAssignmentType] - YAML allows it
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_key_in_a_file_is_named(tmp_path: Path, name: str) -> None:
    values, key = WRONG[name]
    path = write(tmp_path, yaml.safe_dump(values))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert caught.value.field == f"{path}: {key}"
    assert caught.value.remedy


@pytest.mark.parametrize("name", [name for name in WRONG if name != "numbered key"])
def test_a_wrong_argument_is_named_and_the_file_is_not_blamed(tmp_path: Path, name: str) -> None:
    values, key = WRONG[name]
    path = write(tmp_path, "threads: 2\n")
    with pytest.raises(ConfigError) as caught:
        read_config(path, **values)
    assert caught.value.field == key


BROKEN = {
    "a list": "- 1\n",
    "a text": "fast",
    "no yaml": "a: [",
    "not utf-8": b"\xff\xfe\x00a",
    "impossible date": "model: 2024-13-45\n",
    "very deep": "[" * 20000,
    "object": "model: !!python/object/apply:os.getcwd []\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, BROKEN[name])
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_config(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            read_config(path)
        assert str(path) in caught.value.field
