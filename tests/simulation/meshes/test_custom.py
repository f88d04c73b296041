"""Meshes of one's own from a folder: axes, scale, materials, and files that must be refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tailwire.runtime.errors import ConfigError
from tailwire.simulation.meshes import MATERIALS, MeshKey, MeshLibrary, material_index
from tailwire.simulation.meshes.custom import custom_file, nearest_material

trimesh = pytest.importorskip("trimesh", reason="trimesh reads mesh files: tailwire[sim]")

SEDAN = MeshKey("car/sedan", (1.8, 4.5, 1.5))
# A wedge in glTF axes (x left, y up, z front): high at the back, low in front.
WEDGE = """mtllib wedge.mtl
v -1 0 -2
v 1 0 -2
v 1 0 2
v -1 0 2
v -1 3 -2
v 1 3 -2
usemtl tyre
f 1 2 3
f 1 3 4
f 1 5 6
f 1 6 2
usemtl something
f 5 4 3
f 5 3 6
f 1 4 5
f 2 6 3
"""
WEDGE_MATERIALS = "newmtl tyre\nKd 1 0 0\nnewmtl something\nKd 0.9 0.1 0.1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "meshes" / "car").mkdir(parents=True)
    return tmp_path / "meshes"


def test_an_obj_is_turned_scaled_and_given_materials(folder: Path) -> None:
    (folder / "car" / "sedan.obj").write_text(WEDGE)
    (folder / "car" / "wedge.mtl").write_text(WEDGE_MATERIALS)
    mesh = MeshLibrary(folder).mesh(SEDAN)
    np.testing.assert_allclose(mesh.positions.min(0), [-2.25, -0.9, 0], atol=1e-5)
    np.testing.assert_allclose(mesh.positions.max(0), [2.25, 0.9, 1.5], atol=1e-5)
    top = mesh.positions[mesh.positions[:, 2] > 1.4]
    np.testing.assert_allclose(top[:, 0], -2.25, atol=1e-5)  # what is high is at the back
    assert {MATERIALS[row].name for row in mesh.materials} == {"tyre", "metal_painted"}
    corners = mesh.positions[mesh.faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((facing * mesh.normals[mesh.faces[:, 0]]).sum(1) > 0).all()


def test_a_glb_of_a_kind_stands_in_for_all_its_styles(folder: Path) -> None:
    box = trimesh.creation.box((1, 2, 3))
    box.visual.face_colors = [20, 20, 20, 255]
    box.export(folder / "car.glb")
    library = MeshLibrary(folder)
    for model in ("car/sedan", "car/van"):
        mesh = library.mesh(MeshKey(model, SEDAN.size_wlh))
        assert len(mesh.faces) == 12
        assert MATERIALS[mesh.materials[0]].name in ("tyre", "dark_trim", "car_glass")
    assert len(library.mesh(MeshKey("bus/city", (2.9, 11, 3.2))).faces) > 12  # still our own


def test_the_style_comes_before_the_kind(folder: Path) -> None:
    (folder / "car.obj").write_text(WEDGE)
    (folder / "car" / "sedan.obj").write_text(WEDGE)
    assert custom_file(folder, "car/sedan") == folder / "car" / "sedan.obj"
    assert custom_file(folder, "car/suv") == folder / "car.obj"
    assert custom_file(folder, "truck/box") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sedan.glb", b"not a glTF file"),
        ("sedan.glb", b""),
        ("sedan.gltf", b"{"),
        ("sedan.obj", b"v 0 0 0\n"),
        ("sedan.obj", b"v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n"),
        ("sedan.obj", b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"),
    ],
)
def test_broken_files_are_named(folder: Path, name: str, content: bytes) -> None:
    (folder / "car" / name).write_bytes(content)
    with pytest.raises(ConfigError, match=r"Export it again") as caught:
        MeshLibrary(folder).mesh(SEDAN)
    assert caught.value.field.endswith(name)


@pytest.mark.parametrize("model", ["../secret", "car/../../secret", "/etc/car", "car//sedan"])
def test_names_that_leave_the_folder_are_refused(folder: Path, model: str) -> None:
    (folder.parent / "secret.obj").write_text(WEDGE)
    with pytest.raises(ConfigError, match="folder"):
        MeshLibrary(folder).mesh(MeshKey(model, (1, 1, 1)))


def test_links_that_leave_the_folder_are_refused(folder: Path) -> None:
    (folder.parent / "secret.obj").write_text(WEDGE)
    (folder / "car" / "sedan.obj").symlink_to(folder.parent / "secret.obj")
    with pytest.raises(ConfigError, match="leads out"):
        MeshLibrary(folder).mesh(SEDAN)


def test_buffers_outside_the_folder_are_refused(folder: Path) -> None:
    files = trimesh.exchange.gltf.export_gltf(trimesh.Scene(trimesh.creation.box((1, 1, 1))))
    buffers = [name for name in files if name.endswith(".bin")]
    text = files["model.gltf"].decode()
    for name in buffers:
        (folder.parent / name).write_bytes(files[name])
        text = text.replace(name, f"../../{name}")
    (folder / "car" / "sedan.gltf").write_text(text)
    with pytest.raises(ConfigError, match="outside the folder"):
        MeshLibrary(folder).mesh(SEDAN)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        MeshLibrary(tmp_path / "nowhere")


def test_colours_find_their_materials() -> None:
    assert nearest_material((0.9, 0.1, 0.1)) == material_index("metal_painted")
    assert nearest_material((0.05, 0.05, 0.06)) == material_index("tyre")
    assert nearest_material((0.93, 0.93, 0.9)) == material_index("barrier_white")


@pytest.mark.parametrize("name", ["cars/sedan.glb", "car/coupe.glb", "traffic_cone.obj", "bus.GLB"])
def test_a_mesh_that_stands_in_for_nothing_is_named(folder: Path, name: str) -> None:
    (folder / "car" / "sedan.obj").write_text(WEDGE)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(WEDGE)
    with pytest.raises(ConfigError, match="none of our models") as refused:
        MeshLibrary(folder)
    assert Path(name).name in str(refused.value)
    assert "car/sedan.glb, car/hatchback.glb" in str(refused.value)


def test_a_folder_without_meshes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no mesh")
    with pytest.raises(ConfigError, match="no mesh file"):
        MeshLibrary(tmp_path)
