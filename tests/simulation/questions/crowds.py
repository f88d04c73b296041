"""Data sets with crowded made-up keyframes: annotations and a pose, and no picture."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailwire.simulation.nuscenes import NuScenes, NuScenesWriter
from tailwire.simulation.nuscenes.geometry import rigid_transform, transform_points, yaw_quaternion
from tailwire.simulation.nuscenes.writer import VISIBILITY_LEVELS

STAMP_NS = 1_600_000_000_000_000_000
EGO_YAW_RAD = 0.6

VEHICLE = ("vehicle.moving", "vehicle.stopped", "vehicle.parked")
CYCLE = ("cycle.with_rider", "cycle.without_rider")
PERSON = ("pedestrian.moving", "pedestrian.standing", "pedestrian.sitting_lying_down")

#: Category, attributes, how often in a hundred scenes, how many at a time at most.
CAST: tuple[tuple[str, tuple[str, ...], int, int], ...] = (
    ("vehicle.car", VEHICLE, 97, 14),
    ("vehicle.truck", VEHICLE, 70, 4),
    ("vehicle.bus.rigid", VEHICLE, 30, 2),
    ("vehicle.bus.bendy", VEHICLE, 15, 1),
    ("vehicle.trailer", VEHICLE, 30, 2),
    ("vehicle.construction", VEHICLE, 35, 2),
    ("vehicle.bicycle", CYCLE, 45, 3),
    ("vehicle.motorcycle", CYCLE, 45, 3),
    ("human.pedestrian.adult", PERSON, 85, 12),
    ("human.pedestrian.child", PERSON, 25, 2),
    ("movable_object.trafficcone", (), 50, 9),
    ("movable_object.barrier", (), 45, 11),
    ("animal", (), 10, 1),
)


@dataclass(frozen=True)
class Box:
    """One annotation, placed in the ego frame."""

    category: str
    x: float
    y: float
    attributes: tuple[str, ...] = ()
    points: int = 20
    visibility: str = "v80-100"


def write_crowd(root: Path, scenes: Sequence[Sequence[Sequence[Box]]]) -> NuScenes:
    """Write scenes of keyframes of boxes; the vehicle is turned and far from the origin."""
    rotation = yaw_quaternion(EGO_YAW_RAD)
    cloud = np.ones((1, 5), np.float32)
    with NuScenesWriter(root) as writer:
        writer.add_sensor("LIDAR_TOP", "lidar", (0.9, 0, 1.8), yaw_quaternion(-np.pi / 2))
        stamp_ns = STAMP_NS
        for number, keyframes in enumerate(scenes, start=1):
            writer.begin_scene(
                f"scene-{number:04d}", "crowd", logfile="log", location="here", date_captured="now"
            )
            for step, boxes in enumerate(keyframes):
                ego = 600.0 + 3 * step, 1600.0 + 50 * number, 0.0
                writer.begin_sample(stamp_ns)
                writer.add_frame("LIDAR_TOP", stamp_ns, cloud, ego, rotation)
                places = [(box.x, box.y, 1.0) for box in boxes]
                globals_ = transform_points(
                    rigid_transform(ego, rotation), np.reshape(places, (-1, 3))
                )
                for row, (box, place) in enumerate(zip(boxes, globals_, strict=True)):
                    writer.add_annotation(
                        f"{number}-{step}-{row}",
                        box.category,
                        box.attributes,
                        place.tolist(),
                        (1.8, 4.5, 1.6),
                        rotation,
                        num_lidar_pts=box.points,
                        visibility=box.visibility,
                    )
                stamp_ns += 500_000_000
            stamp_ns += 10_000_000_000
    return NuScenes.open(root)


def crowd(seed: int, keyframes: int, doubtful_share: float = 0.1) -> list[list[Box]]:
    """The keyframes of one scene: things that stand, and some that move through."""
    rng = random.Random(seed)
    tracks: list[tuple[Box, float, float]] = []
    for category, attributes, percent, most in CAST:
        if rng.random() * 100 >= percent:
            continue
        for _ in range(rng.randint(1, most)):
            radius, angle = 50 * math.sqrt(rng.random()), rng.uniform(-math.pi, math.pi)
            chosen = (rng.choice(attributes),) if attributes else ()
            moves = any("moving" in name or "with_rider" in name for name in chosen)
            speed = rng.uniform(-4, 4) if moves else 0.0
            box = Box(category, radius * math.cos(angle), radius * math.sin(angle), chosen)
            tracks.append((box, speed, rng.uniform(0, math.pi)))
    found: list[list[Box]] = []
    for step in range(keyframes):
        boxes: list[Box] = []
        for box, speed, course in tracks:
            x = box.x + step * speed * math.cos(course) - 1.5 * step
            y = box.y + step * speed * math.sin(course)
            # The street goes on: what is left behind comes again in front.
            x = (x + 52) % 104 - 52
            doubtful = rng.random() < doubtful_share
            points = rng.choice((0, 1, 3)) if doubtful else rng.randint(5, 200)
            level = rng.choice(VISIBILITY_LEVELS[:3]) if doubtful else VISIBILITY_LEVELS[3]
            boxes.append(Box(box.category, x, y, box.attributes, points, level))
        found.append(boxes)
    return found
