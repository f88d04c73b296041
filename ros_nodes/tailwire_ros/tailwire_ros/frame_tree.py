"""Where sensors are: `/tf`, `/tf_static` and camera calibrations, remembered for a while.

Does in a node what `simulation.bags` does for a whole bag, with the same tree of frames.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailwire.runtime.errors import SensorError
from tailwire.runtime.frames import SensorGeometry
from tailwire.simulation.bags.transforms import Transforms

#: Motion between two frames of a sensor is asked about, and frames are younger than this.
REMEMBERED_NS = 10_000_000_000


class FrameTree:
    """The transforms of the vehicle and its sensors, and how its cameras project."""

    def __init__(self, base_frame: str) -> None:
        """Know nothing yet.

        Args:
            base_frame: of the vehicle, e.g. `base_link`.
        """
        self._base_frame = base_frame
        self._lock = threading.Lock()
        self._transforms = Transforms(base_frame)
        self._cameras: dict[str, tuple[NDArray[np.float64], tuple[int, int]]] = {}
        #: Transforms, calibrations and poses that could not be used.
        self.unusable = 0

    def add_transforms(self, message: Any, *, static: bool) -> None:
        """Take in a `tf2_msgs/TFMessage`."""
        with self._lock:
            self.unusable += self._transforms.add(message, static)
            self._transforms.forget_before_newest(REMEMBERED_NS)

    def add_camera(self, sensor: str, message: Any) -> None:
        """Take in a `sensor_msgs/CameraInfo`; one of a camera that is not calibrated is left out.

        The matrix of the whole picture is meant: binning and regions of interest are not read.
        """
        matrix = np.array(message.k, np.float64).reshape(3, 3)
        size = (int(message.width), int(message.height))
        known = self._cameras.get(sensor)
        # It comes with every picture and hardly ever changes.
        if known is not None and known[1] == size and np.array_equal(known[0], matrix):
            return
        try:
            SensorGeometry(np.eye(4), matrix, size)
        except SensorError:
            with self._lock:
                self.unusable += 1
            return
        with self._lock:
            self._cameras[sensor] = (matrix, size)

    def forget_motion(self) -> None:
        """Drop where the vehicle was, when time jumps back; how sensors are mounted stays."""
        with self._lock:
            self._transforms.forget_motion()

    def geometry(self, sensor: str, frame_id: str, stamp_ns: int) -> SensorGeometry | None:
        """As far as the transforms tell of it; None where nobody knows how it is mounted.

        Args:
            sensor: name of it.
            frame_id: of its messages.
            stamp_ns: of the message.
        """
        with self._lock:
            mounted = self._transforms.to_ancestor(frame_id.lstrip("/"), stamp_ns, self._base_frame)
            if mounted is None:
                mounted = self._transforms.to_base(frame_id.lstrip("/"), stamp_ns)
            if mounted is None:
                return None
            matrix, size = self._cameras.get(sensor, (None, None))
            return SensorGeometry(mounted, matrix, size, self._transforms.odometry(stamp_ns))
