"""One turn of the made vehicle's LiDAR as the points that its driver would deliver.

A whole turn is taken at its stamp, the end of the turn: as after a perfect motion compensation,
for the vehicle and for what moves around it. So points lie in the boxes of their keyframe, and the
smear of fast things that a real turn of 50 ms shows is not there. Only true returns are points:
files of nuScenes also hold the empty firings, as points within half a metre of the sensor, and
the vehicle's own roof; here the roof casts its shadow and that is all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..nuscenes.geometry import Float64
from ..rig import LIDAR, LidarMount
from ..world import World
from .ray_world import Moment, RayWorld
from .returns import returns, weather_returns
from .triangles import Float32

_RANGE_NOISE_M = 0.015
_ANGLE_NOISE_RAD = math.radians(0.02)
#: The roof and the bonnet under the sensor, as its own sweeps show them: height below it, half
#: width, and from where to where along the vehicle, metres in the sensor's frame.
_OWN_BODY = ((-0.37, 0.6, -1.1, 0.6), (-0.82, 0.65, 0.6, 1.9))


@dataclass(frozen=True, eq=False)
class Sweep:
    """One turn.

    Attributes:
        cloud: float32 `[n, 5]`, x y z in metres in the sensor's frame (x right, y forward, z up),
            intensity 0 to 255, ring 0 (lowest) to 31; column by column, clockwise from the left.
        things: int32 `[n]`, rows of `RayWorld.owners`; -1 for what rain and fog sent back.
    """

    cloud: Float32
    things: NDArray[np.int32]


class LidarScanner:
    """Scans one world."""

    def __init__(
        self, world: World, rays: RayWorld, seed: tuple[int, ...], mount: LidarMount = LIDAR
    ) -> None:
        """Aim the beams.

        Args:
            world: to scan.
            rays: the same world, for rays.
            seed: of all noise; a sweep's noise follows from it and from the sweep's time alone.
            mount: of the LiDAR.
        """
        self._world, self._rays, self._seed, self._mount = world, rays, seed, mount
        self._azimuths = np.linspace(math.pi, -math.pi, mount.columns, endpoint=False)
        self._elevations: Float64 = np.deg2rad(mount.elevations_deg, dtype=np.float64)
        self._rings = np.tile(np.arange(len(self._elevations), dtype=np.float32), mount.columns)
        nominal = _directions(self._azimuths[:, None], self._elevations[None])
        self._free = np.flatnonzero(~_meets_own_body(nominal))

    def world_from_lidar(self, time_s: float) -> Float64:
        """Where the sensor is at a moment, float64 `[4, 4]`."""
        return self._world.ego_pose(time_s) @ self._mount.ego_from_lidar

    def sweep(self, time_s: float, moment: Moment | None = None) -> Sweep:
        """The turn that ends at a moment.

        Args:
            time_s: of the scene.
            moment: `RayWorld.at` this time, where the caller has it.
        """
        rng = np.random.default_rng((*self._seed, round(time_s * 1e6)))
        moment = moment or self._rays.at(time_s)
        beams, rings = self._beams(rng), self._rings[self._free]
        world_from_lidar = self.world_from_lidar(time_s)
        directions = beams @ world_from_lidar[:3, :3].T.astype(np.float32)
        origin = world_from_lidar[None, :3, 3].astype(np.float32)
        hits = moment.hits_behind_gaps(origin, directions, rng)
        hits.distances[hits.distances > self._mount.range_m] = np.inf

        back = returns(hits, directions, self._rays.paints, self._world.condition, rng)
        ranges = hits.distances + rng.normal(0, _RANGE_NOISE_M, len(beams)).astype(np.float32)
        detected, intensities, things = back.detected, back.intensities, hits.things
        rows, short, bright = weather_returns(hits.distances, self._world.condition, rng)
        detected[rows], ranges[rows], intensities[rows], things[rows] = True, short, bright, -1

        kept = np.flatnonzero(detected)
        points = beams[kept] * ranges[kept, None]
        cloud = np.column_stack([points, intensities[kept], rings[kept]])
        return Sweep(cloud.astype(np.float32), things[kept])

    def _beams(self, rng: np.random.Generator) -> Float32:
        """Directions of the beams that the roof does not block, with their jitter."""
        shape = (len(self._azimuths), len(self._elevations))
        # A column fires at once, so that its beams share the error of the turning angle.
        azimuths = self._azimuths[:, None] + rng.normal(0, _ANGLE_NOISE_RAD, (shape[0], 1))
        elevations = self._elevations[None] + rng.normal(0, _ANGLE_NOISE_RAD, shape)
        return _directions(azimuths, elevations)[self._free]


def _directions(azimuths: Float64, elevations: Float64) -> Float32:
    cosines = np.cos(elevations)
    x, y = cosines * np.cos(azimuths), cosines * np.sin(azimuths)
    z = np.broadcast_to(np.sin(elevations), x.shape)
    return np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)


def _meets_own_body(directions: Float32) -> NDArray[np.bool_]:
    """Which beams of the sensor's frame end on the vehicle itself."""
    blocked = np.zeros(len(directions), np.bool_)
    down = np.minimum(directions[:, 2], -1e-6)
    for height, half_width, rear, front in _OWN_BODY:
        x, y = (directions[:, axis] * (height / down) for axis in (0, 1))
        blocked |= (np.abs(x) < half_width) & (y > rear) & (y < front)
    return blocked
