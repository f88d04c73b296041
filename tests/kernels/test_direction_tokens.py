"""Direction tokens against counting by hand, and what turning the surroundings does to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.kernels.direction_tokens import (
    DIRECTION_WIDTH,
    DIRECTIONS,
    PRESENCE,
    RINGS,
    mirrored_directions,
    object_directions,
    radar_directions,
    sound_directions,
    turned_directions,
)
from tailwire.kernels.object_tokens import (
    OBJECT_CLASSES,
    OBJECT_STATUSES,
    SECTOR_MIDDLES_DEG,
    object_tokens,
)

Float = NDArray[np.float32]
EVERYWHERE = np.ones(DIRECTIONS, np.bool_)


def sector(x: float, y: float) -> int:
    """The direction whose middle is nearest, by angles alone."""
    azimuth = math.degrees(math.atan2(y, x))
    apart = [abs((azimuth - middle + 180) % 360 - 180) for middle in SECTOR_MIDDLES_DEG]
    return apart.index(min(apart))


def some_objects(seed: int, count: int = 12) -> Float:
    rng = np.random.default_rng(seed)
    objects = np.zeros((count, 12), np.float32)
    objects[:, 0] = rng.integers(len(OBJECT_CLASSES), size=count)
    objects[:, 1] = rng.uniform(0.4, 1, count)
    objects[:, 2:4] = rng.uniform(-40, 40, (count, 2))
    objects[:, 5:8] = 2
    objects[:, 9:11] = rng.uniform(-3, 3, (count, 2))
    objects[:, 11] = rng.integers(-1, len(OBJECT_STATUSES), count)
    return objects


def some_returns(seed: int, count: int = 40) -> Float:
    rng = np.random.default_rng(seed)
    columns = (
        rng.uniform(-90, 90, count),
        rng.uniform(-90, 90, count),
        np.where(rng.random(count) < 0.5, 0.1, rng.uniform(-12, 12, count)),
        rng.uniform(-10, 25, count),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def test_objects_are_summed_up_where_they_are() -> None:
    objects = some_objects(0)
    rows = object_directions(object_tokens(objects, 16), EVERYWHERE)
    assert rows.shape == (DIRECTIONS, DIRECTION_WIDTH) and rows.dtype == np.float32
    wanted = np.zeros((DIRECTIONS, 4, len(OBJECT_CLASSES)))
    for row in objects:
        kind, score, x, y = int(row[0]), float(row[1]), float(row[2]), float(row[3])
        status = OBJECT_STATUSES[int(row[11])] if row[11] >= 0 else ""
        moves = 1.0 if status in ("moving", "with rider") else min(1.0, math.hypot(*row[9:11]))
        near = 1 / (1 + math.hypot(x, y) / 10)
        place = wanted[sector(x, y)]
        for part, value in enumerate((score, score * moves, score * near)):
            place[part, kind] = max(place[part, kind], value)
        place[3, kind] += score
    wanted[:, 3] = np.log1p(wanted[:, 3])
    content = rows[:, : 4 * len(OBJECT_CLASSES)]
    np.testing.assert_allclose(content, wanted.reshape(DIRECTIONS, -1), atol=1e-5)


def test_where_nothing_is_there_is_a_row_and_where_nobody_looks_there_is_none() -> None:
    seen = np.array([True, False, True, True, False, True])
    rows = object_directions(np.zeros((16, 64), np.float32), seen)
    np.testing.assert_array_equal(rows.any(axis=1), seen)
    np.testing.assert_array_equal(rows[seen, PRESENCE], 1)
    np.testing.assert_array_equal(rows[:, PRESENCE + 1 :], np.eye(DIRECTIONS) * seen[:, None])


def test_radar_returns_are_counted_by_direction_and_distance() -> None:
    returns = some_returns(1)
    wanted = np.zeros((DIRECTIONS, 5, RINGS))
    for x, y, radial, rcs in returns.tolist():
        place = wanted[sector(x, y), :, min(int(math.hypot(x, y) / 10), RINGS - 1)]
        strength = max(0.0, (rcs + 20) / 40)
        first, second = (0, 1) if abs(radial) >= 0.5 else (3, 4)
        place[first] += 1
        place[second] = max(place[second], strength)
        if first == 0:
            place[2] = max(place[2], abs(radial) / 10)
    wanted[:, [0, 3]] = np.log1p(wanted[:, [0, 3]])
    rows = radar_directions(returns)
    np.testing.assert_allclose(
        rows[:, : 5 * RINGS], wanted.reshape(DIRECTIONS, -1), rtol=1e-5, atol=1e-6
    )


def test_the_order_of_returns_does_not_matter_and_none_is_silence() -> None:
    returns = some_returns(2)
    np.testing.assert_allclose(radar_directions(returns), radar_directions(returns[::-1]))
    nothing = radar_directions(np.zeros((0, 4), np.float32))
    assert not nothing[:, :PRESENCE].any() and (nothing[:, PRESENCE] == 1).all()


def test_a_turn_by_sixty_degrees_moves_rows_on() -> None:
    returns = some_returns(3)
    turn = math.radians(60)
    turned = returns.copy()
    turned[:, 0] = returns[:, 0] * math.cos(turn) - returns[:, 1] * math.sin(turn)
    turned[:, 1] = returns[:, 0] * math.sin(turn) + returns[:, 1] * math.cos(turn)
    # Counter-clockwise, as the rows go.
    np.testing.assert_allclose(
        np.roll(radar_directions(returns)[:, :PRESENCE], 1, axis=0),
        radar_directions(turned)[:, :PRESENCE],
        atol=1e-5,
    )
    levels = np.random.default_rng(4).uniform(40, 80, (8, 6, 8)).astype(np.float32)
    np.testing.assert_allclose(
        np.roll(sound_directions(levels)[:, :PRESENCE], 1, axis=0),
        sound_directions(np.roll(levels, 1, axis=1))[:, :PRESENCE],
        atol=1e-5,
    )


def test_the_loudest_microphone_is_the_first_of_its_own_row() -> None:
    levels = np.full((4, 6, 8), 50, np.float32)
    levels[:, 1] += 12  # 60 degrees to the left of the front.
    rows = sound_directions(levels)
    above = rows[:, :48].reshape(DIRECTIONS, 6, 8)
    own = SECTOR_MIDDLES_DEG.index(60.0)
    np.testing.assert_allclose(above[own, 0], 10 / 5)
    np.testing.assert_allclose(above[own, 1:], -2 / 5)
    # From the front, the loud one is the next to the left.
    np.testing.assert_allclose(above[SECTOR_MIDDLES_DEG.index(0.0), 1], 10 / 5)
    np.testing.assert_allclose(rows[:, 48:56], (52 - 55) / 20)


def by_direction(rows: Float) -> Float:
    """Rows in the order of the directions that they say they are of."""
    return rows[np.argsort(rows[:, PRESENCE + 1 :].argmax(axis=1))]


def test_turned_and_mirrored_rows_are_those_of_turned_and_mirrored_surroundings() -> None:
    returns = some_returns(5)
    levels = np.random.default_rng(6).uniform(40, 80, (8, 6, 8)).astype(np.float32)
    mirror = returns * np.array([1, -1, 1, 1], np.float32)
    np.testing.assert_allclose(
        by_direction(mirrored_directions(radar_directions(returns))), radar_directions(mirror)
    )
    # Microphones at 0, 60, ... 300 degrees.
    np.testing.assert_allclose(
        by_direction(mirrored_directions(sound_directions(levels), sound=True)),
        sound_directions(levels[:, [0, 5, 4, 3, 2, 1]]),
        atol=1e-6,
    )
    for sixths in (1, 4):
        np.testing.assert_allclose(
            by_direction(turned_directions(sound_directions(levels), sixths)),
            sound_directions(np.roll(levels, sixths, axis=1)),
            atol=1e-6,
        )


@pytest.mark.parametrize("shape", [(3,), (3, 5), (0, 3)])
def test_other_shapes_of_returns_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="radar returns are"):
        radar_directions(np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(6, 8), (0, 6, 8), (8, 5, 8), (8, 6, 7)])
def test_other_shapes_of_levels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sound levels are"):
        sound_directions(np.zeros(shape, np.float32))


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        radar_directions(np.array([[1, 2, math.nan, 3]], np.float32))
    with pytest.raises(ValueError, match="finite"):
        sound_directions(np.full((1, 6, 8), math.inf, np.float32))
