"""Light and weather do to both renderers' pictures what they do to a real camera's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tailwire.simulation.cameras import CameraRenderer
from tailwire.simulation.world import Condition

from ..tiny_world import tiny_world
from .scenes import (
    CONDITIONS,
    FOG,
    FRONT,
    MOUNTS,
    NIGHT,
    OVERCAST,
    RAIN,
    SUNNY,
    boxes_at,
    driving,
    light_of,
    patch,
    pixels_of,
    standing,
)

WIDTH = 320


@pytest.mark.parametrize("name", list(CONDITIONS))
def test_both_renderers_have_the_same_colours(
    gl: CameraRenderer, ray: CameraRenderer, name: str
) -> None:
    world = tiny_world(CONDITIONS[name])
    for channel in ("CAM_FRONT", "CAM_BACK_LEFT"):
        a, b = (
            one.render(world, 0.5, MOUNTS[channel], WIDTH).astype(np.float64) for one in (gl, ray)
        )
        # Edges of shadows and sizes of textures are found in other ways: up to 1 % of the scale
        # over the picture, and 3 % in a region of 40 by 36 pixels.
        assert np.abs(a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))).max() < 2.5
        regions = (a - b).reshape(5, 36, 8, 40, 3).mean(axis=(1, 3))
        assert np.abs(regions).max() < 8


def test_night_is_dark_but_for_what_lamps_light(renderer: CameraRenderer) -> None:
    world = standing(replace(tiny_world(NIGHT), agents=()), 0.0)
    unlit = replace(world, lamps=np.zeros((0, 3)))
    day = renderer.render(replace(world, condition=SUNNY), 0.0, FRONT, WIDTH)
    night = renderer.render(world, 0.0, FRONT, WIDTH)
    no_lamps = renderer.render(unlit, 0.0, FRONT, WIDTH)
    assert night.mean() < 0.45 * day.mean()
    for x, y, _ in world.lamps:
        mount = MOUNTS["CAM_FRONT_RIGHT" if x < 20 else "CAM_FRONT"]
        lit, dark = (renderer.render(one, 0.0, mount, WIDTH) for one in (world, unlit))
        (under,) = pixels_of(world, 0.0, mount, WIDTH, np.array([[x, y, 0.0]]))
        assert patch(lit, under, 1) > 1.2 * patch(dark, under, 1)
    # The sky over the roofs has no part in it.
    assert abs(float(night[:20].mean()) - float(no_lamps[:20].mean())) < 1


def test_fog_takes_more_contrast_from_what_is_far(box_renderer: CameraRenderer) -> None:
    places = {12.0: 4.0, 60.0: -4.0}
    contrast = {}
    away = {}
    for condition in (OVERCAST, FOG):
        pictures = [
            box_renderer.render(boxes_at(places, paint, condition), 0.0, FRONT, WIDTH)
            for paint in ((0.95, 0.95, 0.95), (0.05, 0.05, 0.05))
        ]
        world = boxes_at(places, (0, 0, 0), condition)
        for x, y in places.items():
            face = np.array([[x - 1.5, y, 1.5]])
            (pixel,) = pixels_of(world, 0.0, FRONT, WIDTH, face)
            white, black = (light_of(patch(picture, pixel)) for picture in pictures)
            contrast[condition.name, x] = white - black
            away[x] = float(np.linalg.norm(face[0] - FRONT.translation))
    assert away[60.0] > 4 * away[12.0]
    # Koschmieder's law: 5 % (e to the -3) of the contrast is left at the visibility.
    for x, distance in away.items():
        left = contrast["fog", x] / contrast["day", x]
        assert left == pytest.approx(np.exp(-3 * distance / FOG.visibility_m), rel=0.2)


def test_rain_wets_the_road_and_falls(renderer: CameraRenderer) -> None:
    world = standing(replace(tiny_world(OVERCAST), agents=()), 0.0)
    after_rain, stopped = replace(OVERCAST, wetness=0.8), replace(RAIN, rain_mm_h=0.0)
    dry, wet, rain, without_drops = (
        renderer.render(replace(world, condition=condition), 0.0, FRONT, WIDTH).astype(np.float64)
        for condition in (OVERCAST, after_rain, RAIN, stopped)
    )
    far, sky = (slice(105, 125), slice(100, 220)), slice(0, 20)
    # The road ahead mirrors the bright sky.
    assert wet[far].mean() - dry[far].mean() > 5
    np.testing.assert_array_equal(dry[sky], wet[sky])
    assert np.abs(rain - without_drops).mean() > 1
    assert (rain[sky] - without_drops[sky]).std() > 0.5


@pytest.mark.parametrize("condition", [NIGHT, SUNNY], ids=["night", "day"])
def test_motion_shows_at_night_while_the_vehicle_moves(
    renderer: CameraRenderer, condition: Condition
) -> None:
    world = replace(tiny_world(), condition=condition, agents=tiny_world().agents[:1])
    still = renderer.render(standing(world, 5.0), 1.0, FRONT, WIDTH)
    moving = renderer.render(driving(world, 15.0), 1.0, FRONT, WIDTH)
    if condition is SUNNY:
        np.testing.assert_array_equal(still, moving)
        return
    change = np.abs(still.astype(np.float64) - moving).mean(axis=(1, 2))
    # The ground next to the vehicle runs the fastest, the horizon stands.
    assert change[150:].mean() > 0.2
    assert change[150:].mean() > 2 * change[:60].mean()


@pytest.mark.parametrize("name", list(CONDITIONS))
def test_pictures_have_grain_and_nothing_burnt_out_or_empty(
    renderer: CameraRenderer, name: str
) -> None:
    picture = renderer.render(tiny_world(CONDITIONS[name]), 0.5, FRONT, WIDTH)
    fine = picture.astype(np.float64)
    assert np.abs(np.diff(fine[:30], axis=1)).mean() > 0.3
    assert (picture == 255).mean() < 0.05
    assert 10 < picture.mean() < 245
