"""What a detector should find in a camera image: annotated boxes, drawn into it and sorted out.

Only boxes that a person would call plainly visible count. The others are kept beside them, so that
a detector that finds them all the same is not blamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..simulation.nuscenes.geometry import Float64, inverse_rigid
from ..simulation.nuscenes.reader import NuScenes
from ..simulation.nuscenes.records import Annotation, SampleData
from .image_boxes import areas, clipped, covered_share, projected_box

#: Every image is brought to this size first, so that data sets are compared at one resolution.
IMAGE_SIZE = (800, 450)

MIN_HEIGHT_PX = 25.0
MIN_INSIDE = 0.7
MAX_COVERED = 0.4
MIN_LIDAR_PTS = 1
PLAIN_VISIBILITY = (None, "v60-80", "v80-100")


@dataclass(frozen=True)
class Kind:
    """One row of the report.

    Attributes:
        categories: nuScenes categories of the boxes; a trailing dot stands for all below it.
        labels: COCO classes that are right for them.
    """

    categories: tuple[str, ...]
    labels: tuple[str, ...]

    def has(self, category: str) -> bool:
        """Whether a nuScenes category belongs to this kind."""
        return any(
            category.startswith(name) if name.endswith(".") else category == name
            for name in self.categories
        )


_CAR, _TRUCK, _BUS = "vehicle.car", "vehicle.truck", "vehicle.bus."

KINDS: Mapping[str, Kind] = {
    "car": Kind((_CAR,), ("car",)),
    "truck": Kind((_TRUCK,), ("truck",)),
    "bus": Kind((_BUS,), ("bus",)),
    "pedestrian": Kind(
        tuple(
            f"human.pedestrian.{who}"
            for who in ("adult", "child", "construction_worker", "police_officer")
        ),
        ("person",),
    ),
    "two_wheeler": Kind(("vehicle.bicycle", "vehicle.motorcycle"), ("bicycle", "motorcycle")),
    # Wider than the rows above: a van is a truck to some people, and a coach a truck from behind.
    "large_vehicle": Kind((_TRUCK, _BUS), ("truck", "bus")),
    "any_vehicle": Kind((_CAR, _TRUCK, _BUS), ("car", "truck", "bus")),
}


@dataclass(frozen=True)
class Target:
    """One annotated box as a camera sees it.

    Attributes:
        category: of nuScenes.
        box: the part inside the image, `x0, y0, x1, y1`, pixels of an image of `IMAGE_SIZE`.
        counts: whether it is plainly visible; a detection of another one is neither hit nor error.
    """

    category: str
    box: tuple[float, float, float, float]
    counts: bool

    @property
    def height_px(self) -> float:
        """Its height in pixels."""
        return self.box[3] - self.box[1]


def targets_of(
    drive: NuScenes, camera: SampleData, annotations: Sequence[Annotation]
) -> list[Target]:
    """The annotated boxes that reach into an image.

    A box counts if its height is at least 25 px, 70 % of it is inside the image, no more than 40 %
    of it lies behind the boxes of nearer things, a LiDAR point hit it, and its visibility, where
    the data set gives one, is 60 % or more.

    Args:
        drive: the data set.
        camera: the file record of the image.
        annotations: of its keyframe.

    Returns:
        Nearest first.
    """
    calibration = drive.calibration_of(camera)
    if calibration.intrinsic is None:
        return []
    width, height = IMAGE_SIZE
    camera_from_global = inverse_rigid(drive.ego_pose(camera) @ calibration.ego_from_sensor)
    scale = (width / camera.width, height / camera.height)
    seen: list[tuple[float, Annotation, Float64]] = []
    for annotation in annotations:
        projected = projected_box(
            annotation.translation,
            annotation.size_wlh,
            annotation.rotation,
            camera_from_global,
            calibration.intrinsic,
            # People do not fill the corners of their boxes, as vehicles nearly do.
            upright_ellipse=annotation.category.startswith("human."),
        )
        if projected is not None:
            box, depth = projected
            seen.append((depth, annotation, box * (*scale, *scale)))
    seen.sort(key=lambda item: item[0])
    targets: list[Target] = []
    for _, annotation, whole in seen:
        box = clipped(whole, width, height)
        (area,), (whole_area,) = areas(box), areas(whole)
        if area <= 0:
            continue
        counts = (
            box[3] - box[1] >= MIN_HEIGHT_PX
            and area >= MIN_INSIDE * whole_area
            and annotation.num_lidar_pts >= MIN_LIDAR_PTS
            and annotation.visibility in PLAIN_VISIBILITY
            and covered_share(box, [target.box for target in targets]) <= MAX_COVERED
        )
        x0, y0, x1, y1 = box.tolist()
        targets.append(Target(annotation.category, (x0, y0, x1, y1), bool(counts)))
    return targets
