"""Things are drawn where the data set's own geometry says that they are, by both renderers."""

from __future__ import annotations

import numpy as np
import pytest

from tailwire.simulation.cameras import CameraRenderer
from tailwire.simulation.meshes import MATERIALS, MeshLibrary
from tailwire.simulation.nuscenes.geometry import box_corners, transform_points, yaw_quaternion

from .scenes import FRONT, MOUNTS, only, painted_pixels, pixels_of

WIDTH = 320
RED = (0.9, 0.1, 0.1)
CHANNELS = {"car-1": "CAM_FRONT_LEFT", "bus-1": "CAM_FRONT", "walker-1": "CAM_FRONT_RIGHT"}


@pytest.mark.parametrize(
    ("name", "channel", "time_s"),
    [
        ("car-1", "CAM_FRONT_LEFT", 1.4),
        ("bus-1", "CAM_FRONT", 0.5),
        ("walker-1", "CAM_FRONT_RIGHT", 1.4),
    ],
)
def test_the_picture_of_a_box_fills_its_projected_corners(
    box_renderer: CameraRenderer, name: str, channel: str, time_s: float
) -> None:
    mount = MOUNTS[channel]
    mask = painted_pixels(box_renderer, name, time_s, mount, WIDTH)
    world = only(name, RED)
    agent = world.agents[0]
    state = agent.track.at(time_s)
    assert state is not None
    middle = state.x, state.y, state.z + agent.size_wlh[2] / 2
    corners = box_corners(middle, agent.size_wlh, yaw_quaternion(state.yaw_rad))
    expected = pixels_of(world, time_s, mount, WIDTH, corners)
    size = WIDTH, WIDTH * 9 // 16
    assert (expected > 2).all(), "the box must be whole in the picture"
    assert (expected < np.array(size) - 2).all()
    np.testing.assert_allclose(_bounds(mask), _corners(expected), atol=1.5)


@pytest.mark.parametrize("name", ["car-1", "bus-1", "walker-1"])
def test_the_paint_of_a_mesh_is_within_its_projected_vertices(
    renderer: CameraRenderer, name: str
) -> None:
    mount, time_s = MOUNTS[CHANNELS[name]], 1.4
    mask = painted_pixels(renderer, name, time_s, mount, WIDTH)
    world = only(name, RED)
    (placed,) = world.placed_agents(time_s)
    mesh = MeshLibrary().mesh(placed.mesh)
    painted = np.array([material.paint for material in MATERIALS])[mesh.materials]
    vertices = transform_points(placed.transform, mesh.positions[painted])
    left, top, right, bottom = _corners(pixels_of(world, time_s, mount, WIDTH, vertices))
    found = _bounds(mask)
    # Other parts may cover the lowest ones, and thin ones are fainter than half.
    assert found[0] == pytest.approx(left, abs=2.5)
    assert found[1] == pytest.approx(top, abs=1.5)
    assert found[2] == pytest.approx(right, abs=2.5)
    assert found[3] <= bottom + 1.5


@pytest.mark.parametrize("name", ["car-1", "bus-1", "walker-1"])
def test_both_renderers_draw_the_same_silhouette(
    gl: CameraRenderer, ray: CameraRenderer, name: str
) -> None:
    mount = MOUNTS[CHANNELS[name]]
    masks = [painted_pixels(one, name, 1.4, mount, WIDTH) for one in (gl, ray)]
    union, common = np.logical_or(*masks).sum(), np.logical_and(*masks).sum()
    assert union > 100
    assert common / union > 0.95


@pytest.mark.parametrize("width", [160, 200, 321])
def test_the_height_is_nine_sixteenths_of_any_width(renderer: CameraRenderer, width: int) -> None:
    picture = renderer.render(only("car-1", RED), 0.0, FRONT, width)
    assert picture.shape == (width * 9 // 16, width, 3)
    assert picture.dtype == np.uint8
    # The sky is above: pictures are the right way up.
    assert picture[: len(picture) // 8].mean() > picture[-len(picture) // 8 :].mean()


def test_another_width_shows_the_same_view(renderer: CameraRenderer) -> None:
    world = only("bus-1", RED)
    large = renderer.render(world, 0.0, FRONT, 320).astype(np.float64)
    small = renderer.render(world, 0.0, FRONT, 160).astype(np.float64)
    halved = large.reshape(90, 2, 160, 2, 3).mean(axis=(1, 3))
    # Grain and edges differ; a shift by one pixel gives about twice as much.
    assert np.abs(halved - small).mean() < np.abs(halved[:, 1:] - small[:, :-1]).mean()
    assert np.abs(halved - small).mean() < 5


def _bounds(mask: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom edge of the pixels, in pixels from the corner."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def _corners(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
