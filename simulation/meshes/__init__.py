"""Shapes of everything that a made world shows: triangles and materials, no placement."""

from .materials import MATERIALS, Material, material_index
from .mesh import Mesh, MeshKey

__all__ = ["MATERIALS", "Material", "Mesh", "MeshKey", "material_index"]
