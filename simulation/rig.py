"""The sensors of the made vehicle: where they sit, how they project, when they fire.

Extrinsics and intrinsics are those of the car that drove scene-0061 of nuScenes (facts of
geometry); rates and firing order are those of the data set's paper (Caesar et al., 1903.11027).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .nuscenes.geometry import Float64, rigid_transform

KEYFRAME_HZ = 2
CAMERA_HZ = 12
LIDAR_HZ = 20


@dataclass(frozen=True)
class CameraMount:
    """One camera.

    Attributes:
        channel: nuScenes name, e.g. `CAM_FRONT`.
        translation: x y z in the ego frame, metres.
        rotation: w x y z, ego from camera (x right, y down, z forward).
        focal_px: at 1600 x 900.
        centre_px: principal point u v at 1600 x 900.
        leads_by_us: how much earlier than the LiDAR's stamp it fires.
    """

    channel: str
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    focal_px: float
    centre_px: tuple[float, float]
    leads_by_us: int

    @cached_property
    def ego_from_camera(self) -> Float64:
        """float64 `[4, 4]`."""
        return rigid_transform(self.translation, self.rotation)

    def intrinsic(self, width: int) -> Float64:
        """`[3, 3]` for an image of this width with the aspect of nuScenes, 16 : 9."""
        scale = width / 1600
        u, v = self.centre_px
        focal = self.focal_px
        return np.array([[focal, 0, u], [0, focal, v], [0, 0, 1 / scale]]) * scale


@dataclass(frozen=True)
class LidarMount:
    """The LiDAR, a 32-beam spinning one.

    Attributes:
        channel: nuScenes name.
        translation: x y z in the ego frame, metres.
        rotation: w x y z, ego from LiDAR (x right, y forward, z up).
        elevations_deg: of the beams, ring 0 the lowest.
        columns: firings in one turn.
        range_m: beyond which nothing comes back.
    """

    channel: str
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    elevations_deg: NDArray[np.float64]
    columns: int
    range_m: float

    @cached_property
    def ego_from_lidar(self) -> Float64:
        """float64 `[4, 4]`."""
        return rigid_transform(self.translation, self.rotation)


CAMERAS: tuple[CameraMount, ...] = (
    CameraMount(
        "CAM_FRONT",
        (1.70079, 0.01595, 1.51096),
        (0.499802, -0.503032, 0.499780, -0.497371),
        1266.4172,
        (816.2670, 491.5071),
        35491,
    ),
    CameraMount(
        "CAM_FRONT_RIGHT",
        (1.55085, -0.49340, 1.49575),
        (0.206035, -0.202694, 0.682451, -0.671361),
        1260.8474,
        (807.9682, 495.3344),
        27612,
    ),
    CameraMount(
        "CAM_BACK_RIGHT",
        (1.01488, -0.48057, 1.56240),
        (0.122810, -0.132401, -0.700431, 0.690496),
        1259.5137,
        (807.2529, 501.1958),
        20058,
    ),
    CameraMount(
        "CAM_BACK",
        (0.02833, 0.00345, 1.57910),
        (0.503787, -0.497402, -0.494185, 0.504550),
        809.2210,
        (829.2196, 481.7784),
        10426,
    ),
    CameraMount(
        "CAM_BACK_LEFT",
        (1.03569, 0.48480, 1.59097),
        (0.692419, -0.703162, -0.116483, 0.112033),
        1256.7415,
        (792.1126, 492.7757),
        528,
    ),
    CameraMount(
        "CAM_FRONT_LEFT",
        (1.52388, 0.49463, 1.50932),
        (0.675727, -0.673627, 0.212140, -0.211228),
        1272.5979,
        (826.6155, 479.7517),
        43107,
    ),
)

LIDAR = LidarMount(
    "LIDAR_TOP",
    (0.943713, 0.0, 1.84023),
    (0.707796, -0.006492, 0.010646, -0.706307),
    np.linspace(-30.67, 10.67, 32),
    1084,
    80.0,
)
