"""What microphones on the roof would hear of a keyframe: levels by octave band and direction.

Vehicles sound as the European method for road noise says (CNOSSOS-EU, Directive 2015/996, annex
II): tyres and engine, by category and speed, in eight octave bands. Sound spreads over a half
sphere and is absorbed by air (ISO 9613-2, 10 degrees C, 70 % humidity). Six microphones look in the
six directions of NuScenes-QA. There are no echoes, no screens and no horns; people, bicycles and
parked vehicles are silent, and what is not annotated as visible is not heard.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..kernels.object_tokens import OBJECT_CLASSES, OBJECT_COLUMNS, OBJECT_STATUSES

Float = NDArray[np.float32]
Float64 = NDArray[np.float64]
Source = Literal["light", "heavy", "motorcycle"]

#: Middles of the octave bands.
BANDS_HZ = (63, 125, 250, 500, 1000, 2000, 4000, 8000)
#: Where the microphones look, counter-clockwise from the front.
MICROPHONES_DEG = (0, 60, 120, 180, 240, 300)
#: Moments of one recording, and how long it is.
FRAMES, SECONDS = 8, 1.0

SOURCE_OF_CLASS: dict[str, Source] = {
    "car": "light",
    "truck": "heavy",
    "bus": "heavy",
    "construction vehicle": "heavy",
    "motorcycle": "motorcycle",
}

#: Annex II, appendix F: rolling noise `A + B lg(v / 70)`, propulsion `A + B (v - 70) / 70`, dB over
#: 1e-12 W, v in km/h. Light vehicles, heavy vehicles, motorcycles (which do not roll loudly).
_ROLLING: dict[Source, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "light": (
        (79.7, 85.7, 84.5, 90.2, 97.3, 93.9, 84.1, 74.3),
        (30.0, 41.5, 38.9, 25.7, 32.5, 37.2, 39.0, 40.0),
    ),
    "heavy": (
        (87.0, 91.7, 94.1, 100.7, 100.8, 94.3, 87.1, 82.5),
        (30.0, 33.5, 31.3, 25.4, 31.8, 37.1, 38.6, 40.6),
    ),
}
_PROPULSION: dict[Source, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "light": (
        (94.5, 89.2, 88.0, 85.9, 84.2, 86.9, 83.3, 76.1),
        (-1.3, 7.2, 7.7, 8.0, 8.0, 8.0, 8.0, 8.0),
    ),
    "heavy": (
        (104.4, 100.6, 101.7, 101.0, 100.1, 95.9, 91.3, 85.3),
        (0.0, 3.0, 4.6, 5.0, 5.0, 5.0, 5.0, 5.0),
    ),
    "motorcycle": (
        (95.0, 97.2, 92.7, 92.9, 94.7, 93.2, 90.1, 86.5),
        (3.2, 5.9, 11.9, 11.6, 11.5, 12.6, 11.1, 12.0),
    ),
}
_REFERENCE_KMH, _LEAST_KMH, _MOST_KMH = 70.0, 20.0, 130.0
#: dB per kilometre.
_AIR_DB = (0.1, 0.4, 1.0, 1.9, 3.7, 9.7, 32.8, 117.0)
#: Of a source on hard ground at one metre: 10 lg(2 pi).
_HALF_SPHERE_DB = 8.0
#: Wind and far traffic.
_BACKGROUND_DB = (52.0, 50.0, 47.0, 45.0, 44.0, 41.0, 35.0, 28.0)
#: From the roof to the own tyres and engine.
_OWN_DISTANCE_M = 2.5
_NOISE_DB = 1.0


def sound_power(source: Source, speed_mps: float) -> Float64:
    """Sound power of one vehicle by octave band, dB over 1e-12 W.

    The method holds from 20 to 130 km/h; slower vehicles sound as at 20 km/h, as it says, and
    those that stand have no rolling noise.
    """
    kmh = 3.6 * speed_mps
    bounded = min(max(kmh, _LEAST_KMH), _MOST_KMH)
    base, slope = (np.array(side) for side in _PROPULSION[source])
    power = 10 ** ((base + slope * (bounded - _REFERENCE_KMH) / _REFERENCE_KMH) / 10)
    if source in _ROLLING and kmh > 1:
        base, slope = (np.array(side) for side in _ROLLING[source])
        power = power + 10 ** ((base + slope * np.log10(bounded / _REFERENCE_KMH)) / 10)
    return 10 * np.log10(power)


def level_at(power_db: Float64, distance_m: float) -> Float64:
    """Sound pressure level by octave band at a distance, dB over 20 uPa."""
    distance = max(distance_m, 1.0)
    return power_db - 20 * np.log10(distance) - _HALF_SPHERE_DB - np.array(_AIR_DB) * distance / 1e3


def source_of(row: Float) -> tuple[Source, float] | None:
    """What a row of objects sounds like, and how fast it is (m/s); None for silent things."""
    column = {name: float(row[i]) for i, name in enumerate(OBJECT_COLUMNS)}
    source = SOURCE_OF_CLASS.get(OBJECT_CLASSES[int(column["class"])])
    status = OBJECT_STATUSES[int(column["status"])] if column["status"] >= 0 else None
    if source is None or status in (None, "parked", "without rider"):
        return None
    speed = float(np.hypot(column["vx"], column["vy"]))
    return source, 0.0 if np.isnan(speed) or status == "stopped" else speed


def street_sound(objects: Float, own_speed_mps: float, rng: np.random.Generator) -> Float:
    """A recording around one moment: `street_levels` as it is measured.

    Args:
        objects: see `street_levels`.
        own_speed_mps: see `street_levels`.
        rng: draws measurement noise.

    Returns:
        float32 `[8 moments, 6 microphones, 8 bands]`, dB over 20 uPa.
    """
    levels = street_levels(objects, own_speed_mps)
    return (levels + rng.normal(0, _NOISE_DB, levels.shape)).astype(np.float32)


def street_levels(objects: Float, own_speed_mps: float) -> Float64:
    """Levels around one moment, before anything is measured.

    Args:
        objects: float32 `[n, 12]` in the columns of `kernels.object_tokens.OBJECT_COLUMNS`, ego
            frame, velocities over ground; they go on as they do for the second of the recording.
        own_speed_mps: of the vehicle, whose own tyres and engine are heard too.

    Returns:
        `[8 moments, 6 microphones, 8 bands]`, dB over 20 uPa.
    """
    times = (np.arange(FRAMES) + 0.5) / FRAMES * SECONDS - SECONDS / 2
    looks = np.deg2rad(MICROPHONES_DEG)
    energy = np.zeros((FRAMES, len(looks), len(BANDS_HZ)))
    energy += 10 ** (np.array(_BACKGROUND_DB) / 10)
    own = level_at(sound_power("light", own_speed_mps), _OWN_DISTANCE_M)
    # From below, so that no microphone is turned away from it, nor towards it.
    energy += 10 ** (own / 10) / 4
    for row in objects:
        sounding = source_of(row)
        if sounding is None:
            continue
        power = sound_power(*sounding)
        x, y, vx, vy = (float(np.nan_to_num(row[OBJECT_COLUMNS.index(n)])) for n in _MOTION)
        for moment, time in enumerate(times):
            # Over ground less the own way, ahead by definition.
            at = np.array([x + (vx - own_speed_mps) * time, y + vy * time])
            level = level_at(power, float(np.hypot(*at)))
            angle = np.arctan2(at[1], at[0])
            # A cardioid: all from the front, nothing from behind.
            gain = ((1 + np.cos(angle - looks)) / 2) ** 2
            energy[moment] += gain[:, None] * 10 ** (level / 10)
    return 10 * np.log10(energy)


_MOTION = ("x", "y", "vx", "vy")
