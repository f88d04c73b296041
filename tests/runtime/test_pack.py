"""Packs on disk: a whole one is read, and one with any part wrong is refused by name."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from tailwire.runtime.errors import PackError
from tailwire.runtime.files import sha256_of
from tailwire.runtime.pack import (
    Pack,
    PromptSpec,
    check_base_model,
    load_pack,
    read_manifest,
)

from ..fakes import SPECS, connection_spec, connection_weights, manifest_for
from ..llama_sizes import llama_sizes

CONFIG = llama_sizes()
WEIGHTS = "connection.safetensors"


class PackFolder:
    """A pack that a test may break."""

    def __init__(self, folder: Path, kind: str = "plain") -> None:
        self.folder = folder
        self.spec = connection_spec(kind)
        self.weights = connection_weights(self.spec, CONFIG)
        for encoder in SPECS.values():
            (folder / encoder.file).write_bytes(encoder.file.encode())
        self.manifest: dict[str, Any] = manifest_for(CONFIG, self.spec).model_dump(mode="json")
        self.write_weights()

    def write_weights(self) -> None:
        save_file(self.weights, self.folder / WEIGHTS)
        self.seal()

    def seal(self) -> None:
        """Write the manifest with the hashes of what lies in the folder."""
        for name, file in self.manifest["files"].items():
            file["sha256"] = sha256_of(self.folder / name)
        self.write_manifest()

    def write_manifest(self, text: str | bytes | None = None) -> None:
        content = yaml.safe_dump(self.manifest) if text is None else text
        data = content.encode() if isinstance(content, str) else content
        (self.folder / "pack.yaml").write_bytes(data)

    def load(self) -> Pack:
        return load_pack(self.folder)

    def refused(self, *words: str) -> PackError:
        with pytest.raises(PackError) as caught:
            self.load()
        for word in words:
            assert word in str(caught.value)
        assert caught.value.field
        assert caught.value.remedy
        return caught.value


@pytest.fixture
def pack(tmp_path: Path) -> PackFolder:
    return PackFolder(tmp_path)


@pytest.mark.parametrize("kind", ["plain", "conditioned"])
def test_a_whole_pack_is_read(tmp_path: Path, kind: str) -> None:
    folder = PackFolder(tmp_path, kind)
    pack = folder.load()
    assert pack.label == "fake 1"
    assert pack.manifest == manifest_for(CONFIG, folder.spec).model_copy(
        update={"files": pack.manifest.files}
    )
    assert pack.connection_weights.keys() == folder.weights.keys()
    for name, array in pack.connection_weights.items():
        np.testing.assert_array_equal(array, folder.weights[name])
    assert list(pack.manifest.sensor_encoders) == ["cam_front", "cam_back", "lidar_top"]
    check_base_model(pack.manifest, CONFIG, "tiny")


@pytest.mark.parametrize(
    "key",
    sorted(
        manifest_for(CONFIG, connection_spec()).model_dump().keys()
        - {"questions", "calibration", "text", "composition"}
    ),
)
def test_every_key_is_needed(pack: PackFolder, key: str) -> None:
    del pack.manifest[key]
    pack.write_manifest()
    pack.refused(key)


def _set(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(manifest: Any) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


#: A change of the manifest, and the field that the message names.
WRONG_FIELDS: dict[str, tuple[Callable[[Any], None], str]] = {
    "unknown key": (_set("colour", value="red"), "colour"),
    "unknown key inside": (_set("connection", "colour", value=1), "connection.colour"),
    "newer format": (_set("format", value=2), "format"),
    "name": (_set("name", value=[1]), "name"),
    "trained": (_set("trained", value="perhaps"), "trained"),
    "licences": (_set("licences", value=7), "licences"),
    "kind": (_set("connection", "kind", value="magic"), "connection.kind"),
    "hidden": (_set("connection", "hidden", value=0), "connection.hidden"),
    "heads": (_set("connection", "heads", value=3), "heads"),
    "depth of the connection": (
        _set("connection", "tail_blocks", value=-1),
        "connection.tail_blocks",
    ),
    "connection deeper than the model": (
        _set("connection", "tail_blocks", value=7),
        "connection.tail_blocks",
    ),
    "tail": (_set("tail_blocks", value=0), "tail_blocks"),
    "tail deeper than the connection": (_set("tail_blocks", value=5), "tail_blocks"),
    "no model size": (_set("base_model", "hidden_size", value=0), "base_model.hidden_size"),
    "no place for the question": (_set("prompt", "template", value="Answer:"), "prompt"),
    "sensor without encoder": (_set("sensors", 0, "encoder", value="sonar"), "cam_front"),
    "sensor twice": (_set("sensors", 1, "name", value="cam_front"), "sensors"),
    "encoder kind": (_set("encoders", "camera", "kind", value="pickle"), "encoders.camera.kind"),
    "encoder tokens": (_set("encoders", "camera", "tokens", value=0), "encoders.camera.tokens"),
    "encoder height": (
        _set("encoders", "camera", "input", "height", value="tall"),
        "encoders.camera.input",
    ),
    "encoder path": (
        _set("encoders", "camera", "file", value="../camera.onnx"),
        "encoders.camera.file",
    ),
    "file missing from the list": (_set("connection", "file", value="other"), "other"),
    "no hash": (_set("files", WEIGHTS, "sha256", value="abc"), f"files.{WEIGHTS}.sha256"),
    "connection in the registry": (
        _set("files", WEIGHTS, "registry", value="efficientnet-lite0"),
        "connection",
    ),
    "questions": (_set("questions", value=[{"ask": "what?"}]), "questions.0"),
}


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_every_wrong_field_is_named(pack: PackFolder, name: str) -> None:
    change, field = WRONG_FIELDS[name]
    change(pack.manifest)
    pack.write_manifest()
    assert str(pack.folder) in pack.refused(field).field


def test_a_modality_may_not_take_the_summarys_gate(pack: PackFolder) -> None:
    pack.manifest["encoders"]["summary"] = pack.manifest["encoders"]["lidar"]
    pack.write_manifest()
    pack.refused("summary")


@pytest.mark.parametrize("name", ["camera.onnx", "lidar.onnx", WEIGHTS])
def test_a_changed_file_is_refused(pack: PackFolder, name: str) -> None:
    path = pack.folder / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    pack.refused(name, "sha256", sha256_of(path))


@pytest.mark.parametrize("name", ["camera.onnx", WEIGHTS])
def test_a_missing_file_is_refused(pack: PackFolder, name: str) -> None:
    (pack.folder / name).unlink()
    pack.refused(name)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "a/../../b", ""])
def test_a_path_that_leaves_the_folder_is_refused(pack: PackFolder, name: str) -> None:
    pack.manifest["files"][name] = dict(pack.manifest["files"][WEIGHTS])
    pack.write_manifest()
    (pack.folder.parent / "outside.safetensors").write_bytes((pack.folder / WEIGHTS).read_bytes())
    pack.refused(name)
    pack.manifest["connection"]["file"] = name
    pack.write_manifest()
    pack.refused(name)


def test_a_link_that_leaves_the_folder_is_refused(pack: PackFolder) -> None:
    outside = pack.folder.parent / f"{pack.folder.name}-outside.safetensors"
    (pack.folder / WEIGHTS).rename(outside)
    (pack.folder / WEIGHTS).symlink_to(outside)
    pack.refused(WEIGHTS, "link")


@pytest.mark.parametrize(
    "name", ["gate.camera", "camera.key.w1", "lidar.value.b2", "sensor.cam_back"]
)
def test_wrong_shapes_are_refused(pack: PackFolder, name: str) -> None:
    pack.weights[name] = pack.weights[name][:-1].copy()
    pack.write_weights()
    pack.refused(name, str(pack.weights[name].shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(pack: PackFolder, value: float) -> None:
    pack.weights["camera.value.w2"][1, 2] = value
    pack.write_weights()
    pack.refused("camera.value.w2", "finite")


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_weights_of_another_dtype_are_refused(pack: PackFolder, dtype: type) -> None:
    pack.weights["gate.lidar"] = pack.weights["gate.lidar"].astype(dtype)
    pack.write_weights()
    pack.refused("gate.lidar", "float32")


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1), ("F4", 1), ("X9", 4)])
def test_weights_that_numpy_does_not_know_are_refused(
    pack: PackFolder, dtype: str, size: int
) -> None:
    bytes_ = 4 * size
    header = {"gate.lidar": {"dtype": dtype, "shape": [4], "data_offsets": [0, bytes_]}}
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + b"\0" * bytes_
    (pack.folder / WEIGHTS).write_bytes(data)
    pack.seal()
    pack.refused(WEIGHTS)


def test_no_damage_gets_through(pack: PackFolder) -> None:
    """Whatever a byte of the file is changed to, the pack is read or refused, and nothing else."""
    path = pack.folder / WEIGHTS
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    refused = 0
    for at in [*range(8), *rng.integers(8, header, 150), *rng.integers(header, len(whole), 20)]:
        data = bytearray(whole)
        data[at] = rng.integers(256)
        path.write_bytes(data)
        pack.seal()
        try:
            pack.load()
        except PackError:
            refused += 1
    assert refused > 100


def test_missing_and_unknown_weights_are_refused(pack: PackFolder) -> None:
    taken = pack.weights.pop("lidar.key.b1")
    pack.write_weights()
    pack.refused("lidar.key.b1")
    pack.weights |= {"lidar.key.b1": taken, "radar.key.b1": taken}
    pack.write_weights()
    pack.refused("radar.key.b1")


@pytest.mark.parametrize(
    "content",
    [
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:8] + b"{" * (len(data) - 8),
        lambda data: pickle.dumps({"gate.camera": np.zeros(4, np.float32)}),
        lambda data: b"\x80\x02" + data,
        lambda data: b"PK\x03\x04" + data,
    ],
    ids=["cut", "one byte short", "empty", "broken header", "pickle", "pickled", "zip"],
)
def test_what_is_no_safetensors_file_is_refused(
    pack: PackFolder, content: Callable[[bytes], bytes]
) -> None:
    """Also where its hash is right: the file itself is never trusted."""
    path = pack.folder / WEIGHTS
    path.write_bytes(content(path.read_bytes()))
    pack.seal()
    pack.refused(WEIGHTS)


BROKEN_YAML = {
    "nothing": "",
    "a list": "- 1\n- 2\n",
    "a text": "pack",
    "no yaml": "a: [1, 2",
    "not utf-8": b"\xff\xfe\x00name",
    "control character": "name: \x07",
    "impossible date": "name: 2024-13-45\n",
    "endless number": "format: " + "9" * 5000 + "\n",
    "very deep": "[" * 20000,
    "object": "!!python/object/apply:os.system ['true']\n",
    "object inside": "name: !!python/name:os.system ''\n",
    "tuple": "licences: !!python/tuple [a]\n",
}


@pytest.mark.parametrize("name", BROKEN_YAML)
def test_broken_manifests_are_refused(pack: PackFolder, name: str) -> None:
    pack.write_manifest(BROKEN_YAML[name])
    assert "pack.yaml" in pack.refused().field


def test_tags_construct_nothing(pack: PackFolder) -> None:
    mark = pack.folder / "made"
    pack.write_manifest(f"!!python/object/apply:pathlib.Path.touch [{mark}]\n")
    pack.refused("tag")
    assert not mark.exists()


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(PackError, match=r"pack\.yaml"):
            load_pack(folder)


@pytest.mark.parametrize("field", ["hidden_size", "num_blocks", "num_kv_heads", "head_dim"])
def test_another_base_model_is_refused_by_its_first_difference(
    pack: PackFolder, field: str
) -> None:
    other = CONFIG.model_copy(update={field: getattr(CONFIG, field) * 2})
    with pytest.raises(PackError, match=rf"base_model\.{field}.*tiny.*other"):
        check_base_model(pack.load().manifest, other, "other")


def test_prompts_take_any_text_as_the_question() -> None:
    prompt = PromptSpec(template="Q: {question} A:")
    assert prompt.render("{question} {0} %s {x}") == "Q: {question} {0} %s {x} A:"


MOUNT: dict[str, Any] = {
    "translation": [1.5, 0.2, 1.6],
    "rotation": [0.5, -0.5, 0.5, -0.5],
    "intrinsic": [[20, 0, 16], [0, 20, 9], [0, 0, 1]],
    "image_size": [32, 18],
}


def test_a_mount_is_a_geometry_without_a_pose(pack: PackFolder) -> None:
    pack.manifest["sensors"][0]["mount"] = MOUNT
    pack.write_manifest()
    mounts = pack.load().manifest.mounts
    assert list(mounts) == ["cam_front"]
    geometry = mounts["cam_front"]
    # The camera's z (forward) is the vehicle's x, and its x is -y.
    np.testing.assert_allclose(
        geometry.ego_from_sensor,
        [[0, 0, 1, 1.5], [-1, 0, 0, 0.2], [0, -1, 0, 1.6], [0, 0, 0, 1]],
        atol=1e-12,
    )
    assert geometry.intrinsic is not None
    np.testing.assert_array_equal(geometry.intrinsic, MOUNT["intrinsic"])
    assert geometry.image_size == (32, 18)
    assert geometry.global_from_ego is None


def test_mounts_are_turned_as_scipys_rotations_are(pack: PackFolder) -> None:
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    wxyz = [0.3, -0.5, 0.7, 0.41]
    pack.manifest["sensors"][0]["mount"] = {"translation": [0, 0, 0], "rotation": wxyz}
    pack.write_manifest()
    found = pack.load().manifest.mounts["cam_front"].ego_from_sensor[:3, :3]
    w, x, y, z = wxyz
    np.testing.assert_allclose(found, rotation.from_quat([x, y, z, w]).as_matrix(), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rotation": [0, 0, 0, 0]}, "quaternion"),
        ({"intrinsic": [[0, 0, 0]] * 3}, "intrinsic"),
        ({"image_size": [0, 18]}, "image_size"),
        ({"translation": [0, 0, float("nan")]}, "translation"),
        ({"angle": 3}, "angle"),
    ],
)
def test_a_mount_that_is_none_is_refused(
    pack: PackFolder, change: dict[str, Any], problem: str
) -> None:
    pack.manifest["sensors"][0]["mount"] = MOUNT | change
    pack.write_manifest()
    pack.refused("sensors.0.mount", problem)


def test_objects_need_no_file(pack: PackFolder) -> None:
    """A pack may take the boxes of a detector, of which it has no weights."""
    spec = {"modality": "objects", "kind": "objects", "input": {"kind": "objects"}}
    spec |= {"tokens": 4, "width": 64, "licence": "none", "source": "any detector"}
    pack.manifest["encoders"]["objects"] = spec
    pack.manifest["sensors"].append({"name": "objects", "encoder": "objects"})
    # The connection has no weights of it yet, and that is all that is amiss.
    pack.write_manifest()
    pack.refused("objects")
    assert read_manifest(pack.folder).sensor_encoders["objects"] == "objects"
