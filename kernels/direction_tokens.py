"""Direction tokens: six rows, each saying what a sensor notices in one sixth of the surroundings.

For sensors that hardly tell single things apart (radar, sound), and for detectors whose objects
shall count by direction. A row is there also where nothing is: that nobody is to the front left
is knowledge too, and what puts several sensors together needs it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .object_tokens import (
    OBJECT_CLASSES,
    OBJECT_STATUSES,
    SECTOR_MIDDLES_DEG,
    SPEED_SCALE_MPS,
    sectors_of,
)

Float = NDArray[np.float32]

#: Rows, in the order of `SECTOR_MIDDLES_DEG`, and their width.
DIRECTIONS = len(SECTOR_MIDDLES_DEG)
DIRECTION_WIDTH = 64
#: By direction, the one that it is in a mirror.
MIRRORED = tuple(
    SECTOR_MIDDLES_DEG.index(middle if middle == 180 else -middle) for middle in SECTOR_MIDDLES_DEG
)
#: Columns behind the content: 1 where the row is there, then 1 at its direction.
PRESENCE = DIRECTION_WIDTH - DIRECTIONS - 1

#: Of radar returns: position (metres, ego frame), speed away over ground (m/s), cross-section (dB
#: over a square metre).
RADAR_COLUMNS = ("x", "y", "radial_mps", "rcs_dbsm")
#: Returns are counted by distance, the last ring has no end.
RING_M, RINGS = 10.0, 8
#: What has less speed along the beam stands, as far as a radar can tell.
MOVING_MPS = 0.5
_WEAKEST_DBSM, _RCS_SPAN_DB = -20.0, 40.0

#: Of sound: levels by moment, microphone and octave band. Microphones look to the middles of the
#: directions, counter-clockwise from the front.
MICROPHONES, BANDS = DIRECTIONS, 8
_MIDDLE_DB, _LEVEL_SPAN_DB, _DIFFERENCE_SPAN_DB = 55.0, 20.0, 5.0

_CLASSES = len(OBJECT_CLASSES)
_SCORE = _CLASSES
_STATUSES = slice(_SCORE + 1, _SCORE + 1 + len(OBJECT_STATUSES))
_MOVING = [OBJECT_STATUSES.index(status) for status in ("moving", "with rider")]
_REACH, _SPEED, _THERE, _SECTORS = 21, 53, 55, slice(56, 62)
_NEAR = 0.2


def object_directions(rows: Float, seen: NDArray[np.bool_]) -> Float:
    """What object tokens say by direction.

    Args:
        rows: float32 `[n, 64]`, see `object_tokens.rows_of`; rows of zeros are no objects.
        seen: bool `[6]`, directions that the sensor looks to; the others have no row.

    Returns:
        float32 `[6, 64]`: by class the best score, the best score of one that moves, how near the
        nearest one is (1 at no distance, half at ten metres), and the logarithm of one more than
        the sum of scores; then presence and direction.
    """
    found = rows[rows[:, _THERE] > 0]
    score = found[:, _SCORE]
    moves = np.maximum(
        found[:, _STATUSES][:, _MOVING].max(axis=1, initial=0.0),
        np.minimum(found[:, _SPEED] * np.float32(SPEED_SCALE_MPS), 1.0),
    )
    near = 1 / (1 + found[:, _REACH] / np.float32(_NEAR))
    # [direction, class, object]: which objects count where.
    counts = found[:, _SECTORS].T[:, None, :] * found[:, :_CLASSES].T[None]
    content = np.concatenate(
        [
            (counts * score).max(axis=2, initial=0.0),
            (counts * score * moves).max(axis=2, initial=0.0),
            (counts * score * near).max(axis=2, initial=0.0),
            np.log1p((counts * score).sum(axis=2)),
        ],
        axis=1,
    )
    return _rows(content, seen)


def radar_directions(returns: NDArray[np.floating]) -> Float:
    """What radar returns say by direction.

    Args:
        returns: `[n, 4]` in `RADAR_COLUMNS`, ego frame; may be empty.

    Returns:
        float32 `[6, 64]`: by ring of distance the logarithm of one more than the returns that
        move, the strongest of them, the fastest, and the first two for those that stand; then
        presence and direction.

    Raises:
        ValueError: another shape, or a value that is not finite.
    """
    if returns.ndim != 2 or returns.shape[1] != len(RADAR_COLUMNS):
        raise ValueError(f"radar returns are [n, {len(RADAR_COLUMNS)}], got {list(returns.shape)}")
    _check_finite(returns, "radar returns")
    x, y, radial, rcs = returns.astype(np.float32).T
    ring = np.minimum(np.hypot(x, y) / RING_M, RINGS - 1).astype(np.int64)
    strength = np.clip((rcs - _WEAKEST_DBSM) / _RCS_SPAN_DB, 0, None)
    speed = np.abs(radial) / np.float32(SPEED_SCALE_MPS)
    is_moving = np.abs(radial) >= MOVING_MPS
    # [direction, ring, return]: which returns count where.
    there = (
        np.stack(sectors_of(np.arctan2(y, x)))[:, None] * np.eye(RINGS, dtype=np.float32)[ring].T
    )
    moving, standing = there * is_moving, there * ~is_moving
    content = np.concatenate(
        [
            np.log1p(moving.sum(axis=2)),
            (moving * strength).max(axis=2, initial=0.0),
            (moving * speed).max(axis=2, initial=0.0),
            np.log1p(standing.sum(axis=2)),
            (standing * strength).max(axis=2, initial=0.0),
        ],
        axis=1,
    )
    return _rows(content, np.ones(DIRECTIONS, np.bool_))


def sound_directions(levels: NDArray[np.floating]) -> Float:
    """What microphones around the vehicle hear by direction.

    Args:
        levels: `[moments, 6, 8]`, dB over 20 uPa, see `MICROPHONES`.

    Returns:
        float32 `[6, 64]`: by microphone, counted from the one that looks there, how far each band
        is above its mean over all of them; that mean by band; then presence and direction.

    Raises:
        ValueError: another shape, or a value that is not finite.
    """
    if levels.ndim != 3 or levels.shape[1:] != (MICROPHONES, BANDS) or not len(levels):
        raise ValueError(
            f"sound levels are [moments, {MICROPHONES}, {BANDS}], got {list(levels.shape)}"
        )
    _check_finite(levels, "sound levels")
    heard = levels.mean(axis=0, dtype=np.float64)
    mean = heard.mean(axis=0)
    above = (heard - mean) / _DIFFERENCE_SPAN_DB
    looks = [round(middle % 360 / 60) for middle in SECTOR_MIDDLES_DEG]
    content = np.stack([np.roll(above, -look, axis=0).ravel() for look in looks])
    loudness = np.broadcast_to((mean - _MIDDLE_DB) / _LEVEL_SPAN_DB, (DIRECTIONS, BANDS))
    return _rows(np.concatenate([content, loudness], axis=1), np.ones(DIRECTIONS, np.bool_))


def turned_directions(rows: Float, sixths: int) -> Float:
    """Rows `[..., 6, 64]` as if all had turned counter-clockwise by so many times 60 degrees.

    What a row says stays, the direction that it says it of moves on; rows keep their places.
    """
    turned = rows.copy()
    there = slice(PRESENCE + 1, None)
    turned[..., there] = np.roll(rows[..., there], sixths, axis=-1)
    return turned


def mirrored_directions(rows: Float, *, sound: bool = False) -> Float:
    """Rows `[..., 6, 64]` as if left and right had changed places; rows keep their places.

    Args:
        rows: direction tokens.
        sound: whether they are of sound, whose rows tell microphones to both sides apart.
    """
    mirrored = rows.copy()
    mirrored[..., PRESENCE + 1 :] = rows[..., PRESENCE + 1 :][..., list(MIRRORED)]
    if sound:
        heard = slice(0, MICROPHONES * BANDS)
        by_side = rows[..., heard].reshape(*rows.shape[:-1], MICROPHONES, BANDS)
        around = by_side[..., [-side % MICROPHONES for side in range(MICROPHONES)], :]
        mirrored[..., heard] = around.reshape(mirrored[..., heard].shape)
    return mirrored


def _rows(content: NDArray[np.floating], seen: NDArray[np.bool_]) -> Float:
    """Content with presence and direction behind it; rows that are not seen are 0."""
    rows = np.zeros((DIRECTIONS, DIRECTION_WIDTH), np.float32)
    rows[:, : content.shape[1]] = content
    rows[:, PRESENCE] = 1
    rows[:, PRESENCE + 1 :] = np.eye(DIRECTIONS)
    return rows * seen[:, None]


def _check_finite(values: NDArray[np.floating], what: str) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{what} must be finite, one is not")
