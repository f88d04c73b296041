"""Packs as portable graphs: checked, run operator by operator, and compared with the tuned ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tailwire.cli import main
from tailwire.export.portable.exporter import ExportOptions
from tailwire.export.portable.manifest import (
    MANIFEST_NAME,
    ExportedGraph,
    ExportManifest,
    TensorShapes,
    pack_identity,
    read_export,
)
from tailwire.export.portable.precisions import read_precisions
from tailwire.export.portable.readiness import problems_of
from tailwire.exporting import export
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.errors import ConfigError, EngineError
from tailwire.runtime.pack import FileSpec, load_pack

from .exports import LIMITS, Exports

if TYPE_CHECKING:
    from .built_models import TinyModels


@pytest.fixture(scope="module")
def conditioned(
    export_cache: None, tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> Exports:
    return Exports(tiny, tmp_path_factory.mktemp("conditioned"), "conditioned")


@pytest.fixture(scope="module")
def plain(
    export_cache: None, tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> Exports:
    return Exports(tiny, tmp_path_factory.mktemp("plain"), "plain")


def inputs_at(graph: ExportedGraph, which: str) -> dict[str, NDArray[np.generic]]:
    """Inputs of some size of the profile, with numbers that make sense where they must."""
    rng = np.random.default_rng(0)
    given: dict[str, NDArray[np.generic]] = {}
    for tensor in graph.inputs:
        shape = getattr(tensor, which)
        if tensor.dtype == "int64":
            given[tensor.name] = np.zeros(shape, np.int64)
        else:
            given[tensor.name] = rng.normal(0, 1, shape).astype(tensor.dtype)
    return given


ROLES = {"encoder camera", "encoder lidar", "connection", "embed", "logits"}


@pytest.mark.parametrize("kind", ["conditioned", "plain"])
@pytest.mark.parametrize(
    ("precision", "target"),
    [("fp32", "onnx"), ("fp16,encoders=int8", "tensorrt"), ("int4", "onnx")],
)
def test_graphs_are_checked_and_run_at_all_sizes_of_the_profile(
    request: pytest.FixtureRequest, kind: str, precision: str, target: str
) -> None:
    folder = request.getfixturevalue(kind).get(precision, target)
    manifest = read_export(folder, verify=True)
    roles = {graph.role for graph in manifest.graphs}
    # The tail of the pack has two blocks, that of its connection three.
    assert roles == ROLES | {"blocks 0-2", "blocks 3-3", "blocks 4-5"}
    for graph in manifest.graphs:
        path = folder / graph.file
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.load(str(path), load_external_data=False)
        assert {opset.domain for opset in model.opset_import} == {""}
        assert not {node.domain for node in model.graph.node} - {""}
        engine = OnnxRuntimeEngine(path, threads=1, as_written=True)
        for which in ("least", "usual", "most"):
            outputs = engine.run(inputs_at(graph, which))
            wanted = {tensor.name: getattr(tensor, which) for tensor in graph.outputs}
            assert {name: array.shape for name, array in outputs.items()} == wanted
        engine.close()


@pytest.mark.parametrize(
    ("precision", "target", "rank"),
    [("fp32", "tensorrt", 2), ("fp16,encoders=int8", "tensorrt", None), ("int8", "onnx", None)],
)
def test_tensorrt_would_take_what_is_exported(
    conditioned: Exports, precision: str, target: str, rank: int | None
) -> None:
    folder = conditioned.get(precision, target, rank)
    manifest = read_export(folder)
    problems = [problems_of(folder / graph.file, graph) for graph in manifest.graphs]
    assert problems == [[]] * len(manifest.graphs)


def test_exact_blocks_of_32_are_for_onnx_alone(conditioned: Exports) -> None:
    folder = conditioned.get("int4", "onnx")
    graph = read_export(folder).graph("embed")
    assert problems_of(folder / graph.file, graph)[0].startswith("4-bit numbers in blocks of 32")


def test_doctor_places_every_graph_of_an_export(
    conditioned: Exports, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = conditioned.get("int4", "onnx")
    assert main(["doctor", "--engines", str(folder), "--json"]) == 0
    graphs = json.loads(capsys.readouterr().out)["graphs"]
    assert set(graphs) == {graph.role for graph in read_export(folder).graphs}
    assert "CPU, onnxruntime-portable: no module" in graphs["connection"]["runs"]
    # What TensorRT would not take on a device either.
    assert "4-bit numbers in blocks of 32" in graphs["embed"]["runs"]
    assert main(["doctor", "--engines", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"where the graphs of {folder} would run" in said and "blocks 4-5" in said


def encoder_outputs(folder: Path, name: str) -> list[NDArray[np.float32]]:
    graph = read_export(folder).graph(f"encoder {name}")
    engine = OnnxRuntimeEngine(folder / graph.file, threads=1, as_written=True)
    given = inputs_at(graph, "most")
    if name == "camera":
        geometry = np.asarray([60, 60, 48, 32, 0, 0, 1, 0, -1, 0, 0, 0, 0, -1, 0, 0], np.float32)
        given["geometry"] = geometry[None]
    return list(engine.run(given).values())


@pytest.mark.parametrize("name", ["camera", "lidar"])
def test_half_and_8_bit_encoders_say_nearly_the_same(conditioned: Exports, name: str) -> None:
    (exact,) = encoder_outputs(conditioned.get("fp32"), name)
    assert np.isfinite(exact).all() and exact.any()
    for precision, target, least in (
        ("fp16", "onnx", 0.97),
        ("fp16,encoders=int8", "tensorrt", 0.5),  # Peaks of noise change places.
    ):
        (rounded,) = encoder_outputs(conditioned.get(precision, target), name)
        assert np.isclose(rounded, exact, atol=0.05).mean() > least
        assert rounded.dtype == np.float32 and not np.array_equal(rounded, exact)


def test_8_bit_convolutions_have_scales_as_tensorrt_has_them(conditioned: Exports) -> None:
    folder = conditioned.get("fp16,encoders=int8", "tensorrt")
    model = onnx.load(str(folder / "encoders" / "lidar.onnx"))
    makers = {node.output[0]: node for node in model.graph.node}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    every = [node for node in model.graph.node if node.op_type == "Conv"]
    convolutions = [node for node in every if node.input[1] not in constants]
    # Those of few weights keep them.
    assert all(constants[n.input[1]].size < 10_000 for n in every if n.input[1] in constants)
    assert 3 < len(convolutions) < len(every)
    for node in convolutions:
        activation, kernel = (makers[name] for name in node.input[:2])
        assert activation.op_type == kernel.op_type == "DequantizeLinear"
        assert makers[activation.input[0]].op_type == "QuantizeLinear"
        assert constants[activation.input[1]].shape == ()
        codes, scales = (constants[name] for name in kernel.input[:2])
        assert codes.size >= 10_000
        assert codes.dtype == np.int8 and scales.shape == codes.shape[:1]
        assert (np.abs(codes.reshape(len(codes), -1)).max(axis=1) >= 126).all()
        # Strongly typed: the bias is of the type that the product has.
        assert constants[node.input[2]].dtype == scales.dtype == np.float16


def test_depthwise_convolutions_keep_their_floats(conditioned: Exports) -> None:
    folder = conditioned.get("fp16,encoders=int8", "tensorrt")
    model = onnx.load(str(folder / "encoders" / "camera.onnx"))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    groups = {
        node.input[1]: next((a.i for a in node.attribute if a.name == "group"), 1)
        for node in model.graph.node
        if node.op_type == "Conv"
    }
    depthwise = [constants[kernel] for kernel, count in groups.items() if count > 1]
    assert len(depthwise) > 10 and {one.dtype for one in depthwise} == {np.dtype(np.float16)}
    assert sum(kernel not in constants for kernel in groups) > 10


def test_8_bit_encoders_need_frames(conditioned: Exports, tmp_path: Path) -> None:
    options = ExportOptions(target="onnx", precisions=read_precisions("int8"), limits=LIMITS)
    with pytest.raises(ConfigError, match="calibrated with frames"):
        export(conditioned.config, tmp_path / "out", options)
    with pytest.raises(ConfigError, match="no usable frame"):
        export(conditioned.config, tmp_path / "out", options, moments=lambda: [])
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_not_touched(conditioned: Exports) -> None:
    options = ExportOptions(target="onnx", precisions=read_precisions("fp32"), limits=LIMITS)
    with pytest.raises(ConfigError, match="exists already"):
        export(conditioned.config, conditioned.get("fp32"), options)


def test_changed_and_missing_files_are_found(conditioned: Exports, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(conditioned.get("fp32"), folder)
    graph = folder / "connection.onnx"
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)
    read_export(folder)
    with pytest.raises(EngineError, match="has changed since the export"):
        read_export(folder, verify=True)
    graph.unlink()
    with pytest.raises(EngineError, match="is missing"):
        read_export(folder)
    (folder / MANIFEST_NAME).write_text("{}")
    with pytest.raises(EngineError, match="cannot be read"):
        read_export(folder)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("fp32", ("fp32", "fp32", "fp32", "fp32")),
        ("int8", ("int8", "fp16", "int8", "int8")),
        ("int4", ("int8", "fp16", "int4", "int4")),
        ("fp16, encoders=int8, head=int4", ("int8", "fp16", "int4", "fp16")),
    ],
)
def test_precisions_of_parts(text: str, wanted: tuple[str, ...]) -> None:
    assert tuple(read_precisions(text).model_dump().values()) == wanted


@pytest.mark.parametrize("text", ["", "fp8", "fp16,encoders=int4", "fp16,tail", "fp16,nose=fp32"])
def test_precisions_that_there_are_not(text: str) -> None:
    with pytest.raises(ConfigError):
        read_precisions(text)


def small_graph(
    tmp_path: Path, nodes: list[onnx.NodeProto], opset: int = 20, domain: str = ""
) -> tuple[Path, ExportedGraph]:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")
    ]
    axes = onnx.numpy_helper.from_array(np.asarray([1], np.int64), "axes")
    model = helper.make_model(
        helper.make_graph(nodes, "small", values[:1], values[1:], [axes]),
        opset_imports=[helper.make_opsetid("", opset)]
        + ([helper.make_opsetid(domain, 1)] if domain else []),
    )
    path = tmp_path / "small.onnx"
    onnx.save(model, str(path))
    tensors = [
        TensorShapes(
            name=name, dtype="float32", shape=("n", 4), least=(1, 4), usual=(2, 4), most=(3, 4)
        )
        for name in ("x", "y")
    ]
    graph = ExportedGraph(
        role="small",
        file="small.onnx",
        precision="fp32",
        opset=opset,
        inputs=(tensors[0],),
        outputs=(tensors[1],),
    )
    return path, graph


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("Hardmax", ["x"], ["y"])], "Hardmax is not among"),
        (
            [
                helper.make_node("Shape", ["x"], ["s"]),
                helper.make_node("Sqrt", ["x"], ["r"]),
                helper.make_node("ReduceSum", ["r", "s"], ["y"]),
            ],
            "must be a constant",
        ),
        ([helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])], "at the least sizes"),
        (
            [
                helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
                helper.make_node("Sqrt", ["d"], ["e"]),
                helper.make_node("Cast", ["e"], ["y"], to=TensorProto.FLOAT),
            ],
            "Sqrt of DOUBLE",
        ),
    ],
)
def test_what_tensorrt_would_refuse_is_named(
    tmp_path: Path, nodes: list[onnx.NodeProto], message: str
) -> None:
    assert any(message in problem for problem in problems_of(*small_graph(tmp_path, nodes)))


def test_newer_opsets_and_other_domains_are_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    assert problems_of(*small_graph(tmp_path, nodes)) == []
    assert problems_of(*small_graph(tmp_path, nodes, opset=22)) == ["opset 22 is newer than 20"]
    path, graph = small_graph(tmp_path, nodes, domain="com.microsoft")
    assert "com.microsoft" in problems_of(path, graph)[0]


def test_the_manifest_says_what_it_was_made_of(conditioned: Exports) -> None:
    manifest = read_export(conditioned.get("fp32"))
    assert isinstance(manifest, ExportManifest)
    assert (manifest.pack, manifest.target) == ("tiny", "onnx")
    assert len(manifest.model_sha256) == len(manifest.pack_sha256) == 64
    tail = manifest.graph("blocks 4-5")
    bias = next(t for t in tail.inputs if t.name.startswith("bias_"))
    assert bias.least[3] == bias.least[2] + 1 and bias.most[2] == 3 * 40
    with pytest.raises(EngineError, match="no graph 'nose'"):
        manifest.graph("nose")


def test_what_graphs_depend_on_makes_another_pack(conditioned: Exports) -> None:
    pack = load_pack(Path(conditioned.config.pack)).manifest
    known = pack_identity(pack)
    assert read_export(conditioned.get("fp32")).pack_sha256 == known
    other = FileSpec(sha256="0" * 64)
    connection = pack.model_copy(update={"files": {**pack.files, pack.connection.file: other}})
    described = pack.model_copy(update={"description": "other", "questions": ()})
    assert pack_identity(connection) == pack_identity(described) == known
    encoder = pack.model_copy(update={"files": {**pack.files, "lidar.safetensors": other}})
    deeper = pack.model_copy(update={"tail_blocks": 1})
    assert len({known, pack_identity(encoder), pack_identity(deeper)}) == 3
