"""Composed packs: exact algebra on a tiny language model, and refusals before a file is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.cli import main
from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.compose import (
    Composition,
    CompositionRequest,
    compose,
    restore_part,
    write_composition,
)
from tailwire.export.compose_parts import open_parts
from tailwire.export.compose_weights import full_score, search_weights
from tailwire.export.folded_checkpoint import FoldedCheckpoint
from tailwire.export.llm_graphs import build_language_model
from tailwire.export.merging import METHODS, MergeOptions
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.calibration_table import CalibrationCell, CalibrationTable, MeasuredPlan
from tailwire.runtime.composition_specs import Method
from tailwire.runtime.connections import Connection
from tailwire.runtime.errors import ConfigError, TailwireError
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.pack import Pack, load_pack
from tailwire.runtime.serving import check_swap

from ..composed import PACKS, TAIL, WIDTH, content, random_change, seal, shape, write_part
from ..fakes import make_connection
from ..tiny_models import DEPTHS

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="the tiny models are made with torch")

Float = NDArray[np.float32]
QUESTION = [11, 12, 13, 14, 60]


@pytest.fixture
def packs(tiny: TinyModels, tmp_path: Path) -> dict[str, Path]:
    config = tiny.model("llama").config
    return {name: write_part(tmp_path / name, config, name) for name in PACKS}


def composed(out: Path, folders: Sequence[Path], **request: Any) -> Pack:
    write_composition(out, compose(open_parts(folders, None), CompositionRequest(**request)))
    return load_pack(out)


def connection_of(pack: Pack, model: LanguageModel, folder: Path) -> Connection:
    folder.mkdir(exist_ok=True)
    spec = pack.manifest.connection
    return make_connection(folder, spec, model.config, pack.connection_weights)


def final(
    pack: Pack, model: LanguageModel, folder: Path, sensors: Sequence[str], depth: int = TAIL
) -> Float:
    """The state behind a question about random tokens of these sensors."""
    return answered(connection_of(pack, model, folder), pack, model, sensors, depth)


def answered(
    connection: Connection,
    pack: Pack,
    model: LanguageModel,
    sensors: Sequence[str],
    depth: int = TAIL,
) -> Float:
    manifest, rows = pack.manifest, []
    for sensor in sensors:
        name = manifest.sensor_encoders[sensor]
        rng = np.random.default_rng(len(sensor))
        tokens = rng.normal(size=(manifest.encoders[name].tokens, WIDTH)).astype(np.float32)
        rows.append(connection.prepare(sensor, name, tokens))
    head = model.encode(QUESTION, [depth])
    return model.tail(
        [head], connection.connect(rows, [head], depth), depth, connection.lora(depth)
    ).final


@pytest.mark.parametrize("method", ["damc", "task-arithmetic"])
def test_one_hot_weights_and_one_modality_are_that_pack_bit_for_bit(
    tiny: TinyModels, packs: dict[str, Path], tmp_path: Path, method: Method
) -> None:
    model = tiny.model("llama")
    for name in ("camera", "lidar"):
        weights = {one: float(one == name) for one in ("camera", "lidar")}
        folders = [packs["camera"], packs["lidar"]]
        whole = composed(tmp_path / f"of {name}", folders, method=method, weights=weights)
        alone = load_pack(packs[name])
        sensors = list(PACKS[name][1])
        for depth in (1, TAIL):
            one, two = (final(p, model, tmp_path / "c", sensors, depth) for p in (whole, alone))
            np.testing.assert_array_equal(one, two)


def test_text_changes_add_up_and_all_sensors_answer(
    tiny: TinyModels, packs: dict[str, Path], tmp_path: Path
) -> None:
    model = tiny.model("llama")
    whole = composed(tmp_path / "whole", [packs["camera"], packs["lidar"]])
    connection = connection_of(whole, model, tmp_path / "c")
    lora = connection.lora(TAIL)
    assert lora is not None
    expected: dict[tuple[int, str], Any] = {}
    for name in ("camera", "lidar"):
        weights = load_pack(packs[name]).connection_weights
        for at in range(TAIL):
            for side in ("key", "value"):
                change = weights[f"lora.{at}.{side}.a"] @ weights[f"lora.{at}.{side}.b"]
                place = (model.config.num_blocks - TAIL + at, side)
                expected[place] = expected.get(place, 0) + 0.5 * change
    for block, (key_a, key_b, value_a, value_b) in lora.blocks.items():
        np.testing.assert_allclose(key_a @ key_b, expected[block, "key"], atol=1e-6)
        np.testing.assert_allclose(value_a @ value_b, expected[block, "value"], atol=1e-6)
    both = final(whole, model, tmp_path / "c", ["cam_front", "cam_back", "lidar_top"])
    some = final(whole, model, tmp_path / "c", ["lidar_top"])
    assert np.abs(both - some).max() > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_order_of_packs_does_not_matter(
    packs: dict[str, Path], tmp_path: Path, method: Method
) -> None:
    names = ("camera", "lidar", "rear")
    for number, order in enumerate((names, names[::-1], ("lidar", "rear", "camera"))):
        composed(tmp_path / str(number), [packs[name] for name in order], method=method)
    first = content(tmp_path / "0")
    assert content(tmp_path / "1") == first
    assert content(tmp_path / "2") == first


def test_a_pack_that_is_added_leaves_the_others_branches_alone(
    packs: dict[str, Path], tmp_path: Path
) -> None:
    two = composed(tmp_path / "two", [packs["camera"], packs["lidar"]])
    three = composed(tmp_path / "three", [tmp_path / "two", packs["rear"]])
    renamed = {"camera": "camera_camera", "lidar": "lidar"}
    assert set(three.manifest.encoders) == {"camera_camera", "lidar", "rear_camera"}
    for name, array in two.connection_weights.items():
        if name.startswith("lora."):
            continue
        for old, new in renamed.items():
            name = name.replace(f"gate.{old}", f"gate.{new}") if name == f"gate.{old}" else name
            name = f"{new}.{name.split('.', 1)[1]}" if name.startswith(f"{old}.") else name
        np.testing.assert_array_equal(three.connection_weights[name], array)
    for pack, name in ((two, "camera"), (three, "camera_camera")):
        file = pack.manifest.encoders[name].file
        assert (pack.folder / file).read_bytes() == (packs["camera"] / "camera.onnx").read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_composing_and_removing_gives_back_what_there_was(
    packs: dict[str, Path], tmp_path: Path, method: Method
) -> None:
    folders = [packs["camera"], packs["lidar"], packs["rear"]]
    composed(tmp_path / "two", folders[:2], method=method)
    composed(tmp_path / "three", [tmp_path / "two", packs["rear"]], method=method)
    for part in open_parts([tmp_path / "three"], None):
        restore_part(tmp_path / f"{part.name} again", part)
        assert content(tmp_path / f"{part.name} again") == content(packs[part.name])
    arguments = ["compose", str(tmp_path / "three"), "--remove", "rear"]
    assert main([*arguments, "--out", str(tmp_path / "two again")]) == 0
    assert content(tmp_path / "two again") == content(tmp_path / "two")


def test_weights_change_while_the_pack_is_loaded(
    tiny: TinyModels, packs: dict[str, Path], tmp_path: Path
) -> None:
    model, folders = tiny.model("llama"), [packs["camera"], packs["lidar"]]
    whole = composed(tmp_path / "whole", folders)
    connection = connection_of(whole, model, tmp_path / "c")
    sensors = ["cam_front", "lidar_top"]
    for number, weight in enumerate((0.0, 0.3, 1.0)):
        weights = {"camera": weight, "lidar": 1 - weight}
        changed = connection.with_lora_weights(weights)
        check_swap(connection, changed)
        other = composed(tmp_path / str(number), folders, weights=weights)
        wanted = final(other, model, tmp_path / "d", sensors)
        np.testing.assert_array_equal(answered(changed, whole, model, sensors), wanted)
    with pytest.raises(ConfigError, match="no part 'radar'"):
        connection.with_lora_weights({"radar": 1.0})
    with pytest.raises(ConfigError, match="nan"):
        connection.with_lora_weights({"camera": float("nan")})


def folded_model(tiny: TinyModels, pack: Pack, folder: Path) -> LanguageModel:
    change = pack.text_change()
    assert change is not None
    folder.mkdir()
    build_language_model(
        FoldedCheckpoint(open_checkpoint(tiny.folder("llama")), change),
        folder,
        name="folded",
        content_hash="0" * 64,
        precision="fp32",
        depths=DEPTHS,
    )
    return LanguageModel(folder, OnnxRuntimeEngine, threads=1)


def test_folded_equals_unfolded(tiny: TinyModels, packs: dict[str, Path], tmp_path: Path) -> None:
    model, folders = tiny.model("llama"), [packs["camera"], packs["lidar"]]
    weights = {"camera": 0.7, "lidar": 0.3}
    beside = composed(tmp_path / "beside", folders, weights=weights)
    folded = composed(tmp_path / "folded", folders, weights=weights, fold=True)
    assert folded.manifest.connection.lora_rank == 0
    engines = folded_model(tiny, folded, tmp_path / "engines")
    for sensors in (["cam_front", "lidar_top"], ["lidar_top"], []):
        one = final(beside, model, tmp_path / "c", sensors)
        two = final(folded, engines, tmp_path / "c", sensors)
        np.testing.assert_allclose(one, two, atol=2e-5)
    engines.close()


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_changes_of_all_projections_are_those_of_transformers(
    tiny: TinyModels, tmp_path: Path, family: str
) -> None:
    import torch

    reference, config = tiny.reference(family), tiny.model(family).config
    changes = [random_change(config, (1, 4), seed=seed) for seed in range(2)]
    parts = [
        write_part(tmp_path / name, config, name, shape(lora_rank=0), text=change)
        for name, change in zip(("camera", "lidar"), changes, strict=True)
    ]
    pack = composed(tmp_path / "whole", parts, weights={"camera": 0.75, "lidar": 0.5})
    change = pack.text_change()
    assert change is not None
    folder = tmp_path / "engines"
    folder.mkdir()
    build_language_model(
        FoldedCheckpoint(open_checkpoint(tiny.folder(family)), change),
        folder,
        name="folded",
        content_hash="0" * 64,
        precision="fp32",
        depths=DEPTHS,
    )
    model = LanguageModel(folder, OnnxRuntimeEngine, threads=1)
    names = {
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "output": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
    }
    kept: list[tuple[Any, Any]] = []
    with torch.no_grad():
        for block, projection in changes[0].places:
            layer = reference.model.model.layers[block].get_submodule(names[projection])
            kept.append((layer.weight, layer.weight.clone()))
            for weight, one in zip((0.75, 0.5), changes, strict=True):
                added = torch.from_numpy(weight * one.dense((block, projection)).T)
                layer.weight += added.to(layer.weight.dtype)
        expected = reference.logits(QUESTION)
        for weight, before in kept:
            weight.copy_(before)
    head = model.encode(QUESTION, [4])
    logits = model.logits(model.tail([head], None, 4, every_token=True).final)
    model.close()
    np.testing.assert_allclose(logits, expected, atol=3e-4)


def test_aligners_of_other_shapes_make_the_same_keys(tiny: TinyModels, tmp_path: Path) -> None:
    model = tiny.model("llama")
    specs = {"camera": shape(hidden=5), "lidar": shape(hidden=12, per_block=True, lora_rank=0)}
    folders = [write_part(tmp_path / n, model.config, n, spec) for n, spec in specs.items()]
    whole = composed(tmp_path / "whole", folders)
    assert whole.manifest.connection.per_block and whole.manifest.connection.hidden == 12
    for name, folder in zip(specs, folders, strict=True):
        sensor = next(iter(PACKS[name][1]))
        made = []
        for number, pack in enumerate((whole, load_pack(folder))):
            connection = connection_of(pack, model, tmp_path / f"{name}{number}")
            encoder = pack.manifest.sensor_encoders[sensor]
            tokens = np.ones((pack.manifest.encoders[encoder].tokens, WIDTH), np.float32)
            rows = connection.prepare(sensor, encoder, tokens)
            made.append(connection.connect([rows], [], TAIL))
        np.testing.assert_allclose(made[0].keys, made[1].keys, atol=1e-6)
        np.testing.assert_allclose(made[0].values, made[1].values, atol=1e-6)


def test_methods_that_are_no_sums_bring_their_change_to_the_connection(
    packs: dict[str, Path], tmp_path: Path
) -> None:
    options = MergeOptions(density=0.5, rank=16)
    folders = [packs["camera"], packs["lidar"]]
    pack = composed(tmp_path / "ties", folders, method="ties", options=options)
    assert pack.manifest.connection.lora_rank == 16
    assert not pack.manifest.connection.lora_parts
    folded = composed(tmp_path / "folded", folders, method="ties", options=options, fold=True)
    change = folded.text_change()
    assert change is not None and folded.manifest.connection.lora_rank == 0
    weights = pack.connection_weights
    for at in range(TAIL):
        for side in ("key", "value"):
            mine = weights[f"lora.{at}.{side}.a"] @ weights[f"lora.{at}.{side}.b"]
            np.testing.assert_allclose(mine, change.dense((6 - TAIL + at, side)), atol=1e-6)


def refused(capsys: pytest.CaptureFixture[str], arguments: Sequence[str], out: Path) -> str:
    before = set(out.parent.iterdir())
    assert main(["compose", *arguments, "--out", str(out)]) == 2
    assert set(out.parent.iterdir()) == before
    return capsys.readouterr().err


BREAKING: dict[str, tuple[dict[str, Any], str]] = {
    "hidden size": ({"base_model__hidden_size": 32}, "weights"),
    "name without hash": ({"base_model__name": "other"}, "base_model.name"),
    "prompt": ({"prompt__answer_prefix": ""}, "prompt.answer_prefix"),
    "sensor twice": (
        {"sensors": [{"name": "cam_front", "encoder": "lidar"}]},
        "weights are missing",
    ),
}


@pytest.mark.parametrize("what", BREAKING)
def test_a_pack_that_does_not_fit_is_refused(
    packs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    changes, words = BREAKING[what]
    seal(packs["lidar"], **changes)
    out = tmp_path / "out"
    assert words in refused(capsys, [str(packs["camera"]), str(packs["lidar"])], out)


def test_other_weights_of_the_base_model_are_refused(
    packs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, digit in (("camera", "a"), ("lidar", "b")):
        seal(packs[name], base_model__sha256=digit * 64)
    folders = [str(packs["camera"]), str(packs["lidar"])]
    said = refused(capsys, folders, tmp_path / "out")
    assert "lidar 1: base_model.sha256" in said and "language model is another one" in said
    # The same weights under two names are one model.
    for name, model in (("camera", "one"), ("lidar", "two")):
        seal(packs[name], base_model__sha256="a" * 64, base_model__name=model)
    assert main(["compose", *folders, "--out", str(tmp_path / "out")]) == 0


def test_depths_kinds_sensors_and_weights_that_do_not_fit_are_refused(
    tiny: TinyModels,
    packs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, out = tiny.model("llama").config, tmp_path / "out"
    camera = str(packs["camera"])
    deep = write_part(tmp_path / "deep", config, "lidar", shape(tail_blocks=4))
    assert "connection.tail_blocks" in refused(capsys, [camera, str(deep)], out)
    conditioned = write_part(
        tmp_path / "conditioned", config, "lidar", shape(kind="conditioned", lora_rank=0)
    )
    assert "connection.kind" in refused(capsys, [camera, str(conditioned)], out)
    again = write_part(tmp_path / "again", config, "camera", seed=1)
    assert "two packs are called 'camera'" in refused(capsys, [camera, str(again)], out)
    said = refused(capsys, [camera, str(again), "--names", "one,two"], out)
    assert "the sensor 'cam_front' is in camera 1 too" in said
    both = [camera, str(packs["lidar"])]
    for weights, words in {
        "0.5": "1 weights for 2 packs",
        "0.5,x": "'x' is no number",
        "0.5,nan": "the weight of 'lidar' is nan",
        "0.5,inf": "the weight of 'lidar' is inf",
        "0,0": "all weights are 0",
        "auto": "does not say how often it is right",
    }.items():
        assert words in refused(capsys, [*both, "--weights", weights], out)
    assert "takes no weights" in refused(
        capsys, [*both, "--method", "naive", "--weights", "0.5,0.5"], out
    )
    assert "no method 'soup'" in refused(capsys, [*both, "--method", "soup"], out)
    assert "--density" in refused(capsys, [*both, "--method", "ties", "--density", "2"], out)
    assert "two or more" in refused(capsys, [camera], out)
    assert "no part 'x'" in refused(capsys, [camera, "--remove", "x"], out)
    assert "--names" in refused(capsys, [*both, "--names", "one"], out)
    out.mkdir()
    assert "never written over" in refused(capsys, both, out)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("4.query.a", np.full((64, 2), np.nan, np.float32), "not finite"),
        ("4.query.a", np.zeros((64, 3), np.float32), "factors of"),
        ("4.query.a", None, "is missing beside it"),
        ("4.soul.a", np.zeros((64, 2), np.float32), "no name of a change"),
        ("4.query.a", np.zeros((64, 2), np.int32), "dtype I32"),
    ],
)
def test_a_broken_change_of_the_language_model_is_refused(
    tiny: TinyModels,
    packs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    array: Any,
    words: str,
) -> None:
    from safetensors.numpy import save_file

    config = tiny.model("llama").config
    arrays: dict[str, Any] = dict(random_change(config, (4,)).arrays())
    arrays[name] = array
    folder = write_part(tmp_path / "broken", config, "rear", text=random_change(config, (4,)))
    kept = {n: a for n, a in arrays.items() if a is not None}
    save_file(kept, folder / "text.safetensors")
    seal(folder)
    said = refused(capsys, [str(packs["lidar"]), str(folder)], tmp_path / "out")
    assert words in said and "text.safetensors" in said


def test_a_change_for_another_model_is_refused_where_it_is_folded(
    tiny: TinyModels, tmp_path: Path
) -> None:
    other = random_change(tiny.model("odd_columns").config, (4,))
    with pytest.raises(TailwireError, match="48 inputs"):
        FoldedCheckpoint(open_checkpoint(tiny.folder("llama")), other)


def test_licences_of_all_parts_are_told(packs: dict[str, Path], tmp_path: Path) -> None:
    seal(packs["lidar"], licences=["CC-BY-NC-SA-4.0"])
    composition: Composition = compose(
        open_parts([packs["camera"], packs["lidar"]], None), CompositionRequest()
    )
    assert composition.manifest.licences == ("Apache-2.0", "CC-BY-NC-SA-4.0")
    told = [line for line in composition.licences if line.startswith("CC-BY-NC-SA-4.0 (lidar)")]
    assert told and "not for commercial use" in told[0]


def test_the_command_says_what_it_made(
    packs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(packs["camera"]), str(packs["lidar"])]
    arguments = ["compose", *folders, "--weights", "0.25,0.75", "--json"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["weights"] == {"camera": 0.25, "lidar": 0.75}
    assert said["sensors"] == ["cam_front", "cam_back", "lidar_top"]
    assert load_pack(tmp_path / "out").manifest.composition is not None


def test_auto_weights_go_by_what_packs_get_right(
    packs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, right in (("camera", 80), ("lidar", 40)):
        sensors = tuple(PACKS[name][1])
        cells = [
            CalibrationCell(MeasuredPlan.newest(*sensors), "exist", "day", 100, right),
            CalibrationCell(MeasuredPlan.newest(), "exist", "day", 100, 50),
        ]
        table = CalibrationTable.of("tests", cells)
        assert full_score(table) == right / 100
        (packs[name] / "calibration.json").write_text(table.to_json())
        seal(packs[name], calibration="calibration.json")
    folders = [str(packs["camera"]), str(packs["lidar"])]
    arguments = ["compose", *folders, "--weights", "auto", "--json"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    weights = json.loads(capsys.readouterr().out)["weights"]
    assert weights == pytest.approx({"camera": 2 / 3, "lidar": 1 / 3})


def test_the_search_finds_the_best_weights_of_its_grid() -> None:
    asked: list[dict[str, float]] = []

    def score(weights: dict[str, float]) -> float:
        asked.append(weights)
        return -abs(weights["a"] - 0.7) - abs(weights["b"] - 0.2)

    found, best = search_weights(("a", "b", "c"), score, steps=4)
    assert found == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert best == pytest.approx(-0.1)
    assert all(sum(one.values()) == pytest.approx(1) for one in asked)
    # Where nothing tells them apart, all count alike.
    assert search_weights(("a", "b"), lambda _: 0.5)[0] == {"a": 0.5, "b": 0.5}


def test_a_part_may_be_called_like_a_file_of_the_composed_pack(
    tiny: TinyModels, packs: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny.model("llama").config
    folder = write_part(tmp_path / "named", config, "rear", text=random_change(config, (4,)))
    seal(folder, name="lora")
    out = tmp_path / "out"
    pack = composed(out, [packs["lidar"], folder], method="ties", fold=True)
    assert len(pack.manifest.text) == 2
    for part in open_parts([out], None):
        restore_part(tmp_path / f"{part.name} again", part)
    assert content(tmp_path / "lora again") == content(folder)
