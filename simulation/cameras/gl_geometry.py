"""Triangles on their way to OpenGL: the vertex layout, the standing things of a world, meshes."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..meshes import Mesh, MeshKey, MeshLibrary
from ..nuscenes.geometry import Float64
from ..world import Placed, World
from .view import View, inside_planes

if TYPE_CHECKING:
    import moderngl

VERTEX = np.dtype(
    [
        ("position", "<f4", 3),
        ("normal_material", "u1", 4),
        ("uv", "<f4", 2),
        ("paint", "u1", 4),
    ]
)
VERTEX_FORMAT = "3f 4f1 2f 4f1"
VERTEX_NAMES = ("position", "normal_material", "uv", "paint")

_CELL_M = 30.0
_KEPT_BYTES = 96 << 20
_SHOWS_FROM = 0.004  # radius by distance of what is drawn at all: about two pixels


def packed_vertices(mesh: Mesh, placed: Placed | None = None) -> NDArray[np.void]:
    """The vertices of a mesh in the layout of the shaders, `[v]` of `VERTEX`.

    Args:
        mesh: whose.
        placed: moves it into the world frame and paints it; None leaves it in its own.
    """
    vertices = np.zeros(len(mesh.positions), VERTEX)
    positions, normals = mesh.positions, mesh.normals
    if placed is not None:
        transform = placed.transform
        positions = positions @ transform[:3, :3].T.astype(np.float32) + transform[:3, 3]
        normals = normals @ transform[:3, :3].T.astype(np.float32)
        vertices["paint"][:, :3] = np.clip(np.array(placed.paint) * 255 + 0.5, 0, 255)
    vertices["position"] = positions
    vertices["normal_material"][:, :3] = np.clip(normals * 127.5 + 127.5 + 0.5, 0, 255)
    vertices["normal_material"][:, 3] = mesh.materials
    vertices["uv"] = mesh.uvs
    return vertices


class Batch(NamedTuple):
    """A run of triangles with the sphere around them.

    Attributes:
        first: index of its first corner.
        corners: three per triangle.
        centre: `[3]`, metres.
        radius: metres.
        shadows: it may throw a shadow.
    """

    first: int
    corners: int
    centre: Float64
    radius: float
    shadows: bool


class MeshBuffers:
    """One mesh in OpenGL's memory, in its own frame."""

    def __init__(self, context: moderngl.Context, mesh: Mesh) -> None:
        """Upload it."""
        self._context = context
        self._vertices = context.buffer(packed_vertices(mesh).tobytes())
        self._indices = context.buffer(mesh.faces.astype(np.int32).tobytes())
        self.bytes = self._vertices.size + self._indices.size
        self._arrays: dict[moderngl.Program, moderngl.VertexArray] = {}

    def draw(self, program: moderngl.Program) -> None:
        """Draw it with the uniforms as they are."""
        array = self._arrays.get(program)
        if array is None:
            array = self._arrays[program] = vertex_array(
                self._context, program, self._vertices, self._indices
            )
        array.render(self._context.TRIANGLES)

    def release(self) -> None:
        """Give the memory back."""
        for array in self._arrays.values():
            array.release()
        self._vertices.release()
        self._indices.release()


def vertex_array(
    context: moderngl.Context,
    program: moderngl.Program,
    vertices: moderngl.Buffer,
    indices: moderngl.Buffer,
) -> moderngl.VertexArray:
    """Vertices in the layout of `VERTEX` as a program wants them; it may need only some parts."""
    formats, names = [], []
    for part, name in zip(VERTEX_FORMAT.split(), VERTEX_NAMES, strict=True):
        known = name in program
        size = VERTEX[name].itemsize
        formats.append(part if known else f"{size}x")
        names += [name] if known else []
    return context.vertex_array(
        program, [(vertices, " ".join(formats), *names)], index_buffer=indices
    )


class MeshCache:
    """Meshes in OpenGL's memory by key; the longest unused go when it gets too much."""

    def __init__(self, context: moderngl.Context, library: MeshLibrary) -> None:
        """Start empty."""
        self._context = context
        self._library = library
        self._kept: OrderedDict[tuple[MeshKey, int], MeshBuffers] = OrderedDict()
        self._bytes = 0

    def buffers(self, key: MeshKey, detail: int) -> MeshBuffers:
        """The buffers of a mesh; valid until the next call of `trim`.

        Args:
            key: which mesh.
            detail: see `MeshLibrary.mesh`.
        """
        found = self._kept.get((key, detail))
        if found is None:
            mesh = self._library.mesh(key, detail)
            found = self._kept[key, detail] = MeshBuffers(self._context, mesh)
            self._bytes += found.bytes
        self._kept.move_to_end((key, detail))
        return found

    def trim(self) -> None:
        """Free what has not been used for longest, down to the limit."""
        while self._bytes > _KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.bytes
            oldest.release()

    def release(self) -> None:
        """Free all."""
        for buffers in self._kept.values():
            buffers.release()
        self._kept.clear()
        self._bytes = 0


class StandingScene:
    """Ground and scenery of a world in one vertex buffer, cut into batches."""

    def __init__(
        self,
        context: moderngl.Context,
        world: World,
        library: MeshLibrary,
        program: moderngl.Program,
    ) -> None:
        """Upload them.

        Args:
            context: whose memory.
            world: whose ground and scenery.
            library: for the meshes of the scenery.
            program: that will draw them.
        """
        self._context = context
        parts: list[NDArray[np.void]] = []
        faces: list[NDArray[np.int32]] = []
        batches: list[Batch] = []
        vertex, corner = 0, 0

        def add(vertices: NDArray[np.void], triangles: NDArray[np.int32]) -> None:
            nonlocal vertex
            parts.append(vertices)
            faces.append((triangles + vertex).astype(np.int32))
            vertex += len(vertices)

        def batch(positions: NDArray[np.float32], count: int, shadows: bool) -> None:
            nonlocal corner
            low, high = positions.min(axis=0), positions.max(axis=0)
            radius = float(np.linalg.norm(high - low)) / 2
            centre = (low + high).astype(np.float64) / 2
            batches.append(Batch(corner, count, centre, radius, shadows))
            corner += count

        for placed in world.scenery:
            mesh = library.mesh(placed.mesh)
            vertices = packed_vertices(mesh, placed)
            add(vertices, mesh.faces)
            batch(vertices["position"], mesh.faces.size, shadows=True)
        ground = packed_vertices(world.ground)
        ground["paint"] = 128
        cells = _cells(world.ground)
        add(ground, world.ground.faces[np.concatenate(cells)])
        for cell in cells:
            corners = world.ground.faces[cell]
            batch(world.ground.positions[corners.reshape(-1)], corners.size, shadows=False)
        self._vertices = context.buffer(np.concatenate(parts).tobytes())
        self._indices = context.buffer(np.concatenate(faces).tobytes())
        self._array = vertex_array(context, program, self._vertices, self._indices)
        self._shadow_array: moderngl.VertexArray | None = None
        self._firsts = np.array([b.first for b in batches], np.uint32)
        self._corners = np.array([b.corners for b in batches], np.uint32)
        self._centres = np.array([b.centre for b in batches])
        self._radii = np.array([b.radius for b in batches])
        self._shadows = np.array([b.shadows for b in batches])
        self._commands = context.buffer(reserve=max(len(batches), 1) * 20)

    def draw(self, view: View) -> None:
        """Draw what the view may see, near things first."""
        distances = np.linalg.norm(self._centres - view.eye, axis=1)
        shows = self._radii > _SHOWS_FROM * distances
        seen = np.flatnonzero(shows & view.sees(self._centres, self._radii))
        self._draw(self._array, seen[np.argsort((distances - self._radii)[seen])])

    def draw_shadows(self, clip_from_world: Float64, program: moderngl.Program) -> None:
        """Draw what throws a shadow into a projection."""
        if self._shadow_array is None:
            self._shadow_array = vertex_array(self._context, program, self._vertices, self._indices)
        inside = inside_planes(clip_from_world, self._centres, self._radii)
        self._draw(self._shadow_array, np.flatnonzero(inside & self._shadows))

    def _draw(self, array: moderngl.VertexArray, rows: NDArray[np.intp]) -> None:
        if not len(rows):
            return
        commands = np.zeros((len(rows), 5), np.uint32)
        commands[:, 0] = self._corners[rows]
        commands[:, 1] = 1
        commands[:, 2] = self._firsts[rows]
        self._commands.write(commands.tobytes())
        array.render_indirect(self._commands, self._context.TRIANGLES, count=len(rows))

    def release(self) -> None:
        """Give the memory back."""
        for part in (self._array, self._shadow_array, self._vertices, self._indices):
            if part is not None:
                part.release()
        self._commands.release()


def _cells(mesh: Mesh) -> Sequence[NDArray[np.intp]]:
    middles = mesh.positions[mesh.faces][:, :, :2].mean(axis=1)
    cells = np.floor(middles / _CELL_M).astype(np.int64)
    cells -= cells.min(axis=0)
    keys = cells[:, 0] * (int(cells[:, 1].max()) + 1) + cells[:, 1]
    order = np.argsort(keys, kind="stable")
    borders = np.flatnonzero(np.diff(keys[order])) + 1
    return np.split(order, borders)


def turn_and_place(placed: Placed) -> tuple[float, float, float, float, float]:
    """x, y, z, cosine and sine of the yaw: what the shaders need to place a mesh."""
    return placed.x, placed.y, placed.z, math.cos(placed.yaw_rad), math.sin(placed.yaw_rad)
