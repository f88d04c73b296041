"""Meshes from a folder of glTF and OBJ files, in place of our own shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import ConfigError, TailwireError
from .materials import MATERIALS, material_index
from .mesh import Mesh, MeshKey
from .shading import Floats, Ints, finished

SUFFIXES = (".glb", ".gltf", ".obj")
# glTF has x to the left, y up and z to the front (Khronos glTF 2.0, section 3.4).
_BODY_FROM_GLTF = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
_PAINT_SATURATION = 0.12


def custom_file(folder: Path, model: str) -> Path | None:
    """The file that stands in for a model, None if there is none.

    `car/sedan` is looked for as `car/sedan.glb`, `.gltf`, `.obj`, then as `car.glb` and so on.

    Raises:
        ConfigError: the model's name leads out of the folder, as may a link in it.
    """
    root = folder.resolve()
    parts = model.split("/")
    if any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise ConfigError(
            f"The model name {model!r} is not a path inside the folder of meshes.",
            field="model",
            remedy="Name models like car/sedan.",
        )
    for count in range(len(parts), 0, -1):
        for suffix in SUFFIXES:
            path = root.joinpath(*parts[: count - 1], parts[count - 1] + suffix)
            if not path.is_file():
                continue
            if not path.resolve().is_relative_to(root):
                raise ConfigError(
                    "The mesh file is a link that leads out of the folder of meshes.",
                    field=str(path),
                    remedy="Copy the file into the folder.",
                )
            return path
    return None


def load_custom(path: Path, key: MeshKey, folder: Path) -> Mesh:
    """Read a mesh file and fit it to the box of a key.

    glTF is taken as its standard says: y up, front towards z. OBJ has no standard: the same axes
    are assumed. Both are turned to x forward and z up, then scaled, each side by itself, so that
    the mesh fills its box. Every material (or vertex colour) becomes the entry of `MATERIALS`
    with the same name, or else the plain one with the nearest colour; a strong colour becomes
    `metal_painted`, which takes the paint of the placed thing. Images are not read.

    Args:
        path: of the file.
        key: whose box it fills.
        folder: beyond which no buffer or material file of it may lie.

    Raises:
        ConfigError: the file cannot be read or has no triangles.
        TailwireError: trimesh is not installed.
    """
    try:
        import trimesh  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise TailwireError(
            "trimesh is needed to read mesh files.",
            field="trimesh",
            remedy="Run `pip install 'tailwire[sim]'`.",
        ) from error
    try:
        scene: Any = trimesh.load_scene(str(path), process=False, resolver=_inside(path, folder))
        parts: list[Any] = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh)]
        points, faces, materials = _gathered(parts)
    # trimesh's readers raise whatever their parsers meet in a broken file.
    except Exception as error:
        raise _unreadable(path, f"cannot be read: {error}") from error
    if not len(faces):
        raise _unreadable(path, "has no triangles")
    if not np.isfinite(points).all():
        raise _unreadable(path, "has corners that are not finite")
    points = points @ _BODY_FROM_GLTF.T
    points = points[np.unique(faces, return_inverse=True)[0]]
    faces = np.unique(faces, return_inverse=True)[1].reshape(-1, 3)
    width, length, height = key.size_wlh
    low, high = points.min(0), points.max(0)
    points = (points - low) / np.maximum(high - low, 1e-9) * (length, width, height)
    points -= (length / 2, width / 2, 0)
    creases = np.full(len(faces), np.cos(np.radians(42)))
    mesh = finished(points, faces, materials, creases, np.full((len(points), 2), np.nan))
    if not len(mesh.faces):
        raise _unreadable(path, "has only triangles without area")
    return mesh


def _inside(path: Path, folder: Path) -> Any:
    """What reads the files that a mesh file names, and refuses those outside the folder."""
    from trimesh.resolvers import FilePathResolver  # pyright: ignore[reportMissingTypeStubs]

    root = folder.resolve()

    class _FolderResolver(FilePathResolver):
        def get(self, name: str) -> bytes:
            other = (path.parent / name.strip()).resolve()
            if not other.is_relative_to(root):
                raise ValueError(f"it names {name!r}, outside the folder")
            return super().get(name)

    return _FolderResolver(str(path))


def _unreadable(path: Path, problem: str) -> ConfigError:
    return ConfigError(
        f"The mesh file {problem}.",
        field=str(path),
        remedy="Export it again as .glb with triangles, or take it out of the folder.",
    )


def _gathered(parts: list[Any]) -> tuple[Floats, Ints, Ints]:
    """Points, faces and rows in `MATERIALS` of all parts, corners at one place welded."""
    points, faces, materials, count = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], [], 0
    for part in parts:
        own = np.asarray(part.vertices, np.float64)
        unique, back = np.unique(np.round(own, 6), axis=0, return_inverse=True)
        points.append(unique)
        faces.append(back.reshape(-1)[np.asarray(part.faces, np.int64)] + count)
        materials.append(_rows(part))
        count += len(unique)
    rows = np.concatenate(materials) if materials else np.zeros(0, np.int64)
    return np.concatenate(points), np.concatenate(faces), rows


def _rows(part: Any) -> Ints:
    """The material of each face of a part."""
    count = len(part.faces)
    material = getattr(part.visual, "material", None)
    if material is not None:
        name = str(getattr(material, "name", "") or "")
        known = {entry.name: row for row, entry in enumerate(MATERIALS)}
        if name in known:
            return np.full(count, known[name])
        colour = np.asarray(material.main_color, np.float64)[:3] / 255
        return np.full(count, nearest_material((colour[0], colour[1], colour[2])))
    colours = np.asarray(part.visual.face_colors, np.float64)[:, :3] / 255
    unique, back = np.unique(colours, axis=0, return_inverse=True)
    rows = np.array([nearest_material((c[0], c[1], c[2])) for c in unique])
    return rows[back.reshape(-1)]


def nearest_material(colour: tuple[float, float, float]) -> int:
    """Row of the material for an sRGB colour, 0 to 1: paint if it is strong, else the nearest."""
    if max(colour) - min(colour) > _PAINT_SATURATION:
        return material_index("metal_painted")
    plain = ("tyre", "dark_trim", "car_glass", "metal", "rim", "chrome", "barrier_white")
    rows = [material_index(name) for name in plain]
    apart = [sum((a - b) ** 2 for a, b in zip(MATERIALS[row].colour, colour, strict=True))
             for row in rows]  # fmt: skip
    return rows[int(np.argmin(apart))]
