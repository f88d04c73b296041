"""Pictures by ray casting, for machines without OpenGL: the same world, light and lens as `gl`, a
few seconds a picture instead of a few hundredths. One ray through the middle of each pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import ConfigError
from ..meshes import MeshLibrary
from ..rig import CameraMount
from ..world import Placed, World
from .develop import Developer, tone_curve
from .lens import Lens
from .lighting import Lighting
from .ray_light import MaterialTable, NightLight, SurfaceLight
from .ray_scene import RayScene, StandingSurfaces
from .ray_textures import Floats, SurfacePictures, bilinear, single
from .sky import sky_picture
from .view import FAR_M, View, pixel_directions

_RAYS_AT_ONCE = 1 << 16
_CONTACT_RISE_M = 0.03


class RayRenderer:
    """Draws worlds by ray casting; see `CameraRenderer`."""

    name = "ray"

    def __init__(self, library: MeshLibrary) -> None:
        """Bake the textures.

        Raises:
            ConfigError: embreex is not installed.
        """
        if find_spec("embreex") is None:
            raise ConfigError(
                "rays cannot be cast without the package embreex (there is one for x86-64 only)",
                field="renderer",
                remedy="pip install 'tailwire[sim]'",
            )
        self._library = library
        self._table, self._pictures = MaterialTable(), SurfacePictures()
        self._developer = Developer()
        self._taken: tuple[World, StandingSurfaces, Floats] | None = None

    def render(
        self, world: World, time_s: float, mount: CameraMount, width: int
    ) -> NDArray[np.uint8]:
        """The image of a camera at a moment.

        Args:
            world: what to look at.
            time_s: since the start of the scene.
            mount: which camera of the ego vehicle.
            width: of the image, pixels; the height is 9/16 of it.

        Returns:
            uint8 `[height, width, 3]`, RGB.
        """
        lighting = Lighting.of(world.condition)
        standing, sky = self._take(world, lighting)
        view = View.of(world, time_s, mount, width)
        agents = world.placed_agents(time_s)
        scene = RayScene(standing, agents, self._library, view.eye)
        night = NightLight.of(world, time_s, agents) if lighting.night else None
        wetness = world.condition.wetness
        light = SurfaceLight(lighting, wetness, sky, scene, night, self._table, self._pictures)
        contacts = _Contacts(scene.agents, lighting)
        picture, points, mirrors = _drawn(view, light, contacts)
        lens = Lens.of(world.condition, lighting, world.name, mount.channel, round(time_s * 1e6))
        before = None
        if lens.blur_s:
            before = _places(View.of(world, time_s - lens.blur_s, mount, width), points)
        return self._developer.developed(
            picture, lens, before, mirrors if wetness > 0 else None, view.horizon / view.height
        )

    def close(self) -> None:
        """Give the memory of the last world back."""
        self._taken = None

    def _take(self, world: World, lighting: Lighting) -> tuple[StandingSurfaces, Floats]:
        if self._taken is None or self._taken[0] is not world:
            self._taken = None  # not two worlds in memory
            sky = sky_picture(world.condition, lighting, world.name)
            self._taken = world, StandingSurfaces(world, self._library), sky
        return self._taken[1:]


class _Contacts:
    """Dark patches on the ground under things, where the sky does not reach."""

    def __init__(self, agents: Sequence[Placed], lighting: Lighting) -> None:
        self._darkest, self._extinction = lighting.contact_shade, lighting.extinction
        self._by_height: dict[float, list[Placed]] = {}
        for placed in agents:
            self._by_height.setdefault(placed.z + _CONTACT_RISE_M, []).append(placed)

    def left(self, eye: Floats, sight: Floats, distances: Floats) -> Floats:
        """The share of brightness that is left along rays; float32 `[n]`.

        Args:
            eye: `[3]`, where the rays start, metres.
            sight: `[n, 3]`, unit length.
            distances: `[n]`, to what they meet behind the patches, metres.
        """
        share = np.ones(len(sight), np.float32)
        for height, agents in self._by_height.items():
            down = np.flatnonzero(sight[:, 2] * (height - eye[2]) > 0)
            along = (np.float32(height) - eye[2]) / sight[down, 2]
            before = along <= distances[down]
            down, along = down[before], along[before]
            xy = eye[:2] + sight[down, :2] * along[:, None]
            # The air covers the dark as it covers everything.
            darkest = self._darkest * np.exp(-self._extinction * along)
            for placed in agents:
                rows, shade = _shade_under(placed, xy)
                share[down[rows]] *= 1 - darkest[rows] * shade
        return share


def _shade_under(placed: Placed, xy: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Rows of the places `[n, 2]` near a thing, and how much it shades them, 0 to 1."""
    width, length, _ = placed.mesh.size_wlh
    half = single([length / 2, width / 2])
    reach = np.float32(np.linalg.norm(half + 0.45))
    offset = xy - single([placed.x, placed.y])
    rows = np.flatnonzero((np.abs(offset) < reach).all(axis=1))
    across = np.abs(offset[rows] @ placed.transform[:2, :2].astype(np.float32))
    beyond = np.linalg.norm(np.maximum(across - half + 0.25, 0) / 0.7, axis=1)
    t = np.clip(beyond, 0, 1)
    inside = (across <= half + 0.45).all(axis=1)
    return rows, inside * (1 - t * t * (3 - 2 * t))


def _drawn(view: View, light: SurfaceLight, contacts: _Contacts) -> tuple[Floats, Floats, Floats]:
    """The scene after the tone curve and the points seen `[h, w, 3]`, and what mirrors `[h, w]`."""
    directions = pixel_directions(view).astype(np.float32).reshape(-1, 3)
    eye = view.eye.astype(np.float32)
    picture, points = np.empty_like(directions), np.empty_like(directions)
    mirrors = np.zeros(len(directions), np.float32)
    pixel_rad = 1 / float(view.intrinsic[0, 0])
    for first in range(0, len(directions), _RAYS_AT_ONCE):
        chunk = slice(first, first + _RAYS_AT_ONCE)
        sight = directions[chunk]
        hits = light.scene.first_hits(eye, sight)
        met = np.flatnonzero(hits.distances < FAR_M)
        far = np.minimum(hits.distances, np.float32(FAR_M))
        points[chunk] = eye + sight * far[:, None]
        colours = _sky(light.sky, sight)
        seen, places = hits.rows(met), points[chunk][met]
        colours[met], mirrors[first + met] = light.radiance(places, sight[met], seen, pixel_rad)
        shade = contacts.left(eye, sight, hits.distances)
        picture[chunk] = tone_curve(colours) * shade[:, None]
    shape = view.height, view.width, 3
    return picture.reshape(shape), points.reshape(shape), mirrors.reshape(shape[:2])


def _sky(picture: Floats, sight: Floats) -> Floats:
    """The sky between the texels of its picture; only few are there near the horizon."""
    x, y, z = sight[:, 0], sight[:, 1], np.maximum(sight[:, 2], 0)
    norm = np.abs(x) + np.abs(y) + z
    u, v = (x + y) / norm * 0.5 + 0.5, (x - y) / norm * 0.5 + 0.5
    return bilinear(picture, u, v, repeat=False)


def _places(view: View, points: Floats) -> Floats:
    """Where a view has points `[h, w, 3]`, in parts of its width and height, `[h, w, 2]`."""
    clip = points @ view.clip_from_world[:, :3].T + view.clip_from_world[:, 3]
    return (clip[..., :2] / clip[..., 3:] * 0.5 + 0.5).astype(np.float32)
