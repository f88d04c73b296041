"""What the reader hands out: typed, immutable records with our own sensor names and nanoseconds.

Tokens stay the strings of the tables, so a record can be looked up in the data set it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...runtime.frames import Modality, SensorFrame


class RigidNumbers(NamedTuple):
    """A pose as its table writes it, so that it can be written elsewhere bit for bit.

    Attributes:
        translation: x y z, metres.
        rotation: w x y z, as written, so perhaps not quite of length one.
    """

    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Scene:
    """One recorded drive of about twenty seconds.

    Attributes:
        token: its token.
        name: e.g. `scene-0061`.
        description: free text of the annotators.
        num_samples: how many keyframes belong to it.
    """

    token: str
    name: str
    description: str
    num_samples: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One keyframe: the moment at which every sensor has a frame and the boxes are annotated.

    Attributes:
        token: its token.
        scene_token: the scene it belongs to.
        stamp_ns: nanoseconds since the epoch.
    """

    token: str
    scene_token: str
    stamp_ns: int


@dataclass(frozen=True, slots=True)
class SampleData:
    """One file of one sensor, a keyframe or a sweep; the file itself is not read yet.

    Attributes:
        token: its token.
        sample_token: the keyframe it belongs to, or lies nearest to.
        sensor: our sensor name, e.g. `cam_front`.
        modality: `camera` or `lidar`.
        stamp_ns: nanoseconds since the epoch.
        is_key_frame: False for a sweep.
        filename: relative to the dataroot, never outside it.
        width: image width in pixels, 0 for a LiDAR.
        height: image height in pixels, 0 for a LiDAR.
    """

    token: str
    sample_token: str
    sensor: str
    modality: Modality
    stamp_ns: int
    is_key_frame: bool
    filename: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated box of one keyframe, in the global frame.

    Attributes:
        token: its token.
        sample_token: the keyframe.
        instance_token: the same for one object over its whole track.
        category: e.g. `vehicle.car`.
        attributes: e.g. `("vehicle.moving",)`.
        translation: the centre x y z, metres.
        size_wlh: width, length, height, metres.
        rotation: w x y z.
        num_lidar_pts: LiDAR points in the box.
        num_radar_pts: radar points in the box.
        visibility: the level, e.g. `v80-100`; None where the data set gives none.
    """

    token: str
    sample_token: str
    instance_token: str
    category: str
    attributes: tuple[str, ...]
    translation: tuple[float, float, float]
    size_wlh: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    num_lidar_pts: int
    num_radar_pts: int
    visibility: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Where a sensor sits on the vehicle, and how a camera projects.

    Attributes:
        ego_from_sensor: float64 `[4, 4]`, metres, read-only.
        intrinsic: float64 `[3, 3]`, pixels, read-only; None for a LiDAR.
    """

    ego_from_sensor: NDArray[np.float64]
    intrinsic: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The frames of one keyframe that could be read, and why the others could not.

    Attributes:
        frames: sensor name to frame.
        dropped: sensor name to the reason, a whole error message.
    """

    frames: Mapping[str, SensorFrame]
    dropped: Mapping[str, str]
