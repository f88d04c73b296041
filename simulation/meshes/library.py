"""Meshes by key, made when first asked for and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...runtime.errors import ConfigError
from .bicycles import build_bicycle
from .buildings import build_building
from .buses import build_bus
from .cars import build_car
from .coarse import coarse_mesh
from .custom import SUFFIXES, custom_file, load_custom
from .furniture import (
    build_bench,
    build_bin,
    build_bollard,
    build_fence,
    build_lamp,
    build_shelter,
    build_sign,
    build_signal,
)
from .machines import build_construction
from .mesh import Mesh, MeshKey
from .motorcycles import build_motorcycle
from .people import POSES, build_pedestrian
from .plants import build_hedge, build_tree
from .trailers import build_trailer
from .trucks import build_truck
from .works import build_barrier, build_cone

_Builder = Callable[[str, MeshKey], Mesh]

# kind: what builds it, its styles (an empty one where the kind stands alone), its poses
_KINDS: dict[str, tuple[_Builder, tuple[str, ...], tuple[str, ...]]] = {
    "car": (build_car, ("sedan", "hatchback", "suv", "van", "pickup"), ()),
    "truck": (build_truck, ("box", "flatbed", "dump", "semi"), ()),
    "bus": (build_bus, ("city", "bendy"), ()),
    "trailer": (build_trailer, ("box", "tank"), ()),
    "construction": (build_construction, ("excavator", "loader"), ()),
    "motorcycle": (build_motorcycle, ("standard",), ("rider",)),
    "bicycle": (build_bicycle, ("standard",), ("rider",)),
    "pedestrian": (build_pedestrian, ("adult", "child", "worker"), POSES),
    "cone": (build_cone, ("standard",), ()),
    "barrier": (build_barrier, ("plastic", "concrete"), ()),
    "building": (build_building, ("brick", "plaster", "office", "shop", "house"), ()),
    "tree": (build_tree, ("round", "tall"), ()),
    "hedge": (build_hedge, ("clipped", ""), ()),
    "lamp": (build_lamp, ("street",), ()),
    "signal": (build_signal, ("post",), ("red", "amber", "green")),
    "sign": (build_sign, ("stop", "speed"), ()),
    "bench": (build_bench, ("street", ""), ()),
    "bin": (build_bin, ("street", ""), ()),
    "fence": (build_fence, ("metal", ""), ()),
    "bollard": (build_bollard, ("street", ""), ()),
    "shelter": (build_shelter, ("bus", ""), ()),
}

_STYLE_POSES: dict[str, tuple[str, ...]] = {"bus/bendy": ("rear",)}

MODELS: dict[str, tuple[str, ...]] = {
    (model := f"{kind}/{style}" if style else kind): (*poses, *_STYLE_POSES.get(model, ()))
    for kind, (_, styles, poses) in _KINDS.items()
    for style in styles
}
"""Every model that can be made, with its poses beside the empty one."""


_SOLID = ("car", "construction", "pedestrian", "tree")
"""Kinds that look like themselves when made coarse; plates on flat walls do not survive it."""


class MeshLibrary:
    """Makes and keeps meshes; every thread and process has its own."""

    def __init__(self, folder: Path | None = None) -> None:
        """Start with nothing made.

        Args:
            folder: of glTF or OBJ files that stand in for our own shapes, e.g. `car/sedan.glb`
                or `car.glb` for all cars, see `custom.load_custom`; None for our own alone.

        Raises:
            ConfigError: there is no such folder, no mesh file in it, or one that stands in for
                nothing of ours.
        """
        if folder is not None and not folder.is_dir():
            raise ConfigError(
                "There is no such folder of meshes.",
                field=str(folder),
                remedy="Give a folder with files like car/sedan.glb, or none.",
            )
        if folder is not None:
            _check_names(folder)
        self._folder = folder
        self._made: dict[tuple[MeshKey, int], Mesh] = {}

    def mesh(self, key: MeshKey, detail: int = 0) -> Mesh:
        """The mesh of a key.

        Args:
            key: model, size, pose and variant.
            detail: 0 for the whole shape, 1 for a coarse one of at most 400 triangles, for
                things farther than about 50 m. Things of thin bars or of plates on flat walls
                (cycles, buses, trucks, buildings, street furniture) stay whole.

        Raises:
            ConfigError: there is no such model or pose, or its file cannot be read.
        """
        if detail not in (0, 1):
            raise ConfigError(
                f"There is no level of detail {detail}.", field="detail", remedy="Use 0 or 1."
            )
        made = self._made.get((key, detail))
        if made is None:
            made = self._new(key) if detail == 0 else self.mesh(key)
            if detail == 1 and key.model.partition("/")[0] in _SOLID:
                made = coarse_mesh(made)
            self._made[key, detail] = made
        return made

    def _new(self, key: MeshKey) -> Mesh:
        if min(key.size_wlh) <= 0:
            raise ConfigError(
                f"The size {key.size_wlh} of {key.model!r} has no volume.",
                field="size_wlh",
                remedy="Give width, length and height in metres, each above 0.",
            )
        if self._folder is not None:
            path = custom_file(self._folder, key.model)
            if path is not None:
                return load_custom(path, key, self._folder)
        return _built(key)


def _check_names(folder: Path) -> None:
    """Refuse names that would leave our own shapes, unsaid, where others were meant."""
    names = "; ".join(
        ", ".join((f"{kind}.glb", *(f"{kind}/{style}.glb" for style in styles if style)))
        for kind, (_, styles, _) in _KINDS.items()
    )
    remedy = f"Name files, .glb, .gltf or .obj, after a kind or a style of it: {names}."
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in found:
        name = path.relative_to(folder)
        known = name.with_suffix("").as_posix() in {*MODELS, *_KINDS}
        if not known or path.suffix not in SUFFIXES:
            raise ConfigError(
                "The mesh file stands in for none of our models.", field=str(path), remedy=remedy
            )
    if not found:
        raise ConfigError(
            "There is no mesh file in this folder of meshes.", field=str(folder), remedy=remedy
        )


def _built(key: MeshKey) -> Mesh:
    kind, _, style = key.model.partition("/")
    builder, styles, _ = _KINDS.get(kind, (None, (), ()))
    if builder is None or style not in styles:
        raise ConfigError(
            f"There is no mesh model {key.model!r}.",
            field="model",
            remedy=f"Use one of {', '.join(MODELS)}.",
        )
    poses = MODELS[key.model]
    if key.pose and key.pose not in poses:
        raise ConfigError(
            f"The mesh model {key.model!r} has no pose {key.pose!r}.",
            field="pose",
            remedy=f"Use one of {', '.join(poses)}." if poses else "Leave the pose empty.",
        )
    return builder(style, key)
