"""Object tokens against what they say: geometry by hand, relations by those of the questions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.kernels.object_tokens import (
    OBJECT_CLASSES,
    OBJECT_COLUMNS,
    OBJECT_STATUSES,
    TOKEN_WIDTH,
    mirrored_rows,
    nearest_first,
    object_tokens,
)
from tailwire.simulation.questions.scene_graph import CLASS_STATUSES, direction_of

Float = NDArray[np.float32]
SECTORS = ("back", "back right", "front right", "front", "front left", "back left")


def some(count: int, seed: int = 0) -> Float:
    rng = np.random.default_rng(seed)
    objects = np.zeros((count, len(OBJECT_COLUMNS)), np.float32)
    objects[:, 0] = rng.integers(len(OBJECT_CLASSES), size=count)
    objects[:, 1] = rng.uniform(0, 1, count)
    objects[:, 2:4] = rng.uniform(-50, 50, (count, 2))
    objects[:, 4] = rng.uniform(-1, 3, count)
    objects[:, 5:8] = rng.uniform(0.3, 10, (count, 3))
    objects[:, 8] = rng.uniform(-4, 4, count)
    objects[:, 9:11] = rng.uniform(-9, 9, (count, 2))
    objects[:, 11] = rng.integers(-1, len(OBJECT_STATUSES), size=count)
    return objects


def test_the_vocabulary_is_that_of_the_questions() -> None:
    assert set(OBJECT_CLASSES) == set(CLASS_STATUSES)
    assert set(OBJECT_STATUSES) == {s for found in CLASS_STATUSES.values() for s in found}


def test_a_token_says_what_stands_where() -> None:
    objects = some(20)
    tokens = object_tokens(objects, 20)
    for row, one in zip(tokens, objects[nearest_first(objects)], strict=True):
        name, score, x, y, z, length, width, height, yaw, vx, vy, status = map(float, one)
        assert row[:10].argmax() == name
        assert row[:10].sum() == 1
        assert row[10] == pytest.approx(score)
        assert row[11:18].sum() == (status >= 0)
        assert status < 0 or row[11:18].argmax() == status
        reach, angle = math.hypot(x, y), math.atan2(y, x)
        assert row[18:22] == pytest.approx([x / 50, y / 50, z / 5, reach / 50], abs=1e-5)
        turns = [f(k * angle) for k in (1, 2, 3, 4) for f in (math.sin, math.cos)]
        assert row[22:30] == pytest.approx(turns, abs=1e-4)
        waves = [
            f(2 * math.pi * v / wave)
            for wave in (100, 50, 25, 12.5)
            for v in (x, y)
            for f in (math.sin, math.cos)
        ]
        assert row[30:46] == pytest.approx(waves, abs=1e-4)
        sizes = [math.log(side) for side in (length, width, height)]
        assert row[46:49] == pytest.approx(sizes, abs=1e-5)
        assert row[49:51] == pytest.approx([math.sin(yaw), math.cos(yaw)], abs=1e-5)
        speed = math.hypot(vx, vy)
        assert row[51:56] == pytest.approx([vx / 10, vy / 10, speed / 10, 1, 1], abs=1e-5)
        assert SECTORS[int(row[56:62].argmax())] == direction_of((x, y))
        assert row[56:62].sum() == 1


def test_the_nearest_come_first_and_the_rest_is_left_out() -> None:
    objects = some(30)
    reach = object_tokens(objects, 12)[:, 21]
    expected = np.sort(np.hypot(objects[:, 2], objects[:, 3]))[:12] / 50
    np.testing.assert_allclose(reach, expected, rtol=1e-5)


def test_rows_behind_the_last_object_are_zero() -> None:
    tokens = object_tokens(some(2), 5)
    assert tokens.shape == (5, TOKEN_WIDTH)
    assert not tokens[2:].any()
    assert not object_tokens(some(0), 3).any()


def test_an_unknown_velocity_is_none() -> None:
    objects = some(1)
    objects[0, 9:11] = np.nan
    token = object_tokens(objects, 1)[0]
    assert not token[51:55].any()


def test_the_order_of_the_list_does_not_matter() -> None:
    objects = some(10)
    np.testing.assert_array_equal(object_tokens(objects, 10), object_tokens(objects[::-1], 10))


@pytest.mark.parametrize(
    ("column", "value"),
    [("class", 10), ("class", 0.5), ("status", 7), ("score", 1.5), ("x", np.nan), ("vx", np.inf)],
)
def test_a_wrong_value_is_refused_by_name(column: str, value: float) -> None:
    objects = some(3)
    objects[1, OBJECT_COLUMNS.index(column)] = value
    with pytest.raises(ValueError, match=f"{column} of object 1"):
        object_tokens(objects, 3)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="float32"):
        object_tokens(np.zeros((2, 5), np.float32), 3)
    with pytest.raises(ValueError, match="0 tokens"):
        object_tokens(some(1), 0)


def test_mirrored_tokens_are_those_of_mirrored_objects() -> None:
    objects = some(40)
    other = objects.copy()
    other[:, [3, 8, 10]] *= -1  # y, yaw, vy
    columns, signs = mirrored_rows()
    mirrored = object_tokens(objects, 40)[..., columns] * signs
    np.testing.assert_allclose(mirrored, object_tokens(other, 40), atol=1e-5)
    assert np.abs(mirrored - object_tokens(objects, 40)).max() > 0.5
