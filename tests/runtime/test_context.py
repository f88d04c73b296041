"""Light, weather, health and motion from synthetic frames; one odd frame changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from tailwire.runtime.context import (
    LIGHTS,
    WEATHERS,
    Context,
    ContextEstimator,
    SensorHealth,
)
from tailwire.runtime.errors import ConfigError
from tailwire.runtime.frames import SensorFrame, SensorGeometry
from tailwire.simulation.questions.conditions import CONDITIONS

from .test_frame_statistics import ring_cloud, with_scatter

_SEEDS = itertools.count()
HALF_SECOND_NS = 500_000_000


def picture(brightness: float, contrast: float, colour: float) -> np.ndarray:
    """Of these numbers, and never twice the same."""
    rng = np.random.default_rng(next(_SEEDS))
    grey = rng.normal(brightness, contrast, (90, 160, 1))
    tint = np.array([colour / 2, 0, -colour / 2])
    return np.clip(grey + tint, 0, 255).astype(np.uint8)


def day() -> np.ndarray:
    return picture(114, 46, 15)


def night() -> np.ndarray:
    return picture(35, 20, 9)


def camera(stamp_ns: int, image: object, name: str = "cam") -> dict[str, SensorFrame]:
    return {name: SensorFrame(name, "camera", stamp_ns, name, image)}  # type: ignore[arg-type]


def lidar(stamp_ns: int, share: float = 0.0) -> dict[str, SensorFrame]:
    seed = next(_SEEDS)
    cloud = with_scatter(ring_cloud(seed=seed), share, seed)
    return {"lidar": SensorFrame("lidar", "lidar", stamp_ns, "lidar", cloud)}


def followed(estimator: ContextEstimator, frames: list[dict[str, SensorFrame]]) -> list[Context]:
    return [estimator.update(each) for each in frames]


def test_nothing_seen_is_a_guess() -> None:
    context = ContextEstimator().update({})
    assert context == Context()
    assert (context.condition, context.light_confidence) == ("day", 0.5)
    assert context.weather_confidence == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("image", "condition"),
    [
        (picture(114, 46, 15), "day"),
        (picture(36, 21, 9), "night"),
        (picture(104, 34, 5), "rain"),
        (picture(158, 25, 3), "fog"),
    ],
)
def test_a_camera_alone(image: np.ndarray, condition: str) -> None:
    context = ContextEstimator().update(camera(0, image))
    assert context.condition == condition
    assert context.light_confidence > 0.9
    assert context.health == {"cam": SensorHealth(True)}


@pytest.mark.parametrize(("share", "weather"), [(0.0, "clear"), (0.008, "rain"), (0.05, "fog")])
def test_a_lidar_alone_knows_the_weather_and_not_the_light(share: float, weather: str) -> None:
    context = ContextEstimator().update(lidar(0, share))
    assert context.weather == weather
    assert context.weather_confidence > 0.8
    assert context.light_confidence == 0.5


def test_where_they_disagree_the_lidar_wins() -> None:
    foggy_picture = camera(0, picture(158, 25, 3))
    assert ContextEstimator().update(foggy_picture | lidar(0)).weather == "clear"


def test_by_night_the_camera_does_not_tell_the_weather() -> None:
    context = ContextEstimator().update(camera(0, night()))
    assert context.weather == "clear"
    assert context.weather_confidence < 0.5
    assert ContextEstimator().update(camera(0, night()) | lidar(0, 0.05)).weather == "fog"


def test_darkness_comes_before_weather() -> None:
    assert Context(light="night", weather="fog").condition == "night"
    assert [Context(weather=name).condition for name in ("clear", "rain", "fog")] == [
        *("day", "rain", "fog")
    ]


def test_conditions_have_the_names_of_calibration_tables() -> None:
    assert {
        Context(light=light, weather=weather).condition for light in LIGHTS for weather in WEATHERS
    } == set(CONDITIONS)


def test_one_odd_frame_changes_nothing_and_several_do() -> None:
    estimator = ContextEstimator()
    stamps = [step * HALF_SECOND_NS for step in range(12)]
    images = [day(), day(), night(), day(), day(), *(night() for _ in range(7))]
    lights = [
        one.light
        for one in followed(estimator, [camera(*each) for each in zip(stamps, images, strict=True)])
    ]
    assert lights[:6] == ["day"] * 6
    assert lights[-1] == "night"
    assert sum(a != b for a, b in itertools.pairwise(lights)) == 1


def test_one_odd_frame_after_a_long_gap_changes_nothing() -> None:
    estimator = ContextEstimator()
    followed(estimator, [lidar(0), lidar(HALF_SECOND_NS)])
    assert estimator.update(lidar(60 * 10**9, 0.05)).weather == "clear"
    assert estimator.update(lidar(61 * 10**9, 0.05)).weather == "fog"


def test_how_often_frames_come_does_not_matter() -> None:
    def seconds_to_night(rate_hz: int) -> float:
        estimator = ContextEstimator()
        estimator.update(camera(0, day()))
        for step in range(1, 10 * rate_hz):
            if estimator.update(camera(step * 10**9 // rate_hz, night())).light == "night":
                return step / rate_hz
        return float("inf")

    assert seconds_to_night(20) == pytest.approx(seconds_to_night(4), abs=0.3)


def test_light_between_day_and_night_does_not_flicker() -> None:
    estimator = ContextEstimator()
    estimator.update(camera(0, day()))
    dusk = [camera(step * HALF_SECOND_NS, picture(66.5 + step % 2, 20, 9)) for step in range(1, 30)]
    assert {context.light for context in followed(estimator, dusk)} == {"day"}


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((90, 160, 3), np.uint8), "black"),
        (np.full((90, 160, 3), 255, np.uint8), "blinded"),
        (np.full((90, 160, 3), 120, np.uint8), "plain"),
        (b"cut", "broken"),
        (np.zeros((90, 160), np.uint8), "broken"),
    ],
)
def test_a_camera_that_fails_is_named_and_not_believed(image: object, reason: str) -> None:
    estimator = ContextEstimator()
    before = estimator.update(camera(0, day(), "good") | camera(0, day(), "bad"))
    later = HALF_SECOND_NS
    context = estimator.update(camera(later, day(), "good") | camera(later, image, "bad"))
    assert context.health["good"].usable
    assert not context.health["bad"].usable
    assert context.health["bad"].reasons[0].startswith(reason)
    assert context.light == "day"
    assert context.light_confidence == pytest.approx(before.light_confidence, abs=0.01)
    mended = camera(2 * later, day(), "good") | camera(2 * later, day(), "bad")
    assert estimator.update(mended).health["bad"].usable


def test_a_frozen_picture_and_one_seen_again() -> None:
    estimator = ContextEstimator()
    image = day()
    assert estimator.update(camera(0, image)).health["cam"].usable
    assert estimator.update(camera(0, image)).health["cam"].usable, "the same frame, held still"
    frozen = estimator.update(camera(HALF_SECOND_NS, image.copy())).health["cam"]
    assert not frozen.usable
    assert "frozen" in frozen.reasons[0]
    assert estimator.update(camera(2 * HALF_SECOND_NS, day())).health["cam"].usable


def cloud_frame(stamp_ns: int, cloud: np.ndarray) -> dict[str, SensorFrame]:
    return {"lidar": SensorFrame("lidar", "lidar", stamp_ns, "lidar", cloud)}


def at_three_metres(cloud: np.ndarray) -> np.ndarray:
    directions = cloud[:, :3] / np.linalg.norm(cloud[:, :3], axis=1, keepdims=True)
    return np.concatenate([3 * directions, cloud[:, 3:]], axis=1)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda cloud: cloud[:0], "too few points"),
        (lambda cloud: cloud[::5], "too few points"),
        (lambda cloud: cloud[cloud[:, 4] >= 20], "dead rings"),
        (at_three_metres, "covered"),
    ],
)
def test_a_lidar_that_fails(spoil: Callable[[np.ndarray], np.ndarray], reason: str) -> None:
    estimator = ContextEstimator()
    assert estimator.update(cloud_frame(0, ring_cloud(seed=1))).health["lidar"].usable
    spoiled = np.ascontiguousarray(spoil(ring_cloud(seed=2)))
    health = estimator.update(cloud_frame(HALF_SECOND_NS, spoiled)).health["lidar"]
    assert not health.usable
    assert reason in health.reasons[0]


def test_a_lidar_set_to_fewer_points_becomes_usual() -> None:
    estimator = ContextEstimator()
    estimator.update(cloud_frame(0, ring_cloud()))
    usable = [
        estimator.update(cloud_frame(step * HALF_SECOND_NS, ring_cloud(150, step)))
        .health["lidar"]
        .usable
        for step in range(1, 40)
    ]
    assert not usable[0]
    assert usable[-1]


def test_a_sensor_that_went_silent_is_stale() -> None:
    estimator = ContextEstimator(stale_ms=400)
    estimator.update(camera(0, day(), "left") | camera(0, day(), "right"))
    context = estimator.update(camera(HALF_SECOND_NS, day(), "right"))
    assert context.ages_ms == {"left": 500.0, "right": 0.0}
    assert not context.health["left"].usable
    assert "stale" in context.health["left"].reasons[0]


def posed(stamp_ns: int, x_m: float) -> dict[str, SensorFrame]:
    pose = np.eye(4)
    pose[0, 3] = x_m
    geometry = SensorGeometry(np.eye(4), global_from_ego=pose)
    return {"cam": SensorFrame("cam", "camera", stamp_ns, "cam", day(), geometry)}


def test_speed_from_poses() -> None:
    estimator = ContextEstimator()
    stamps = [step * 100_000_000 for step in range(8)]
    speeds = [estimator.update(posed(stamp, 8.0 * stamp / 1e9)).speed_m_s for stamp in stamps]
    assert speeds[0] is None
    assert speeds[2:] == pytest.approx([8.0] * 6)
    assert estimator.update(posed(10**9, 5e4)).speed_m_s is None, "another origin is no motion"
    assert estimator.update(posed(2 * 10**9, 5e4)).speed_m_s == 0


def test_no_poses_no_speed() -> None:
    estimator = ContextEstimator()
    contexts = followed(estimator, [camera(step * HALF_SECOND_NS, day()) for step in range(3)])
    assert [context.speed_m_s for context in contexts] == [None] * 3


def test_time_set_back_begins_anew() -> None:
    estimator = ContextEstimator()
    followed(estimator, [camera(10**10 + step, night()) for step in range(3)])
    context = estimator.update(camera(0, day()))
    assert (context.stamp_ns, context.light) == (0, "day")
    assert context.health["cam"].usable


def test_a_late_frame_is_ignored() -> None:
    estimator = ContextEstimator()
    estimator.update(camera(10**9, day(), "a") | camera(10**9, day(), "b"))
    late = camera(2 * 10**9, day(), "a") | camera(0, np.zeros((90, 160, 3), np.uint8), "b")
    context = estimator.update(late)
    assert context.health["b"].usable
    assert context.ages_ms["b"] == 1000


def test_objects_are_always_usable() -> None:
    boxes = np.zeros((0, 12), np.float32)
    context = ContextEstimator().update({"o": SensorFrame("o", "objects", 5, "ego", boxes)})
    assert context.health == {"o": SensorHealth(True)}
    assert context.light_confidence == 0.5


@pytest.mark.parametrize("name", ["smoothing_s", "margin", "stale_ms"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_numbers_that_make_no_sense(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        ContextEstimator(**{name: value})


def test_a_margin_of_one_could_never_be_reached() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        ContextEstimator(margin=1.0)
