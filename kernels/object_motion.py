"""Object tokens carried forward in time: where their objects would stand when they are used.

Tokens that are reused say where objects stood when the frame was taken. Since then the vehicle has
moved, and so have they. Both are known: the one from poses, the other from what tokens say of
velocities. Numbers only; how old tokens are and where the vehicle was is told by the caller.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .object_tokens import (
    AZIMUTH_HARMONICS,
    HEIGHT_SCALE_M,
    OBJECT_CLASSES,
    OBJECT_STATUSES,
    POSITION_SCALE_M,
    SPEED_SCALE_MPS,
    TOKEN_WIDTH,
    WAVELENGTHS_M,
    ObjectParts,
    rows_of,
)

Float = NDArray[np.float32]

_SCORE = len(OBJECT_CLASSES)
_STATUSES = _SCORE + 1
_CENTER = _STATUSES + len(OBJECT_STATUSES)
_SIZE = _CENTER + 4 + 2 * len(AZIMUTH_HARMONICS) + 4 * len(WAVELENGTHS_M)
_HEADING = _SIZE + 3
_VELOCITY = _HEADING + 2
_KNOWN = _VELOCITY + 3
_PRESENT = _KNOWN + 1


def parts_of_rows(tokens: Float) -> ObjectParts:
    """What token rows were made of, the inverse of `object_tokens.rows_of`.

    Args:
        tokens: `[n, 64]`, rows with an object.
    """
    scale = np.array([POSITION_SCALE_M, POSITION_SCALE_M, HEIGHT_SCALE_M], np.float32)
    return ObjectParts(
        classes=tokens[:, :_SCORE],
        score=tokens[:, _SCORE],
        statuses=tokens[:, _STATUSES:_CENTER],
        center=tokens[:, _CENTER : _CENTER + 3] * scale,
        size=np.exp(tokens[:, _SIZE:_HEADING]),
        heading=tokens[:, _HEADING:_VELOCITY],
        velocity=tokens[:, _VELOCITY : _VELOCITY + 2] * np.float32(SPEED_SCALE_MPS),
        velocity_known=tokens[:, _KNOWN],
    )


def moved_tokens(tokens: Float, seconds: float, motion: NDArray[np.floating]) -> Float:
    """Tokens as they would be some time later, seen from where the vehicle then is.

    Objects keep their velocity; one whose velocity is unknown stays where it is in the world.

    Args:
        tokens: float32 `[n, 64]`; rows of zeros stay zeros.
        seconds: that have passed.
        motion: `[4, 4]`, ego frame of now from ego frame of then, metres.

    Returns:
        float32 `[n, 64]`, rows in the same order.

    Raises:
        ValueError: another width, or a motion of another shape.
    """
    if tokens.ndim != 2 or tokens.shape[1] != TOKEN_WIDTH:
        raise ValueError(f"tokens are {tokens.shape}, expected [n, {TOKEN_WIDTH}]")
    if motion.shape != (4, 4):
        raise ValueError(f"the motion is {motion.shape}, expected [4, 4]")
    filled = tokens[:, _PRESENT] > 0
    result = np.zeros(tokens.shape, np.float32)
    if not filled.any():
        return result
    parts = parts_of_rows(tokens[filled])
    rotation, offset = motion[:3, :3].astype(np.float32), motion[:3, 3].astype(np.float32)
    center = parts.center.copy()
    center[:, :2] += parts.velocity * (parts.velocity_known[:, None] * np.float32(seconds))
    # Vehicles stand on the ground: headings and velocities turn about the vertical alone.
    yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cosine, -sine], [sine, cosine]], np.float32)
    sin_of, cos_of = parts.heading.T
    result[filled] = rows_of(
        ObjectParts(
            classes=parts.classes,
            score=parts.score,
            statuses=parts.statuses,
            center=center @ rotation.T + offset,
            size=parts.size,
            heading=np.stack(
                [sin_of * cosine + cos_of * sine, cos_of * cosine - sin_of * sine], axis=-1
            ),
            velocity=parts.velocity @ turn.T,
            velocity_known=parts.velocity_known,
        )
    )
    return result
