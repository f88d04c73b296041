"""Where one camera stands at a moment, and what it can see of the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..nuscenes.geometry import Float64, inverse_rigid
from ..rig import CameraMount
from ..world import World

NEAR_M, FAR_M = 0.2, 600.0
AGENTS_WITHIN_M = 150.0
COARSE_BEYOND_M = 28.0
"""Distance from which agents are drawn with their coarse meshes."""


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera in a world.

    Pixel coordinates are those of `geometry.project`: u grows to the right and v downwards from
    the corner of the image, so that the centre of the first pixel is at (0.5, 0.5).

    Attributes:
        world_from_camera: float64 `[4, 4]`; x right, y down, z forward.
        intrinsic: float64 `[3, 3]`, pixels.
        width: of the image, pixels.
        height: of the image, pixels.
    """

    world_from_camera: Float64
    intrinsic: Float64
    width: int
    height: int

    @classmethod
    def of(cls, world: World, time_s: float, mount: CameraMount, width: int) -> View:
        """The view of a camera of the ego vehicle at a moment."""
        pose = world.ego_pose(time_s) @ mount.ego_from_camera
        return cls(pose, mount.intrinsic(width), width, width * 9 // 16)

    @property
    def eye(self) -> Float64:
        """The camera's place in the world, `[3]`, metres."""
        return self.world_from_camera[:3, 3]

    @property
    def forward(self) -> Float64:
        """Where it looks, `[3]`, unit length."""
        return self.world_from_camera[:3, 2]

    @property
    def horizon(self) -> float:
        """Row of the horizon in the middle of the image, pixels."""
        level = self.forward * (1, 1, 0)
        _, y, z = self.intrinsic @ (self.world_from_camera[:3, :3].T @ level)
        return float(y / z)

    @property
    def clip_from_world(self) -> Float64:
        """OpenGL's projection, float64 `[4, 4]`; its lowest row of pixels is the image's first.

        So pictures are read from OpenGL the right way up; triangles turn clockwise.
        """
        k = self.intrinsic
        clip_from_camera = np.zeros((4, 4))
        clip_from_camera[0] = 2 * np.append(k[0], 0) / self.width
        clip_from_camera[1] = 2 * np.append(k[1], 0) / self.height
        clip_from_camera[:2, 2] -= 1
        clip_from_camera[2, 2] = (FAR_M + NEAR_M) / (FAR_M - NEAR_M)
        clip_from_camera[2, 3] = -2 * FAR_M * NEAR_M / (FAR_M - NEAR_M)
        clip_from_camera[3, 2] = 1
        return clip_from_camera @ inverse_rigid(self.world_from_camera)

    def sees(self, centres: Float64, radii: Float64) -> np.ndarray:
        """Which spheres reach into the pyramid of view.

        Args:
            centres: `[n, 3]`, world frame, metres.
            radii: `[n]`.

        Returns:
            bool `[n]`.
        """
        return inside_planes(self.clip_from_world, centres, radii)


def inside_planes(clip_from_world: Float64, centres: Float64, radii: Float64) -> np.ndarray:
    """Which spheres `[n, 3]`, `[n]` reach into the volume of a projection `[4, 4]`; bool `[n]`."""
    x, y, z, w = clip_from_world
    planes = np.stack([w + x, w - x, w + y, w - y, w + z, w - z])
    planes /= np.linalg.norm(planes[:, :3], axis=1, keepdims=True)
    distances = centres @ planes[:, :3].T + planes[:, 3]
    return (distances > -np.asarray(radii)[:, None]).all(axis=1)


def pixel_directions(view: View) -> Float64:
    """Directions through the pixel centres, float64 `[height, width, 3]`, world frame, unit."""
    u, v = np.meshgrid(np.arange(view.width) + 0.5, np.arange(view.height) + 0.5)
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1)
    rays = pixels @ np.linalg.inv(view.intrinsic).T @ view.world_from_camera[:3, :3].T
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)
