"""Both renderers, each opened once; a test that needs what is not installed here is skipped."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import pytest

from tailwire.runtime.errors import ConfigError
from tailwire.simulation.cameras import CameraRenderer
from tailwire.simulation.cameras.gl import GlRenderer
from tailwire.simulation.cameras.ray import RayRenderer
from tailwire.simulation.meshes import MeshLibrary

from ..made_parts import BoxLibrary

Open = Callable[[str, MeshLibrary], CameraRenderer]


def opened(kind: str, library: MeshLibrary) -> CameraRenderer:
    """A renderer, or a skip with the reason why there is none."""
    if kind == "ray":
        if importlib.util.find_spec("embreex") is None:
            pytest.skip("embreex is not installed (pip install 'tailwire[sim]')")
        return RayRenderer(library)
    try:
        return GlRenderer(library)
    except ConfigError as error:
        pytest.skip(str(error))


def kept_open(kind: str, library: MeshLibrary) -> Iterator[CameraRenderer]:
    renderer = opened(kind, library)
    yield renderer
    renderer.close()


@pytest.fixture(scope="session")
def open_one() -> Open:
    return opened


@pytest.fixture(scope="session")
def gl() -> Iterator[CameraRenderer]:
    yield from kept_open("gl", MeshLibrary())


@pytest.fixture(scope="session")
def ray() -> Iterator[CameraRenderer]:
    yield from kept_open("ray", MeshLibrary())


@pytest.fixture(scope="session", params=["gl", "ray"])
def renderer(request: pytest.FixtureRequest) -> CameraRenderer:
    """Each of them, with the real meshes."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", params=["gl", "ray"])
def box_renderer(request: pytest.FixtureRequest) -> Iterator[CameraRenderer]:
    """Each of them, with boxes of paint for meshes."""
    painted = {name: "car_paint" for name in ("car/sedan", "bus/city", "pedestrian/adult")}
    yield from kept_open(request.param, BoxLibrary(painted))
