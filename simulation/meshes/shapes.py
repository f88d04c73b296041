"""Makers of simple solids, and what turns them into one mesh that fills its box.

A `Shaper` gathers parts: boxes, lofts, lathes, tubes. At the end it fits them to their box, gives
every corner a normal (smooth over gentle angles, sharp over steep ones) and coordinates for
textures, in metres along the surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .materials import material_index
from .mesh import Mesh
from .shading import FLAT, cross, finished

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Point = tuple[float, float, float]

SMOOTH = 42.0

_BOX_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2.0
_BOX_QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
_BOX_FACES = np.array([face for a, b, c, d in _BOX_QUADS for face in ((a, b, c), (a, c, d))])


class Shaper:
    """Gathers the parts of one mesh; x to the front, y to the left, z up, metres."""

    def __init__(self) -> None:
        self._points: list[Floats] = []
        self._faces: list[Ints] = []
        self._materials: list[Ints] = []
        self._creases: list[Floats] = []
        self._uvs: list[Floats] = []
        self._count = 0

    def add(
        self,
        points: ArrayLike,
        faces: ArrayLike,
        material: str | ArrayLike,
        crease_deg: float = SMOOTH,
        uvs: ArrayLike | None = None,
    ) -> None:
        """Add a part as it is.

        Args:
            points: `[n, 3]`; faces that share a point are smoothed over it.
            faces: `[m, 3]`, counter-clockwise seen from outside.
            material: name, or the rows `[m]` in `MATERIALS`.
            crease_deg: faces that differ by more than this have a sharp edge between them.
            uvs: `[n, 2]` of the points; by default they follow from place and normal.
        """
        points = np.asarray(points, np.float64)
        faces = np.asarray(faces, np.int64)
        rows = material_index(material) if isinstance(material, str) else np.asarray(material)
        self._points.append(points)
        self._faces.append(faces + self._count)
        self._materials.append(np.broadcast_to(rows, len(faces)).astype(np.int64))
        self._creases.append(np.full(len(faces), np.cos(np.radians(crease_deg))))
        own = np.full((len(points), 2), np.nan) if uvs is None else np.asarray(uvs, np.float64)
        self._uvs.append(own)
        self._count += len(points)

    def box(
        self,
        centre: Point,
        size: Point,
        material: str,
        turn: Floats | None = None,
        taper: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """A box.

        Args:
            centre: its middle.
            size: along x, y, z.
            material: name.
            turn: `[3, 3]`, a rotation about its middle.
            taper: of its top in x and y, 1 for none.
        """
        points = _BOX_CORNERS * size
        if taper != (1.0, 1.0):
            points[1::2, :2] *= taper
        if turn is not None:
            points = points @ turn.T
        self.add(points + centre, _BOX_FACES, material, FLAT)

    def block(self, centre: Point, size: Point, bevel: float, material: str) -> None:
        """A box with bevelled edges."""
        half = np.array(size) / 2
        rings = []
        for x, inset in (
            (-1, bevel),
            (-1 + bevel / half[0], 0),
            (1 - bevel / half[0], 0),
            (1, bevel),
        ):
            ring = rounded_rectangle(half[1] - inset, half[2] - inset, bevel, 1)
            rings.append(np.column_stack([np.full(len(ring), x * half[0]), ring]))
        self.loft(np.array(rings) + centre, material, crease_deg=30)

    def loft(
        self,
        rings: ArrayLike,
        material: str | NDArray[np.int64],
        caps: tuple[str | None, str | None] | None = None,
        crease_deg: float = SMOOTH,
        tips: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
    ) -> None:
        """A closed skin through rings of points, with both ends closed.

        Args:
            rings: `[k, n, 3]`, each closed from its last point to its first.
            material: name, or rows in `MATERIALS`, `[k - 1, n]`, of each quad.
            caps: materials of the two ends; by default as the skin.
            crease_deg: see `add`.
            tips: middles of the two ends, `[3]`; by default the mean of the ring.
        """
        rings = np.asarray(rings, np.float64)
        count, around = rings.shape[:2]
        first = rings[0].mean(0) if tips[0] is None else np.asarray(tips[0])
        last = rings[-1].mean(0) if tips[1] is None else np.asarray(tips[1])
        points = np.concatenate([rings.reshape(-1, 3), [first, last]])
        faces = _loft_faces(count, around)
        if isinstance(material, str):
            skin = np.full((count - 1) * around * 2, material_index(material))
        else:
            skin = np.repeat(material.reshape(-1), 2)
        ends: list[NDArray[np.int64]] = []
        for end, fallback in zip(caps or (None, None), (skin[0], skin[-1]), strict=True):
            ends.append(np.full(around, fallback if end is None else material_index(end)))
        corners = points[faces]
        # Rings that run the other way about turn the skin inside out; its volume tells.
        a, b, c = corners[:, 0] - first, corners[:, 1] - first, corners[:, 2] - first
        volume = (a * cross(b, c)).sum()
        if volume < 0:
            faces = faces[:, ::-1]
        self.add(points, faces, np.concatenate([skin, *ends]), crease_deg)

    def lathe(
        self,
        profile: Sequence[tuple[float, float]],
        material: str | Sequence[str] | NDArray[np.int64],
        centre: Point = (0.0, 0.0, 0.0),
        axis: int = 2,
        segments: int = 12,
        scale: Point = (1.0, 1.0, 1.0),
        crease_deg: float = SMOOTH,
    ) -> None:
        """A solid of revolution.

        Args:
            profile: radius and place along the axis of each ring; ends of radius 0 are tips.
            material: name, one for each band between rings, or rows `[bands, segments]`.
            centre: of the axis.
            axis: 0, 1 or 2, about which it turns.
            segments: around.
            scale: of x, y and z, before it is put at its centre.
            crease_deg: see `add`.
        """
        angle = np.arange(segments) * (2 * np.pi / segments) + np.pi / segments
        rings = np.empty((len(profile), segments, 3))
        radius, along = np.array(profile, np.float64).T
        rings[:, :, axis] = along[:, None]
        rings[:, :, (axis + 1) % 3] = radius[:, None] * np.cos(angle)
        rings[:, :, (axis + 2) % 3] = radius[:, None] * np.sin(angle)
        rings = rings * scale + centre
        tips: list[Floats | None] = [None, None]
        if not isinstance(material, str):
            bands = np.asarray(
                [
                    np.full(segments, material_index(m)) if isinstance(m, str) else m
                    for m in material
                ]
            )
        else:
            bands = np.full((len(profile) - 1, segments), material_index(material))
        low, high = 0, len(profile)
        if radius[0] == 0:
            tips[0], low = rings[0].mean(0), 1
        if radius[-1] == 0:
            tips[1], high = rings[-1].mean(0), high - 1
        self.loft(rings[low:high], bands[low : high - 1], None, crease_deg, (tips[0], tips[1]))

    def ellipsoid(
        self, centre: Point, radii: Point, material: str, segments: int = 10, rings: int = 5
    ) -> None:
        """An ellipsoid with its poles up and down."""
        angle = np.linspace(-np.pi / 2, np.pi / 2, rings + 2)
        profile = [(float(c), float(s)) for c, s in zip(np.cos(angle), np.sin(angle), strict=True)]
        profile[0], profile[-1] = (0.0, -1.0), (0.0, 1.0)
        self.lathe(profile, material, centre, 2, segments, radii, 80)

    def cylinder(
        self,
        centre: Point,
        radius: float,
        length: float,
        material: str,
        axis: int = 1,
        segments: int = 12,
    ) -> None:
        """A cylinder with flat ends."""
        half = length / 2
        self.lathe([(radius, -half), (radius, half)], material, centre, axis, segments)

    def tube(
        self,
        path: Sequence[ArrayLike] | Floats,
        radius: float | Sequence[float],
        material: str,
        sides: int = 6,
        flat: float = 1.0,
    ) -> None:
        """A round bar along a polyline, bent without a break at its corners.

        Args:
            path: k points `[3]`, k at least 2.
            radius: of the bar, or one for each point.
            material: name.
            sides: of its cross-section.
            flat: share of its thickness across the plane that its sideways direction and the
                path span; 1 for a round bar.
        """
        points = np.array([np.asarray(point, np.float64) for point in path])
        steps = np.diff(points, axis=0)
        steps /= np.linalg.norm(steps, axis=1, keepdims=True)
        along = np.concatenate([steps[:1], steps[:-1] + steps[1:], steps[-1:]])
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        # A side that no bend of the path meets, so that rings do not twist.
        mean = points[-1] - points[0]
        helper = np.eye(3)[int(np.argmin(np.abs(mean)))]
        first = cross(along, helper)
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        second = cross(along, first)
        angle = np.arange(sides) * (2 * np.pi / sides) + np.pi / sides
        radii = np.broadcast_to(np.asarray(radius, np.float64), len(points))[:, None, None]
        ring = (
            np.cos(angle)[None, :, None] * first[:, None] * flat
            + np.sin(angle)[None, :, None] * second[:, None]
        )
        self.loft(points[:, None] + radii * ring, material, crease_deg=75 if sides > 4 else 55)

    def ring(
        self,
        centre: Point,
        radius: float,
        thickness: float,
        material: str,
        segments: int = 20,
        sides: int = 5,
        wide: float = 1.0,
    ) -> None:
        """A torus about y: `radius` to the middle of its bar, `wide` its stretch along y."""
        angle = np.arange(segments) * (2 * np.pi / segments)
        inner = np.arange(sides) * (2 * np.pi / sides)
        reach = radius + thickness * np.cos(inner)[None, :]
        points = np.stack(
            [
                reach * np.cos(angle)[:, None],
                np.broadcast_to(wide * thickness * np.sin(inner), (segments, sides)),
                reach * np.sin(angle)[:, None],
            ],
            -1,
        )
        i, j = np.meshgrid(np.arange(segments), np.arange(sides), indexing="ij")
        a, b = i * sides + j, i * sides + (j + 1) % sides
        c, d = (b + sides) % (segments * sides), (a + sides) % (segments * sides)
        faces = np.stack([np.stack([a, c, b], -1), np.stack([a, d, c], -1)], 2).reshape(-1, 3)
        self.add(points.reshape(-1, 3) + centre, faces[:, ::-1], material, 80)

    def panel(self, corners: ArrayLike, material: str, depth: float = 0.015) -> None:
        """A thin plate; `corners` `[n, 3]` of its outer face, convex, counter-clockwise."""
        outer = np.asarray(corners, np.float64)
        normal = cross(outer[1] - outer[0], outer[-1] - outer[0])
        inner = outer - normal * (depth / np.linalg.norm(normal))
        count = len(outer)
        fan = [(0, k, k + 1) for k in range(1, count - 1)]
        back = [(count, count + k + 1, count + k) for k in range(1, count - 1)]
        sides = []
        for k in range(count):
            after = (k + 1) % count
            sides += [(k, count + k, count + after), (k, count + after, after)]
        self.add(np.concatenate([outer, inner]), fan + back + sides, material, FLAT)

    def bounds(self) -> tuple[Floats, Floats]:
        """Least and greatest x, y, z so far."""
        points = np.concatenate(self._points)
        return points.min(0), points.max(0)

    def mesh(self, size_wlh: tuple[float, float, float], stretch: bool = True) -> Mesh:
        """Everything as one mesh.

        Args:
            size_wlh: width, length, height of its box.
            stretch: fill the box in x and y too; otherwise only shrink where it is too big, about
                the middle, and touch ground and top.
        """
        width, length, height = size_wlh
        points = np.concatenate(self._points)
        low, high = points.min(0), points.max(0)
        if stretch:
            points = (points - low) / (high - low) * (length, width, height)
            points -= (length / 2, width / 2, 0)
        else:
            half = np.array([length, width]) / 2
            reach = np.maximum(np.maximum(-low, high)[:2], 1e-9)
            points[:, :2] *= np.minimum(1, half / reach)
            points[:, 2] = (points[:, 2] - low[2]) * (height / (high[2] - low[2]))
        return finished(
            points,
            np.concatenate(self._faces),
            np.concatenate(self._materials),
            np.concatenate(self._creases),
            np.concatenate(self._uvs),
        )


@lru_cache(maxsize=256)
def _loft_faces(count: int, around: int) -> Ints:
    """Faces of a loft: skin, then the fan of the first ring, then that of the last."""
    i, j = np.meshgrid(np.arange(count - 1), np.arange(around), indexing="ij")
    after = (j + 1) % around
    a, b = i * around + j, i * around + after
    c, d = b + around, a + around
    skin = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    ring = np.arange(around)
    following = (ring + 1) % around
    tip = count * around
    first = np.column_stack([np.full(around, tip), following, ring])
    offset = (count - 1) * around
    last = np.column_stack([np.full(around, tip + 1), offset + ring, offset + following])
    return np.concatenate([skin, first, last])


def rounded_rectangle(half_a: float, half_b: float, radius: float, steps: int = 2) -> Floats:
    """Outline `[4 (steps + 1), 2]`, counter-clockwise, of a rectangle with round corners."""
    angle = np.linspace(0, np.pi / 2, steps + 1)
    points = []
    for quarter, (a, b) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        turned = angle + quarter * np.pi / 2
        middle = (a * (half_a - radius), b * (half_b - radius))
        points.append(np.column_stack([np.cos(turned), np.sin(turned)]) * radius + middle)
    return np.concatenate(points)


def at(x: float, y: float, z: float) -> Floats:
    """A point or shift `[3]`."""
    return np.array([x, y, z], np.float64)


def turn_about(axis: int, angle_rad: float) -> Floats:
    """Rotation `[3, 3]` about x, y or z."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    turn = np.eye(3)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    turn[a, a], turn[a, b], turn[b, a], turn[b, b] = cos, -sin, sin, cos
    return turn


def turned_mesh(mesh: Mesh, quarters: int) -> Mesh:
    """A mesh turned counter-clockwise about z by quarters of a turn."""
    turn = np.round(turn_about(2, quarters * np.pi / 2)).astype(np.float32)
    return Mesh(
        mesh.positions @ turn.T, mesh.normals @ turn.T, mesh.uvs, mesh.materials, mesh.faces
    )
