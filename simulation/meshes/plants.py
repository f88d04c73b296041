"""Trees and hedges: trunks, and clumps of leaves with ragged outlines."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .materials import material_index
from .mesh import Mesh, MeshKey
from .shapes import Floats, Ints, Shaper, at

_CORES = 7
_SPRAYS = 218


def build_tree(style: str, key: MeshKey) -> Mesh:
    """A tree: `round` with a broad crown, `tall` with a slim one."""
    width, length, height = key.size_wlh
    rng = np.random.default_rng(key.variant + (7 if style == "tall" else 0))
    shaper = Shaper()
    bare = (0.3 if style == "round" else 0.16) * height
    trunk = 0.022 * height + 0.035
    bend = rng.uniform(-0.06, 0.06, 2) * length
    fork = np.array([bend[0], bend[1], bare * 1.25])
    rise = np.array([0, 0.04, 0.7 * bare / height, 1.25 * bare / height, 0.75])
    sway = np.array([0, 0, 0.4, 1.0, 1.2])
    path = np.column_stack([sway * bend[0], sway * bend[1], rise * height])
    shares = (1.5, 1.0, 0.85, 0.7, 0.3)
    shaper.tube(path, [trunk * share for share in shares], "bark", 6)
    clumps = _crown(style, rng, width, length, height, bare)
    for centre, _ in clumps[:: max(1, len(clumps) // 3)][:3]:
        shaper.tube(
            [fork - at(0, 0, 0.1 * bare), 0.5 * (fork + centre), centre],
            [trunk * 0.5, trunk * 0.4, trunk * 0.2],
            "bark",
            3,
        )
    for centre, radii in sorted(clumps, key=lambda clump: -clump[1].prod())[:_CORES]:
        _add_clump(shaper, centre, 0.62 * radii, rng)
    _add_sprays(shaper, clumps, rng, _SPRAYS)
    return _softened(shaper.mesh(key.size_wlh), bare)


def _softened(mesh: Mesh, bare: float) -> Mesh:
    """The leaves' normals drawn towards those of the whole crown, which scatters light as one."""
    leaves = mesh.materials == material_index("foliage")
    low, high = mesh.positions[leaves].min(0), mesh.positions[leaves].max(0)
    middle = (low + high) / 2
    middle[2] = bare + 0.35 * (high[2] - bare)
    outward = (mesh.positions - middle) / ((high - low) / 2)
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    normals = mesh.normals + 1.6 * outward
    size = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = (normals / np.maximum(size, 1e-6)).astype(np.float32)
    # what looks inwards keeps its side
    kept = ~leaves | (size[:, 0] < 1e-3) | ((normals * mesh.normals).sum(1) < 0.3)
    normals[kept] = mesh.normals[kept]
    return Mesh(mesh.positions, normals, mesh.uvs, mesh.materials, mesh.faces)


def _crown(
    style: str, rng: np.random.Generator, width: float, length: float, height: float, bare: float
) -> list[tuple[Floats, Floats]]:
    """Centres and radii of the clumps of a crown: spread over a shell, with gaps between."""
    tall = height - bare
    middle = np.array([0, 0, bare + 0.5 * tall])
    half = np.array([length / 2, width / 2, tall / 2])
    count = 17
    clumps: list[tuple[Floats, Floats]] = []
    for k in range(count):
        # a spiral from top to bottom keeps them apart, the draw keeps them from a pattern
        up = 1 - 2 * (k + 0.5) / count + float(rng.uniform(-0.07, 0.07))
        angle = 2.39996 * k + float(rng.uniform(-0.45, 0.45))
        out = float(np.sqrt(max(1 - up * up, 0.0)))
        if style == "tall":  # widest low, a tip on top
            out = min(out, 0.95 * (1.08 - up) ** 0.7)
        share = float(rng.uniform(0.42, 0.78)) if k % 4 else 0.2
        place = middle + half * share * np.array([np.cos(angle) * out, np.sin(angle) * out, up])
        slim = 0.8 if style == "tall" and up > 0.2 else 1.0
        clumps.append((place, half * slim * rng.uniform(0.24, 0.4) * rng.uniform(0.85, 1.15, 3)))
    return clumps


def build_hedge(style: str, key: MeshKey) -> Mesh:
    """A trimmed hedge along its longer side."""
    width, length, height = key.size_wlh
    rng = np.random.default_rng(key.variant)
    shaper = Shaper()
    long = max(length, width)
    turned = width > length
    deep = min(length, width)
    count = int(np.clip(long / 0.8, 3, 14))
    rings = []
    section = np.array(
        [(-1, 0), (1, 0), (1.02, 0.55), (0.85, 0.95), (0, 1.0), (-0.85, 0.95), (-1.02, 0.55)]
    )
    for k in range(count + 1):
        jitter = rng.uniform(0.86, 1.0, (7, 2))
        ring = section * jitter * (0.5 * deep, height)
        rings.append(np.column_stack([np.full(7, (k / count - 0.5) * long), ring]))
    points = np.array(rings)
    if turned:
        points = points[..., [1, 0, 2]] * (-1, 1, 1)
    shaper.loft(points, "foliage", crease_deg=70)
    for _ in range(4 * count):
        x, side = rng.uniform(-0.48, 0.48) * long, rng.choice([-1, 1])
        top = rng.random() < 0.5
        place = (
            np.array([x, rng.uniform(-0.4, 0.4) * deep, height * 0.93])
            if top
            else np.array([x, side * 0.46 * deep, rng.uniform(0.1, 0.9) * height])
        )
        normal = np.array([0, 0, 1.0]) if top else np.array([0, side * 1.0, 0])
        if turned:
            place, normal = place[[1, 0, 2]], normal[[1, 0, 2]]
        _add_leaves(shaper, place[None], normal[None], 0.16, rng)
    return shaper.mesh(key.size_wlh)


def _add_clump(shaper: Shaper, centre: Floats, radii: Floats, rng: np.random.Generator) -> None:
    """A small ball of leaves, dented and turned at random."""
    directions, faces = _icosahedron()
    angle = float(rng.uniform(0, 6.28))
    c, s = np.cos(angle), np.sin(angle)
    directions = directions @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    bumps = rng.uniform(0.7, 1.25, (len(directions), 1))
    shaper.add(centre + directions * radii * bumps, faces, "foliage", 80)


def _add_sprays(
    shaper: Shaper,
    clumps: list[tuple[Floats, Floats]],
    rng: np.random.Generator,
    count: int,
) -> None:
    """Sprays of leaves about the middles of clumps: kites that hang outwards, with gaps."""
    centres = np.array([centre for centre, _ in clumps])
    radii = np.array([radius for _, radius in clumps])
    share = np.prod(radii, axis=1) ** (2 / 3)  # as their surfaces
    chosen = rng.choice(len(clumps), count, p=share / share.sum())
    outward = rng.normal(0, 1, (count, 3))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    reach = rng.uniform(0.45, 1.0, (count, 1))
    places = centres[chosen] + outward * radii[chosen] * reach
    middle, half = centres.mean(0), np.ptp(centres, axis=0) / 2 + radii.mean(0) * 0.6
    between = rng.random(count) < 0.45  # not only about clumps: over the whole crown
    depth = rng.uniform(0.25, 1.0, (count, 1)) ** 0.5
    places[between] = (middle + outward * half * depth)[between]
    normals = outward + rng.normal(0, 0.55, (count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    along = np.cross(normals, rng.normal(0, 1, (count, 3)))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(normals, along)
    size = float(radii.mean()) * rng.uniform(0.34, 0.62, (count, 1))
    width = size * rng.uniform(0.5, 0.85, (count, 1))
    drop = 0.35 * size * normals  # the tips bend inwards, so that a spray is not a card
    corners = np.stack(
        [
            places - size * along - drop,
            places - 0.15 * size * along + width * across,
            places + size * along - drop,
            places + 0.2 * size * along - width * across,
        ],
        axis=1,
    ).reshape(-1, 3)
    faces = np.array([[0, 2, 1], [0, 3, 2]]) + 4 * np.arange(count)[:, None, None]
    shaper.add(corners, faces.reshape(-1, 3), "foliage", 1)


def _add_leaves(
    shaper: Shaper, places: Floats, normals: Floats, size: float, rng: np.random.Generator
) -> None:
    """Tufts: small tilted squares that face away from the crown."""
    count = len(places)
    tilted = normals + rng.uniform(-0.7, 0.7, (count, 3))
    tilted /= np.linalg.norm(tilted, axis=1, keepdims=True)
    helper = np.where(np.abs(tilted[:, 2:]) < 0.9, [[0, 0, 1.0]], [[1.0, 0, 0]])
    across = np.cross(helper, tilted)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    upward = np.cross(tilted, across)
    sizes = size * rng.uniform(0.6, 1.2, (count, 1))
    corners = [
        places + sizes * (a * across + b * upward)
        for a, b in ((-1, -0.6), (0.7, -1), (1, 0.7), (-0.6, 1))
    ]
    points = np.stack(corners, 1).reshape(-1, 3)
    faces = np.array([[0, 1, 2], [0, 2, 3]]) + 4 * np.arange(count)[:, None, None]
    shaper.add(points, faces.reshape(-1, 3), "foliage", 1)


@lru_cache(maxsize=1)
def _icosahedron() -> tuple[Floats, Ints]:
    """Unit icosahedron: directions `[12, 3]`, faces `[20, 3]`."""
    g = (1 + 5**0.5) / 2
    points = np.array(
        [
            (-1, g, 0),
            (1, g, 0),
            (-1, -g, 0),
            (1, -g, 0),
            (0, -1, g),
            (0, 1, g),
            (0, -1, -g),
            (0, 1, -g),
            (g, 0, -1),
            (g, 0, 1),
            (-g, 0, -1),
            (-g, 0, 1),
        ],
        float,
    )
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    faces = np.array(
        [
            (0, 11, 5),
            (0, 5, 1),
            (0, 1, 7),
            (0, 7, 10),
            (0, 10, 11),
            (1, 5, 9),
            (5, 11, 4),
            (11, 10, 2),
            (10, 7, 6),
            (7, 1, 8),
            (3, 9, 4),
            (3, 4, 2),
            (3, 2, 6),
            (3, 6, 8),
            (3, 8, 9),
            (4, 9, 5),
            (2, 4, 11),
            (6, 2, 10),
            (8, 6, 7),
            (9, 8, 1),
        ]
    )
    return points, faces
