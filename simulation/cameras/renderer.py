"""What draws the pictures of a world, chosen by name."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import ConfigError
from ..meshes import MeshLibrary
from ..rig import CameraMount
from ..world import World

RendererName = Literal["auto", "gl", "ray"]
RENDERERS: tuple[RendererName, ...] = get_args(RendererName)


class CameraRenderer(Protocol):
    """Draws worlds; used from the thread that opened it."""

    @property
    def name(self) -> str:
        """`gl` or `ray`."""
        ...

    def render(
        self, world: World, time_s: float, mount: CameraMount, width: int
    ) -> NDArray[np.uint8]:
        """The image of a camera at a moment.

        The same arguments give the same picture, on one machine bit for bit.

        Args:
            world: what to look at.
            time_s: since the start of the scene.
            mount: which camera of the ego vehicle.
            width: of the image, pixels; the height is 9/16 of it.

        Returns:
            uint8 `[height, width, 3]`, RGB.
        """
        ...

    def close(self) -> None:
        """Give its memory back."""
        ...


def open_renderer(kind: RendererName, library: MeshLibrary) -> CameraRenderer:
    """A renderer by name.

    Args:
        kind: `gl` for OpenGL through EGL, `ray` for ray casting, `auto` for the first of them
            that works here.
        library: shapes of what is drawn.

    Raises:
        ConfigError: the name is unknown or what it needs is missing, with the commands that
            install it.
    """
    if kind not in RENDERERS:
        raise ConfigError(
            f"there is no renderer {kind!r}", field="renderer", remedy=f"take one of {RENDERERS}"
        )
    if kind != "ray":
        from .gl import GlRenderer

        try:
            return GlRenderer(library)
        except ConfigError:
            if kind == "gl":
                raise
    from .ray import RayRenderer

    return RayRenderer(library)
