"""Renderers by name, and what is said where their packages are missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tailwire.runtime.errors import ConfigError
from tailwire.simulation.cameras import RENDERERS, open_renderer
from tailwire.simulation.meshes import MeshLibrary

from .conftest import Open


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="vulkan") as caught:
        open_renderer("vulkan", MeshLibrary())  # pyright: ignore[reportArgumentType]
    assert all(name in str(caught.value) for name in RENDERERS)


@pytest.mark.parametrize("kind", ["gl", "ray"])
def test_a_renderer_tells_its_name(open_one: Open, kind: str) -> None:
    opened = open_one(kind, MeshLibrary())
    assert opened.name == kind
    opened.close()


def test_without_moderngl_gl_is_refused_and_auto_casts_rays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("embreex", reason="embreex is not installed")
    monkeypatch.setitem(sys.modules, "moderngl", None)
    with pytest.raises(ConfigError, match=r"tailwire\[sim\]"):
        open_renderer("gl", MeshLibrary())
    assert open_renderer("auto", MeshLibrary()).name == "ray"


def test_without_egl_gl_is_refused_and_auto_casts_rays(monkeypatch: pytest.MonkeyPatch) -> None:
    moderngl = pytest.importorskip("moderngl", reason="moderngl is not installed")
    pytest.importorskip("embreex", reason="embreex is not installed")

    def no_context(**_: object) -> None:
        raise Exception("libEGL.so.1 not loaded")

    monkeypatch.setattr(moderngl, "create_context", no_context)
    with pytest.raises(ConfigError, match="libegl1"):
        open_renderer("gl", MeshLibrary())
    assert open_renderer("auto", MeshLibrary()).name == "ray"


def test_without_either_the_command_that_installs_them_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "moderngl", None)
    monkeypatch.setitem(sys.modules, "embreex", None)
    for kind in RENDERERS:
        with pytest.raises(ConfigError, match=r"pip install 'tailwire\[sim\]'"):
            open_renderer(kind, MeshLibrary())


def test_ray_casting_does_without_opengl() -> None:
    pytest.importorskip("embreex", reason="embreex is not installed")
    script = """
import sys
from tailwire.simulation.cameras import open_renderer
from tailwire.simulation.meshes import MeshLibrary
from tailwire.simulation.rig import CAMERAS
from tailwire.simulation.world import make_world

world = make_world(7, 0, 2.0, "day")
renderer = open_renderer("ray", MeshLibrary())
assert renderer.render(world, 0.0, CAMERAS[0], 64).shape == (36, 64, 3)
renderer.close()
assert not {"moderngl", "glcontext", "OpenGL"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
