"""Tokens of earlier frames, brought to where the vehicle is now.

Reused tokens say where objects stood when their frame was taken. Where the vehicle was then and is
now is known from the poses of frames, how objects move from the tokens (`kernels.object_motion`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..kernels.object_motion import moved_tokens
from .encoder_specs import EncoderSpec
from .frames import SensorFrame, SensorGeometry

Float = NDArray[np.float32]
Float64 = NDArray[np.float64]

#: Tokens that are younger stay as they are: little moves in so short a time, and what was made of
#: them need not be made again.
CARRIED_FROM_MS = 100.0


@dataclass(frozen=True)
class Standpoint:
    """Where the vehicle is, and when; two of one moment are equal.

    Attributes:
        stamp_ns: of the newest frame that says where the vehicle was.
        global_from_ego: float64 `[4, 4]`, metres, as in `SensorGeometry`.
    """

    stamp_ns: int
    global_from_ego: Float64 = field(compare=False)

    @staticmethod
    def of(frames: Iterable[SensorFrame]) -> Standpoint | None:
        """That of the newest frame with a pose; None where no frame has one.

        Args:
            frames: held ones, of all sensors.
        """
        found: Standpoint | None = None
        for frame in frames:
            pose = None if frame.geometry is None else frame.geometry.global_from_ego
            if pose is not None and (found is None or frame.stamp_ns > found.stamp_ns):
                found = Standpoint(frame.stamp_ns, pose)
        return found

    def carries(self, spec: EncoderSpec, stamp_ns: int, geometry: SensorGeometry | None) -> bool:
        """Whether tokens are carried forward to here.

        Args:
            spec: of the encoder that made them; only those that give objects have any to move.
            stamp_ns: of their frame.
            geometry: of their frame; without a pose they stay as they are.
        """
        return (
            spec.gives_objects
            and geometry is not None
            and geometry.global_from_ego is not None
            and self.stamp_ns - stamp_ns > CARRIED_FROM_MS * 1e6
        )

    def carry(self, tokens: Float, stamp_ns: int, geometry: SensorGeometry) -> Float:
        """Tokens for which `carries` holds, as they would be here and now.

        Args:
            tokens: float32 `[n, 64]`, in the ego frame of their moment.
            stamp_ns: of their frame.
            geometry: of their frame, with a pose.
        """
        assert geometry.global_from_ego is not None
        motion = np.linalg.inv(self.global_from_ego) @ geometry.global_from_ego
        # Those that lie on a device are read: few are, and only of sensors that are reused.
        return moved_tokens(np.asarray(tokens), (self.stamp_ns - stamp_ns) / 1e9, motion)
