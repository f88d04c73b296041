"""Cameras and a LiDAR that look at a street made of a few hundred convex blocks.

The cameras paint shaded faces from far to near over a ground computed per pixel; the LiDAR cuts
rays with the same blocks exactly. No lens distortion, no reflections, no cast shadows besides a
dark patch below each thing: a sketch, not a renderer to train on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .nuscenes.geometry import Float64, inverse_rigid, project, transform_points

Colour = tuple[float, float, float]

KERB_Y, WALL_Y, LANE_Y = 6.0, 10.6, 3.5
"""Half widths of road, of street between the houses, and of the two lanes, metres."""

_OVERSAMPLING = 2
_NEAR_M = 0.2
_HAZE: Colour = (196, 206, 216)
_HAZE_LENGTH_M = 220.0
_GROUND_END_M = 260.0
_SUN = np.array([0.35, -0.45, 0.82]) / np.linalg.norm([0.35, -0.45, 0.82])
# Corners of a block: four below, four above, each (+x +y) (-x +y) (-x -y) (+x -y). A face lists
# two below, then two above, so that decals can be laid on it; front left back right top bottom.
_FACES = np.array(
    [[0, 3, 7, 4], [1, 0, 4, 5], [2, 1, 5, 6], [3, 2, 6, 7], [4, 7, 6, 5], [0, 1, 2, 3]]
)
_SIDES = range(4)
# Height of the block's foot, metres, and where along it its axles are, from back to front.
_WHEELS = {
    "car": (0.28, (0.20, 0.81)),
    "bus": (0.32, (0.20, 0.80)),
    "cargo": (0.55, (0.22,)),
    "cab": (0.45, (0.45,)),
}
_BOTTOM = 5


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A convex block, upright and along the street's axes; its top may be smaller than its foot.

    Attributes:
        corners: float64 `[8, 3]`, street frame, metres: four below, four above.
        colour: r g b, 0 to 255.
        style: which decals its faces wear.
        owner: the thing it is a part of; empty for scenery.
        reflectance: share of the laser light that comes back, 0 to 1.
    """

    corners: Float64
    colour: Colour
    style: str = ""
    owner: str = ""
    reflectance: float = 0.2


class Blocks:
    """Many blocks at one moment, as arrays."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        """Compute faces, bounds and bounding spheres of `blocks`."""
        self.blocks = blocks
        self.corners = np.stack([block.corners for block in blocks])
        self.low, self.high = self.corners.min(axis=1), self.corners.max(axis=1)
        self.centres = (self.low + self.high) / 2
        self.radii = np.linalg.norm(self.high - self.low, axis=1) / 2
        faces = self.corners[:, _FACES]
        normals = np.cross(faces[:, :, 3] - faces[:, :, 0], faces[:, :, 1] - faces[:, :, 0])
        self.normals = normals / np.linalg.norm(normals, axis=2, keepdims=True)
        self.face_centres = faces.mean(axis=2)
        self.offsets = np.einsum("sfx,sfx->sf", self.normals, self.face_centres)

    def cast(
        self, origin: Float64, directions: Float64, max_range_m: float
    ) -> tuple[Float64, NDArray[np.int64], Float64]:
        """Where rays first meet a block.

        Args:
            origin: `[3]`.
            directions: `[n, 3]` of length 1.
            max_range_m: hits beyond are misses.

        Returns:
            Range float64 `[n]` (infinite for a miss), block row int64 `[n]` (-1 for a miss) and
            cosine of the angle of incidence float64 `[n]`.
        """
        ranges = np.full(len(directions), np.inf)
        rows = np.full(len(directions), -1)
        cosines = np.zeros(len(directions))
        distances = np.linalg.norm(self.centres - origin, axis=1)
        for row in np.flatnonzero(distances - self.radii < max_range_m):
            to_centre = self.centres[row] - origin
            distance, radius = float(distances[row]), float(self.radii[row])
            near = np.arange(len(directions))
            if distance > radius:
                # Rays outside the cone around the bounding sphere cannot meet the block.
                edge = math.sqrt(1 - (radius / distance) ** 2) * distance
                near = np.flatnonzero(directions @ to_centre > edge)
            if not near.size:
                continue
            slopes = directions[near] @ self.normals[row].T
            gaps = self.offsets[row] - self.normals[row] @ origin
            with np.errstate(divide="ignore", invalid="ignore"):
                crossings = gaps / slopes
            enter = np.where(slopes < 0, crossings, -np.inf)
            leave = np.where(slopes > 0, crossings, np.inf)
            entry = enter.max(axis=1)
            beside = ((slopes == 0) & (gaps < 0)).any(axis=1)
            hit = (entry > 0) & (entry < leave.min(axis=1)) & (entry < max_range_m) & ~beside
            hit &= entry < ranges[near]
            if not hit.any():
                continue
            chosen = near[hit]
            ranges[chosen], rows[chosen] = entry[hit], row
            cosines[chosen] = -slopes[hit, enter[hit].argmax(axis=1)]
        return ranges, rows, cosines


class SketchCamera:
    """One pinhole camera that rides level above the ground."""

    def __init__(self, intrinsic: Float64, size: tuple[int, int], ego_from_camera: Float64) -> None:
        """Compute what does not change while driving: sky, and the ground below each pixel.

        Args:
            intrinsic: `[3, 3]`, pixels.
            size: width and height, pixels.
            ego_from_camera: `[4, 4]`.
        """
        self._intrinsic, self._size, self._ego_from_camera = intrinsic, size, ego_from_camera
        width, height = size
        u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        pixels = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
        rays = pixels @ np.linalg.inv(intrinsic).T @ ego_from_camera[:3, :3].T
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        up = np.clip(rays[:, 2:], 0, 1) ** 0.5
        self._sky = np.array(_HAZE) * (1 - up) + np.array([88, 138, 200]) * up
        eye = ego_from_camera[:3, 3]
        with np.errstate(divide="ignore"):
            reach = np.where(rays[:, 2] < 0, -eye[2] / rays[:, 2], np.inf)
        self._below = np.flatnonzero(reach < _GROUND_END_M)
        self._reach = reach[self._below]
        self._ground = (eye + rays[self._below] * self._reach[:, None])[:, :2]
        self._haze = np.exp(-self._reach / _HAZE_LENGTH_M)[:, None]
        # A pixel covers this much of the ground across and along the line of sight.
        self._across = self._reach / intrinsic[0, 0]
        self._along = self._across * self._reach / eye[2]

    def picture(self, blocks: Blocks, street_from_ego: Float64, crossing_x: float) -> Image.Image:
        """What the camera sees, RGB.

        Args:
            blocks: the street at the moment of the picture.
            street_from_ego: `[4, 4]`, a shift along the street.
            crossing_x: where the zebra crossing is, street frame, metres.
        """
        width, height = self._size
        street_from_camera = street_from_ego @ self._ego_from_camera
        x, y = (self._ground + street_from_ego[:2, 3]).T
        # Along the street a pixel is as long as along the line of sight where that looks down
        # the street; taking the longer of the two everywhere only softens some edges.
        ground = ground_colour(x, y, self._across, self._along, crossing_x)
        flat = self._sky.copy()
        flat[self._below] = np.array(_HAZE) * (1 - self._haze) + ground * self._haze
        image = Image.fromarray(flat.reshape(height, width, 3).astype(np.uint8))
        large = (width * _OVERSAMPLING, height * _OVERSAMPLING)
        image = image.resize(large, Image.Resampling.NEAREST)
        _paint(ImageDraw.Draw(image), blocks, self._intrinsic, self._size, street_from_camera)
        return image.reduce(_OVERSAMPLING)


def ground_colour(
    x: Float64, y: Float64, across: Float64, along: Float64, crossing_x: float
) -> Float64:
    """Colour of the ground at street positions, edges softened to the size of a pixel.

    Args:
        x: `[n]` along the street, metres.
        y: `[n]` to the left of its middle, metres.
        across: `[n]` size of a pixel on the ground across the line of sight, metres.
        along: `[n]` the same along the line of sight.
        crossing_x: where the zebra crossing is.

    Returns:
        float64 `[n, 3]`, 0 to 255.
    """
    side = np.abs(y)
    speckle = np.sin(np.floor(x * 24) * 12.9898 + np.floor(y * 24) * 78.233) * 43758.5453
    grain = (speckle - np.floor(speckle) - 0.5) * np.clip(0.05 / along, 0, 1)
    colour = np.empty((len(x), 3))
    colour[:] = (96, 97, 101)
    colour[side > LANE_Y] = (106, 105, 106)
    colour[side > KERB_Y] = (152, 148, 140)
    colour[side > WALL_Y] = (112, 122, 88)
    colour += (grain * np.where(side > KERB_Y, 10, 22))[:, None]
    slabs = np.maximum(_stripes(x, 1.2, 0.04, along), _stripes(y, 1.2, 0.04, across))
    _blend(colour, slabs * (side > KERB_Y + 0.25) * (side < WALL_Y), (122, 118, 112))
    _blend(colour, _band(side, KERB_Y - 0.05, KERB_Y + 0.2, across), (188, 186, 180))
    _blend(colour, _marking(x, y, across, along, crossing_x), (226, 226, 220))
    return colour


def painted(x: Float64, y: Float64, crossing_x: float) -> NDArray[np.bool_]:
    """Whether the ground at street positions carries white paint, which lasers see well."""
    sharp = np.full(len(x), 1e-6)
    return _marking(x, y, sharp, sharp, crossing_x) > 0.5


def _marking(x: Float64, y: Float64, across: Float64, along: Float64, crossing_x: float) -> Float64:
    from_crossing = np.abs(x - crossing_x)
    dashes = _stripes(x, 6.0, 3.0, along) * _band(y, -0.07, 0.07, across) * (from_crossing > 5)
    edges = _band(np.abs(y), LANE_Y - 0.06, LANE_Y + 0.06, across) * (from_crossing > 5)
    zebra = _stripes(y, 1.0, 0.5, across) * _band(from_crossing, -1, 2, along)
    stop = _band(from_crossing, 3.6, 4.0, along) * (np.sign(x - crossing_x) * y > 0)
    return np.maximum(np.maximum(dashes, edges), np.maximum(zebra, stop) * (np.abs(y) < LANE_Y))


def _band(value: Float64, low: float, high: float, pixel: Float64) -> Float64:
    """Share of a pixel that lies between `low` and `high`."""
    covered = np.minimum(value + pixel / 2, high) - np.maximum(value - pixel / 2, low)
    return np.clip(covered / pixel, 0, 1)


def _stripes(value: Float64, period: float, width: float, pixel: Float64) -> Float64:
    """Share of a pixel covered by stripes; their mean where a pixel spans several."""
    sharp = _band((value + period / 2) % period, (period - width) / 2, (period + width) / 2, pixel)
    return np.where(pixel < period / 2, sharp, width / period)


def _blend(colour: Float64, share: Float64, other: Colour) -> None:
    rows = np.flatnonzero(share > 0)
    part = share[rows, None]
    colour[rows] = colour[rows] * (1 - part) + np.array(other) * part


def _paint(
    draw: ImageDraw.ImageDraw,
    blocks: Blocks,
    intrinsic: Float64,
    size: tuple[int, int],
    street_from_camera: Float64,
) -> None:
    camera_from_street = inverse_rigid(street_from_camera)
    eye = street_from_camera[:3, 3]
    corners = transform_points(camera_from_street, blocks.corners.reshape(-1, 3)).reshape(-1, 8, 3)
    sees_face = np.einsum("sfx,x->sf", blocks.normals, eye) > blocks.offsets
    facing_light = np.clip(blocks.normals @ _SUN, 0, 1)
    distances = np.linalg.norm(blocks.face_centres - eye, axis=2)
    in_view = np.flatnonzero(_in_view(corners, intrinsic, size[0]))
    shadows = [row for row in in_view if blocks.low[row, 2] < 0.5]
    for row in shadows:
        foot = blocks.corners[row, :4] * (1, 1, 0)
        foot += np.sign(foot - foot.mean(axis=0)) * 0.06 - _SUN * (0.2, 0.2, 0)
        _polygon(draw, transform_points(camera_from_street, foot), intrinsic, (62, 63, 68))
    for row in in_view[_painting_order(blocks.low[in_view], blocks.high[in_view], eye)]:
        block = blocks.blocks[row]
        for face in np.flatnonzero(sees_face[row, :_BOTTOM]):
            light = 0.62 + 0.45 * float(facing_light[row, face])
            haze = math.exp(-float(distances[row, face]) / _HAZE_LENGTH_M)
            quad = corners[row, _FACES[face]]
            _polygon(draw, quad, intrinsic, _lit(block.colour, light, haze))
            if face in _SIDES and block.style:
                metres = np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[3] - quad[0])
                for outline, colour in _decals(block.style, int(face), *map(float, metres)):
                    spot = _on_quad(quad, outline)
                    _polygon(draw, spot, intrinsic, _lit(colour, light, haze))


def _in_view(corners: Float64, intrinsic: Float64, width: int) -> NDArray[np.bool_]:
    """Blocks `[s, 8, 3]` (camera frame) with some corner within each side plane of the view."""
    x, z = corners[:, :, 0] * intrinsic[0, 0], corners[:, :, 2]
    left = (x + intrinsic[0, 2] * z > 0).any(axis=1)
    right = (x + (intrinsic[0, 2] - width) * z < 0).any(axis=1)
    return left & right & (z > _NEAR_M).any(axis=1)


def _painting_order(low: Float64, high: Float64, eye: Float64) -> NDArray[np.int64]:
    """An order in which no block is painted over one that hides it.

    Of two blocks that a plane across an axis divides, the one on the eye's side is never
    hidden by the other. Where such planes leave a circle the farthest block goes first.
    """
    count = len(low)
    may_hide = ~np.eye(count, dtype=bool)
    for axis in range(3):
        below = high[:, None, axis] <= low[None, :, axis]
        eye_below = eye[axis] <= low[:, axis]
        eye_above = eye[axis] >= high[:, axis]
        # a below b: b cannot hide a from an eye below b, a cannot hide b from an eye above a.
        may_hide &= ~(below.T & eye_below[:, None])
        may_hide &= ~(below & eye_above[:, None])
    farness = np.linalg.norm((low + high) / 2 - eye, axis=1)
    still_hides = may_hide.sum(axis=1)
    order = np.empty(count, dtype=np.int64)
    left = np.ones(count, dtype=bool)
    for place in range(count):
        free = left & (still_hides == 0)
        pool = np.flatnonzero(free if free.any() else left)
        chosen = pool[farness[pool].argmax()]
        order[place] = chosen
        left[chosen] = False
        still_hides -= may_hide[:, chosen]
    return order


def _polygon(
    draw: ImageDraw.ImageDraw, outline: Float64, intrinsic: Float64, fill: tuple[int, int, int]
) -> None:
    """Fill a polygon `[k, 3]` of the camera frame, cut off where it comes behind the lens."""
    if outline[:, 2].min() < _NEAR_M:
        outline = _clipped(outline)
    if len(outline) > 2:
        pixels, _ = project(intrinsic, outline)
        # Pillow takes coordinates far outside the picture, but not beyond 32 bits.
        flat = np.clip(pixels * _OVERSAMPLING, -1e6, 1e6).ravel().tolist()
        draw.polygon(flat, fill=fill)


def _clipped(outline: Float64) -> Float64:
    kept: list[Float64] = []
    for here, there in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if here[2] >= _NEAR_M:
            kept.append(here)
        if (here[2] >= _NEAR_M) != (there[2] >= _NEAR_M):
            kept.append(here + (there - here) * (_NEAR_M - here[2]) / (there[2] - here[2]))
    return np.array(kept).reshape(-1, 3)


def _lit(colour: Colour, light: float, haze: float) -> tuple[int, int, int]:
    r, g, b = (
        int(min(255, part * light) * haze + far * (1 - haze))
        for part, far in zip(colour, _HAZE, strict=True)
    )
    return r, g, b


def _on_quad(quad: Float64, outline: Float64) -> Float64:
    """Points `[k, 2]` in units of a face (0 to 1, right and up) to the camera frame."""
    right, up = outline[:, :1], outline[:, 1:]
    below = quad[0] * (1 - right) + quad[1] * right
    above = quad[3] * (1 - right) + quad[2] * right
    return below * (1 - up) + above * up


def _patch(left: float, right: float, low: float, high: float) -> Float64:
    return np.array([[left, low], [right, low], [right, high], [left, high]])


def _disc(right: float, up: float, radius_m: float, width_m: float, height_m: float) -> Float64:
    turn = np.linspace(0, 2 * math.pi, 16, endpoint=False)
    return np.stack(
        [right + np.cos(turn) * radius_m / width_m, up + np.sin(turn) * radius_m / height_m], axis=1
    )


def _decals(
    style: str, face: int, width_m: float, height_m: float
) -> Iterator[tuple[Float64, Colour]]:
    """What is drawn on a face (0 front, 1 left, 2 back, 3 right): outlines and colours."""
    glass: Colour = (46, 58, 72)
    is_end = face % 2 == 0
    if style in _WHEELS and not is_end:
        foot_m, axles = _WHEELS[style]
        for axle in axles:
            right = axle if face == 1 else 1 - axle
            yield _disc(right, (0.33 - foot_m) / height_m, 0.33, width_m, height_m), (26, 26, 28)
            yield _disc(right, (0.33 - foot_m) / height_m, 0.17, width_m, height_m), (140, 142, 148)
    if style in _WHEELS and is_end:
        lamp: Colour = (250, 246, 226) if face == 0 else (252, 58, 48)
        low, high = (0.5, 0.82) if style == "car" else (0.05, 0.15)
        yield _patch(0.05, 0.24, low, high), lamp
        yield _patch(0.76, 0.95, low, high), lamp
        yield _patch(0.36, 0.64, low * 0.4, low * 0.4 + (high - low) * 0.8), (222, 222, 214)
    if style == "cabin":
        if is_end:
            yield _patch(0.07, 0.93, 0.08, 0.9), glass
        else:
            yield _patch(0.06, 0.46, 0.1, 0.86), glass
            yield _patch(0.52, 0.94, 0.1, 0.86), glass
    if style == "bus":
        panes = [(0.06, 0.94)] if is_end else [(n / 7 + 0.02, (n + 1) / 7 - 0.01) for n in range(7)]
        for left, right in panes:
            yield _patch(left, right, 0.42, 0.82), glass
    if style == "cone":
        yield _patch(0, 1, 0.42, 0.66), (238, 238, 234)
    if style == "barrier":
        for n in range(0, 6, 2):
            yield _patch(n / 6, (n + 1) / 6, 0.1, 0.9), (236, 236, 232)
    if style == "house":
        columns, storeys = max(1, round(width_m / 3)), max(1, round(height_m / 3.3))
        for storey in range(storeys):
            foot, height = (0.12, 0.7) if storey == 0 else (0.28, 0.48)
            for column in range(columns):
                bright = (storey * 7 + column * 13) % 5 == 0
                tone: Colour = (120, 142, 160) if bright else (70, 86, 102)
                left, low = (column + 0.2) / columns, (storey + foot) / storeys
                yield _patch(left, left + 0.6 / columns, low, low + height / storeys), tone
