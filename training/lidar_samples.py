"""What the LiDAR detector learns from: sweeps in their ego frame, earlier ones beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernels.bev_grid import RANGE_M, SLICES_M, bev_grid, cells_of
from ..runtime.encoder_inputs import sweep_in_frame_of
from ..runtime.errors import SensorError
from ..simulation.annotated_objects import annotated_objects
from .moments import TrainingMoment, earlier_sweeps
from .targets import Targets, bev_targets

Float = NDArray[np.float32]

#: An earlier sweep is this old, as at run time.
_EARLIER_MS = (200, 700)
_WITHOUT_EARLIER = 0.1
_TURN_RAD = np.deg2rad(10.0)


@dataclass(frozen=True)
class LidarSample:
    """One keyframe of a LiDAR.

    Attributes:
        points: float16 `[n, 4]`, those that stand up, in the ego frame.
        earlier: seconds since, and points of, earlier sweeps in the same frame.
        objects: float32 `[n, 12]`.
    """

    points: NDArray[np.float16]
    earlier: tuple[tuple[float, NDArray[np.float16]], ...]
    objects: Float


def lidar_samples(
    moments: Sequence[TrainingMoment],
    sensor: str = "lidar_top",
    progress: Callable[[int, int], None] | None = None,
) -> list[LidarSample]:
    """Read the sweeps of keyframes into memory, about 200 KB each.

    Raises:
        SensorError: a file is broken.
    """
    found: list[LidarSample] = []
    sweeps = {}
    for number, moment in enumerate(moments):
        key = (id(moment.data), moment.scene)
        if key not in sweeps:
            sweeps = {key: earlier_sweeps(moment.data, moment.scene, sensor)}
        newest, *older = sweeps[key][moment.token]
        frame = moment.data.read(newest)
        earlier = []
        for file in older:
            age_ms = (newest.stamp_ns - file.stamp_ns) / 1e6
            if _EARLIER_MS[0] <= age_ms <= _EARLIER_MS[1]:
                moved = sweep_in_frame_of(frame, moment.data.read(file))
                if moved is not None:
                    earlier.append((age_ms / 1e3, _kept(moved)))
        points = sweep_in_frame_of(frame, frame)
        if points is None:
            raise SensorError(
                "the data set does not say where the vehicle was",
                field=sensor,
                remedy="train with drives that have ego poses",
            )
        objects = annotated_objects(moment.data, moment.token)
        found.append(LidarSample(_kept(points), tuple(earlier), objects))
        if progress is not None:
            progress(number + 1, len(moments))
    return found


def lidar_example(sample: LidarSample, rng: np.random.Generator | None) -> tuple[Float, Targets]:
    """Grid and targets, mirrored and turned at random; None takes the sample as it is."""
    points, objects = sample.points.astype(np.float32), sample.objects.copy()
    earlier = None
    if rng is None:
        earlier = sample.earlier[-1] if sample.earlier else None
    elif sample.earlier and rng.random() > _WITHOUT_EARLIER:
        earlier = sample.earlier[int(rng.integers(len(sample.earlier)))]
    before = None if earlier is None else earlier[1].astype(np.float32)
    if rng is not None:
        turn, mirror = rng.uniform(-_TURN_RAD, _TURN_RAD), rng.random() < 0.5
        for cloud in (points, before):
            if cloud is not None:
                cloud[:, :2] = _moved(cloud[:, :2], turn, mirror)
        objects[:, 2:4] = _moved(objects[:, 2:4], turn, mirror)
        objects[:, 9:11] = _moved(objects[:, 9:11], turn, mirror)
        objects[:, 8] = (-objects[:, 8] if mirror else objects[:, 8]) + turn
    grid = bev_grid(points, before, 0.0 if earlier is None else earlier[0])
    if earlier is None:
        # Without an earlier sweep motion is a guess, which is not to be learned.
        objects[:, 9:11] = np.nan
    return grid, bev_targets(objects, cells_of(RANGE_M, 2 * RANGE_M / grid.shape[1]), RANGE_M)


def _moved(xy: Float, turn: float, mirror: bool) -> Float:
    xy = xy * np.array([1.0, -1.0], np.float32) if mirror else xy
    cosine, sine = np.cos(turn), np.sin(turn)
    return (xy @ np.array([[cosine, sine], [-sine, cosine]])).astype(np.float32)


def _kept(points: Float) -> NDArray[np.float16]:
    reach = RANGE_M * 1.2
    inside = (points[:, 2] >= SLICES_M[0]) & (points[:, 2] < SLICES_M[-1])
    inside &= (np.abs(points[:, :2]) < reach).all(axis=1)
    return points[inside, :4].astype(np.float16)
