"""Shapes of everything that a made world shows: triangles and materials, no placement."""

from .library import MODELS, MeshLibrary
from .materials import MATERIALS, Material, material_index
from .mesh import Mesh, MeshKey

__all__ = [
    "MATERIALS",
    "MODELS",
    "Material",
    "Mesh",
    "MeshKey",
    "MeshLibrary",
    "material_index",
]
