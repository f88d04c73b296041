"""What the robot is in: light, weather, health of its sensors, motion, ages of its frames.

Estimated from the frames themselves with a few weighted numbers, smoothed over time. What decides
which sensors are worth their cost looks it up under `Context.condition`. Statistics of one frame
are in `frame_statistics.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, SensorError
from .frame_statistics import (
    CameraStatistics,
    FrameStatistics,
    LidarStatistics,
    frame_statistics,
)
from .frames import SensorFrame

Light = Literal["day", "night"]
Weather = Literal["clear", "rain", "fog"]
Condition = Literal["day", "night", "rain", "fog"]
Float64 = NDArray[np.float64]

LIGHTS: tuple[Light, ...] = ("day", "night")
WEATHERS: tuple[Weather, ...] = ("clear", "rain", "fog")

# All weights below are logistic regressions (softmax, equal weight per class, ridge 0.001) on four
# keyframes of each of 80 scenes of a made drive, 20 of each condition; docs/scheduler.md has what
# they score on the other 20 scenes. They were not fitted on photographs.
# Night against day: log(1 + brightness); even at a brightness of about 67.
_NIGHT_WEIGHT, _NIGHT_OFFSET = -11.73, 49.46
# Clear, rain and fog from a picture by daylight: log(1 + brightness, contrast, colour).
_CAMERA_WEATHER = np.array([[0.0, -5.03, 15.94], [0.0, -5.59, -14.82], [0.0, -7.55, -7.79]])
_CAMERA_WEATHER_OFFSET = np.array([0.0, 62.25, -6.81])
# Clear, rain and fog from a cloud: log(lonely + 0.0005); clear below 0.0017, fog above 0.016.
_LIDAR_WEATHER, _LIDAR_WEATHER_OFFSET = np.array([0.0, 3.98, 8.72]), np.array([0.0, 24.27, 43.76])
_LONELY_FLOOR = 5e-4
# No single look is surer than this. A LiDAR sees drops, a camera only what they do to colours, so
# where the two disagree the LiDAR wins.
_LIDAR_FLOOR, _CAMERA_FLOOR = 0.01, 0.05
_LARGEST_LOGIT = 4.0

# Health. Made night pictures have 95th percentiles from 23 and contrasts from 7 upwards.
_BLACK_HIGH, _PLAIN_CONTRAST, _BLINDED_SHARE = 10.0, 2.0, 0.5
_FEWEST_POINTS, _LOST_SHARE, _COVERED_SHARE, _EMPTY_RINGS = 200, 0.3, 0.6, 0.5
_USUAL_RATE = 0.05

# One frame never decides: two in a row at least.
_LARGEST_RATE = 0.4
_POSE_SPAN_S = 0.2
_FASTEST_M_S = 100.0


@dataclass(frozen=True)
class SensorHealth:
    """Whether a sensor's newest frame is worth encoding.

    Attributes:
        usable: nothing was found against it.
        reasons: what was found, in words.
    """

    usable: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """What is known at one moment.

    Attributes:
        stamp_ns: of the newest frame; 0 before any.
        light: `day` or `night`.
        light_confidence: smoothed probability of `light`, 0 to 1; 0.5 where nothing tells.
        weather: `clear`, `rain` or `fog`.
        weather_confidence: smoothed probability of `weather`; a third where nothing tells.
        health: of every sensor that has sent a frame.
        ages_ms: of the newest frame of each sensor, against `stamp_ns`.
        speed_m_s: of the vehicle, from its poses; None where nobody knows.
    """

    stamp_ns: int = 0
    light: Light = "day"
    light_confidence: float = 0.5
    weather: Weather = "clear"
    weather_confidence: float = 1 / 3
    health: Mapping[str, SensorHealth] = field(default_factory=dict)
    ages_ms: Mapping[str, float] = field(default_factory=dict)
    speed_m_s: float | None = None

    @property
    def condition(self) -> Condition:
        """The name under which a pack's calibration table has it.

        Tables have no rain or fog by night; darkness, which takes the cameras, comes first.
        """
        if self.light == "night":
            return "night"
        return "day" if self.weather == "clear" else self.weather


def health_of(
    statistics: FrameStatistics,
    previous: FrameStatistics | None = None,
    usual_points: float | None = None,
) -> SensorHealth:
    """What speaks against a frame.

    Args:
        statistics: of the frame.
        previous: of the sensor's frame before it; the same content means that it is frozen.
        usual_points: of this LiDAR's clouds; None where that is not known yet.
    """
    if isinstance(statistics, CameraStatistics):
        reasons = _against_picture(statistics)
    else:
        reasons = _against_cloud(statistics, usual_points)
    if previous is not None and previous.digest == statistics.digest:
        reasons.append("frozen: the same as the frame before")
    return SensorHealth(not reasons, tuple(reasons))


def night_probability(statistics: CameraStatistics) -> float:
    """How sure one picture is that it is night, 0 to 1."""
    return _sigmoid(_night_logit(statistics))


def weather_probabilities(statistics: FrameStatistics) -> Float64:
    """How sure one frame is of clear, rain and fog; float64 `[3]`, sums to 1.

    That of a camera holds by daylight only.
    """
    if isinstance(statistics, LidarStatistics):
        scores = _LIDAR_WEATHER * math.log(statistics.lonely + _LONELY_FLOOR)
        return _softmax(scores + _LIDAR_WEATHER_OFFSET)
    seen = np.log1p([statistics.brightness, statistics.contrast, statistics.colour])
    return _softmax(seen @ _CAMERA_WEATHER + _CAMERA_WEATHER_OFFSET)


@dataclass
class _Watched:
    """What is remembered of one sensor."""

    stamp_ns: int
    statistics: FrameStatistics | None
    health: SensorHealth
    usual_points: float | None = None


class ContextEstimator:
    """Follows the newest frames; one odd frame changes neither light nor weather.

    Not for use from several threads at once.
    """

    def __init__(
        self, smoothing_s: float = 1.0, margin: float = 0.2, stale_ms: float = 1000.0
    ) -> None:
        """Begin without any knowledge: a clear day, with the confidence of a guess.

        Args:
            smoothing_s: time constant of the smoothing, by the stamps of the frames.
            margin: by how much another light or weather must be more probable to take over.
            stale_ms: frames older than this, against the newest, count as not usable.

        Raises:
            ConfigError: naming the number that is not positive and finite; `margin` is below 1.
        """
        for name, value in (
            ("smoothing_s", smoothing_s),
            ("margin", margin),
            ("stale_ms", stale_ms),
        ):
            if not (math.isfinite(value) and value > 0) or (name == "margin" and value >= 1):
                limits = "between 0 and 1" if name == "margin" else "above 0"
                raise ConfigError(
                    f"{value} is no {name}", field=name, remedy=f"give a number {limits}"
                )
        self._smoothing_s = smoothing_s
        self._margin = margin
        self._stale_ms = stale_ms
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._watched: dict[str, _Watched] = {}
        self._light: Float64 | None = None
        self._weather: Float64 | None = None
        self._pose: tuple[int, Float64] | None = None
        self._context = Context()

    @property
    def context(self) -> Context:
        """As of the last update."""
        return self._context

    def update(self, frames: Mapping[str, SensorFrame]) -> Context:
        """Take in the newest frame of each sensor.

        A frame that was taken in before is not looked at again, and one older than it is ignored;
        if all are older than the last update, time was set back, and all is forgotten first. A
        frame that cannot be read makes its sensor unusable and does nothing else.

        Args:
            frames: as `SensorBuffer.snapshot` gives them; sensors may come and go.
        """
        newest_ns = max((frame.stamp_ns for frame in frames.values()), default=0)
        if frames and newest_ns < self._context.stamp_ns:
            self.reset()
        before = self._context
        now_ns = max(newest_ns, before.stamp_ns)
        looked_at = [self._look(name, frame) for name, frame in frames.items()]
        ages_ms = {name: (now_ns - kept.stamp_ns) / 1e6 for name, kept in self._watched.items()}
        health = {name: self._aged(kept, ages_ms[name]) for name, kept in self._watched.items()}
        if any(looked_at):
            elapsed_s = (now_ns - before.stamp_ns) / 1e9
            rate = min(1 - math.exp(-elapsed_s / self._smoothing_s), _LARGEST_RATE)
            self._weigh([name for name, found in health.items() if found.usable], rate)
        light = _held(self._light, LIGHTS.index(before.light), self._margin)
        weather = _held(self._weather, WEATHERS.index(before.weather), self._margin)
        self._context = Context(
            stamp_ns=now_ns,
            light=LIGHTS[light],
            light_confidence=0.5 if self._light is None else float(self._light[light]),
            weather=WEATHERS[weather],
            weather_confidence=1 / 3 if self._weather is None else float(self._weather[weather]),
            health=health,
            ages_ms=ages_ms,
            speed_m_s=self._speed(frames, now_ns, before.speed_m_s),
        )
        return self._context

    def _look(self, name: str, frame: SensorFrame) -> bool:
        """Remember the frame's statistics; False of one that was seen before."""
        kept = self._watched.get(name)
        if kept is not None and frame.stamp_ns <= kept.stamp_ns:
            return False
        usual = None if kept is None else kept.usual_points
        try:
            statistics = frame_statistics(frame)
        except SensorError as error:
            broken = SensorHealth(False, (f"broken: {error}",))
            self._watched[name] = _Watched(frame.stamp_ns, None, broken, usual)
            return True
        health = SensorHealth(True)
        if statistics is not None:
            health = health_of(statistics, None if kept is None else kept.statistics, usual)
            if isinstance(statistics, LidarStatistics):
                # Bad clouds count too, so that a LiDAR set to fewer points is usable again.
                usual = statistics.points if usual is None else usual
                usual += _USUAL_RATE * (statistics.points - usual)
        self._watched[name] = _Watched(frame.stamp_ns, statistics, health, usual)
        return True

    def _weigh(self, names: list[str], rate: float) -> None:
        """Move the smoothed probabilities towards what the newest frames of these sensors say."""
        usable = [self._watched[name].statistics for name in names]
        pictures = [one for one in usable if isinstance(one, CameraStatistics)]
        clouds = [one for one in usable if isinstance(one, LidarStatistics)]
        if pictures:
            logits = [_night_logit(one) for one in pictures]
            night = _sigmoid(float(np.mean(logits)))
            self._light = _moved(self._light, np.array([1 - night, night]), rate)
        evidence = np.zeros(len(WEATHERS))
        if clouds:
            evidence += np.mean([_floored(one, _LIDAR_FLOOR) for one in clouds], axis=0)
        if pictures and self._light is not None:
            by_day = float(self._light[0])
            evidence += by_day * np.mean([_floored(one, _CAMERA_FLOOR) for one in pictures], axis=0)
        if evidence.any():
            self._weather = _moved(self._weather, _softmax(evidence), rate)

    def _aged(self, kept: _Watched, age_ms: float) -> SensorHealth:
        if age_ms <= self._stale_ms:
            return kept.health
        return SensorHealth(False, (*kept.health.reasons, f"stale: {age_ms:.0f} ms old"))

    def _speed(
        self, frames: Mapping[str, SensorFrame], now_ns: int, before_m_s: float | None
    ) -> float | None:
        """From the newest pose and one at least a fifth of a second before it."""
        known = [
            (frame.stamp_ns, frame.geometry.global_from_ego[:3, 3])
            for frame in frames.values()
            if frame.geometry is not None and frame.geometry.global_from_ego is not None
        ]
        newest = max(known, key=lambda pose: pose[0], default=None)
        if newest is None or (now_ns - newest[0]) / 1e6 > self._stale_ms:
            self._pose = None
            return None
        if self._pose is None:
            self._pose = newest
            return None
        elapsed_s = (newest[0] - self._pose[0]) / 1e9
        if elapsed_s < _POSE_SPAN_S:
            return before_m_s
        speed_m_s = float(np.linalg.norm(newest[1] - self._pose[1])) / elapsed_s
        self._pose = newest
        # Odometry that was set to another origin is no motion.
        return speed_m_s if speed_m_s <= _FASTEST_M_S else None


def _against_picture(seen: CameraStatistics) -> list[str]:
    if seen.high < _BLACK_HIGH:
        return [f"black: 95 % of the pixels are below {_BLACK_HIGH:.0f} of 255"]
    if seen.saturated > _BLINDED_SHARE:
        return [f"blinded: {seen.saturated:.0%} of the pixels are saturated"]
    if seen.contrast < _PLAIN_CONTRAST:
        return [f"plain: one colour, contrast {seen.contrast:.1f}"]
    return []


def _against_cloud(seen: LidarStatistics, usual_points: float | None) -> list[str]:
    reasons = []
    if seen.points < _FEWEST_POINTS:
        reasons.append(f"too few points: {seen.points}")
    elif usual_points is not None and seen.points < _LOST_SHARE * usual_points:
        reasons.append(f"too few points: {seen.points}, where {usual_points:.0f} are usual")
    elif seen.empty_rings > _EMPTY_RINGS:
        reasons.append(f"dead rings: {seen.empty_rings:.0%} of them return nothing")
    if seen.near > _COVERED_SHARE:
        reasons.append(f"covered: {seen.near:.0%} of the points are close by")
    return reasons


def _held(smoothed: Float64 | None, held: int, margin: float) -> int:
    """The most probable class, if it leads the one that holds by the margin."""
    if smoothed is None:
        return held
    best = int(np.argmax(smoothed))
    return best if smoothed[best] > smoothed[held] + margin else held


def _moved(before: Float64 | None, seen: Float64, rate: float) -> Float64:
    return seen if before is None else before + rate * (seen - before)


def _floored(statistics: FrameStatistics, floor: float) -> Float64:
    """Logarithms of what a frame says of the weather, never surer than the floor lets it be."""
    return np.log(np.maximum(weather_probabilities(statistics), floor))


def _night_logit(statistics: CameraStatistics) -> float:
    logit = _NIGHT_WEIGHT * math.log1p(statistics.brightness) + _NIGHT_OFFSET
    return max(-_LARGEST_LOGIT, min(_LARGEST_LOGIT, logit))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _softmax(scores: Float64) -> Float64:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()
