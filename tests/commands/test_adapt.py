"""`tailwire adapt`: a tiny pack learns from a made drive; what is refused; wrong input."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from tailwire.commands import adapt_report
from tailwire.commands.adapt_sensors import wanted_change
from tailwire.export.range_encoder import random_weights
from tailwire.runtime.adaptation.outcome import AdaptationProgress
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.errors import ConfigError, SensorError
from tailwire.runtime.pack import (
    load_pack,
)
from tailwire.training.pack_writer import encoder_specs

from ..packs import RANGE_LIDAR, write_small_pack
from ..quick_drives import quick_drive
from .conftest import Run

if TYPE_CHECKING:
    from ..built_models import TinyModels

KINDS = {"cam_front": "camera", "cam_back": "camera", "lidar_top": "lidar", "objects": "objects"}
#: Quick to learn with; half of the questions.
QUICK = ("--epochs", "3", "--learning-rate", "0.01", "--batch", "16", "--limit", "12")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_drive(tmp_path_factory.mktemp("drives") / "quick")


@pytest.fixture
def pack(tiny: TinyModels, tmp_path: Path) -> Path:
    """An untrained pack with two LiDARs and objects, for the tiny Llama."""
    folder = tmp_path / "pack"
    folder.mkdir()
    config = tiny.model("llama").config
    lidar = RANGE_LIDAR
    encoders = {"lidar": lidar, "objects": encoder_specs()["objects"]}
    sensors = {"lidar_top": "lidar", "lidar_roof": "lidar", "objects": "objects"}
    spec = ConnectionSpec(kind="conditioned", tail_blocks=2, width=16, layers=1, heads=2)
    save_file(random_weights(0), folder / lidar.file)
    return write_small_pack(folder, config, spec, encoders, sensors, trained=False)


@pytest.fixture
def adapt(
    run: Run,
    drive: Path,
    pack: Path,
    tiny: TinyModels,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    # Engines and tokens are kept between the tests of this file.
    cache = tmp_path_factory.getbasetemp() / "adapt-cache"
    monkeypatch.setenv("TAILWIRE_CACHE", str(cache))
    model = ["--model", tiny.folder("llama"), "--precision", "fp32", "--threads", "1"]
    options = ["--pack", pack, "--data", drive, *model, *QUICK]
    return lambda *words: run("adapt", *options, *words)


def test_a_sensor_is_added_and_the_old_pack_stays(adapt: Run, pack: Path) -> None:
    content = {path.name: path.read_bytes() for path in pack.iterdir()}
    words = ("--sensors", "lidar_top", "--add", "objects", "--out", "new")
    outcome = adapt(*words, "--epochs", "8")
    assert outcome.code == 0, outcome.out + outcome.err
    told = outcome.json
    assert told["outcome"] == "accepted"
    assert told["accuracy_after"] > told["accuracy_before"]
    assert told["accuracy"]["old_after"] >= told["accuracy"]["old_before"] - 0.01
    assert (told["old_sensors"], told["new_sensors"]) == (["lidar_top"], ["lidar_top", "objects"])
    # The scene that the questions hold out, and no other.
    assert told["held_out_blocks"] == ["scene-0003"]
    assert (told["tail_blocks"], told["lora_rank"]) == (2, 8)
    for part in (told["reason"], told["choice"], "FLOPs", "samples/s", "held out", "written  new"):
        assert part in outcome.out
    assert {path.name: path.read_bytes() for path in pack.iterdir()} == content
    new = load_pack(Path("new"))
    assert new.manifest.version == "1+add-objects"
    old = load_file(pack / "connection.safetensors")
    # Learned is what the sensor needs, and how the one that was there is read beside it; without
    # a LoRA that stays as it is (see the tests of `Runtime.adapt`).
    read = ("lidar.", "gate.lidar", "sensor.lidar_top")
    for name, array in old.items():
        is_new = name.startswith(("objects.", "gate.objects", "sensor.objects", *read))
        assert np.array_equal(new.connection_weights[name], array) != is_new, name
    assert new.connection_weights["lora.1.key.b"].any()


def test_json_alone_and_several_changes(adapt: Run) -> None:
    for name, words, mode in (
        ("replaced", ("--sensors", "lidar_top", "--replace", "lidar_top=objects"), "replace"),
        ("dropped", ("--sensors", "lidar_top,objects", "--drop", "lidar_top"), "drop"),
        ("polished", ("--sensors", "objects", "--polish"), "polish"),
    ):
        outcome = adapt(*words, "--out", name, "--lora-rank", "4", "--json", "-q")
        assert (len(outcome.out.splitlines()), outcome.err) == (1, "")
        told = outcome.json
        assert (told["mode"], told["new_sensors"], told["lora_rank"]) == (mode, ["objects"], 4)
        assert "as asked" in told["choice"]
        # What they come to with this little learning is not what is tested.
        assert outcome.code == {"accepted": 0, "refused": 1}[told["outcome"]]
        assert Path(name).exists() == (outcome.code == 0)


def test_a_result_that_is_no_better_is_refused(adapt: Run) -> None:
    words = ("--sensors", "lidar_top", "--add", "objects", "--out", "new")
    outcome = adapt(*words, "--learning-rate", "1e-12", "--epochs", "0.5")
    assert outcome.code == 1
    assert outcome.json["outcome"] == "refused"
    assert outcome.out.startswith("refused: ")
    assert "no better" in outcome.json["reason"]
    assert outcome.json["folder"] is None
    assert not Path("new").exists()


def test_ctrl_c_ends_training_and_keeps_what_is_good(
    adapt: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = adapt_report.progress_text

    def interrupted(done: AdaptationProgress) -> str:
        if done.phase == "training" and done.step > 30:
            signal.raise_signal(signal.SIGINT)
        return told(done)

    monkeypatch.setattr(adapt_report, "progress_text", interrupted)
    words = ("--sensors", "lidar_top", "--add", "objects", "--out", "new")
    outcome = adapt(*words, "--epochs", "1000000")
    assert outcome.json["stopped"] == "asked"
    assert outcome.json["steps"] > 30
    assert outcome.code == {"accepted": 0, "refused": 1}[outcome.json["outcome"]]
    assert Path("new").exists() == (outcome.json["outcome"] == "accepted")


def test_ctrl_c_before_training_changes_nothing(
    adapt: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(done: AdaptationProgress) -> str:
        if done.phase in ("preparing", "measuring", "heads"):
            signal.raise_signal(signal.SIGINT)
        return done.phase

    monkeypatch.setattr(adapt_report, "progress_text", interrupted)
    outcome = adapt("--sensors", "lidar_top", "--add", "objects", "--out", "new")
    assert outcome.code == 130
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--polish", "--drop", "objects"], "--polish: sensors change"),
        ([], "nothing is to change"),
        (["--add", "radar"], "--add: the pack has no sensor 'radar'"),
        (["--add", "objects,"], "--add: there is an empty part"),
        (["--replace", "lidar_top"], "--replace: there is no '='"),
        (["--sensors", "objects", "--add", "objects"], "'objects' is there already"),
        (["--sensors", "objects", "--drop", "lidar_top"], "not among the sensors that serve"),
        (["--add", "lidar_roof"], "lidar_roof: no data set has this sensor"),
        (["--sensors", "lidar_top", "--add", "objects", "--max-flops", "1e3"], "budget.flops"),
        (["--sensors", "lidar_top", "--add", "objects", "--max-memory", "0.001"], "memory_bytes"),
        (["--sensors", "lidar_top", "--add", "objects", "--max-seconds", "1e-6"], "budget.time_s"),
        (["--sensors", "lidar_top", "--add", "objects", "--keyframes", "1"], "at least two"),
        (["--sensors", "lidar_top", "--add", "objects", "--limit", "1"], "at least"),
        (["--drop", "objects", "--epochs", "0"], "--epochs: Input should be greater than 0"),
        (["--drop", "objects", "--max-flops", "-1"], "--max-flops: Input should be greater"),
        (["--drop", "objects", "--train-tail", "0"], "--train-tail: Input should be greater"),
        (["--drop", "objects", "--limit", "0"], "--limit: 0 is too small"),
        (["--drop", "objects", "--data", "nowhere"], "nowhere"),
        (["--drop", "objects", "--questions", "nothing.json"], "nothing.json"),
        (["--drop", "objects", "--pack", "nowhere"], "nowhere"),
    ],
)
def test_wrong_input(adapt: Run, words: list[str], problem: str) -> None:
    assert problem in adapt("--out", "new", *words).error()
    assert not Path("new").exists()


def test_a_pack_for_another_model_and_a_folder_that_is_there(adapt: Run, pack: Path) -> None:
    there = adapt("--add", "objects", "--out", pack).error()
    assert "never written over" in there
    manifest = yaml.safe_load((pack / "pack.yaml").read_text())
    manifest["base_model"]["num_blocks"] = 30
    (pack / "pack.yaml").write_text(yaml.safe_dump(manifest))
    assert "num_blocks" in adapt("--add", "objects", "--out", "new").error()


def test_without_torch_the_extra_is_named(adapt: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install 'tailwire[adapt]'" in adapt("--add", "objects", "--out", "new").error()


@pytest.mark.parametrize(
    ("given", "before", "add", "replace", "drop"),
    [
        ({"add": "lidar"}, ("cam_front", "cam_back"), ("lidar_top",), {}, ()),
        (
            {"replace": ["cam=lidar"]},
            ("cam_front", "cam_back"),
            (),
            {"cam_front": "lidar_top"},
            ("cam_back",),
        ),
        (
            {"replace": ["lidar_top=cam_*"]},
            ("lidar_top",),
            ("cam_back",),
            {"lidar_top": "cam_front"},
            (),
        ),
        (
            {"drop": "cam"},
            ("cam_front", "cam_back", "lidar_top"),
            (),
            {},
            ("cam_front", "cam_back"),
        ),
        ({"add": "objects"}, ("cam_front", "cam_back", "lidar_top"), ("objects",), {}, ()),
        # Ground truth is no match of a pattern.
        ({"add": "*", "before": ()}, (), ("cam_front", "cam_back", "lidar_top"), {}, ()),
    ],
)
def test_sensors_are_meant_by_name_pattern_or_kind(
    given: dict[str, Any],
    before: tuple[str, ...],
    add: tuple[str, ...],
    replace: dict[str, str],
    drop: tuple[str, ...],
) -> None:
    change = wanted_change(KINDS, **given)
    assert (change.before, change.add, change.replace, change.drop) == (before, add, replace, drop)


def test_sensors_that_are_not_there_are_named() -> None:
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: wanted_change(KINDS, add="radar"), SensorError, "radar"),
        (lambda: wanted_change(KINDS, replace=["cam=radar_*"]), SensorError, "radar_"),
        (lambda: wanted_change(KINDS, replace=["cam"]), ConfigError, "no '='"),
    ]
    for call, kind, word in cases:
        with pytest.raises(kind, match=word):
            call()
