"""Shaders and the pictures that they draw into; no knowledge of worlds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..nuscenes.geometry import Float64
from ..world import Placed

if TYPE_CHECKING:
    import moderngl

MATERIALS = 64
"""Rows of the material tables in the shaders."""

_GLOW_SHRINK = 4


def set_uniforms(program: moderngl.Program, **values: Any) -> None:
    """Set uniforms by name; matrices are given as numpy has them, row by row.

    A name that the compiler has dropped because nothing needs it is passed over.
    """
    for name, value in values.items():
        uniform: Any = program.get(name, None)
        if uniform is None:
            continue
        if isinstance(value, int | float):
            uniform.value = value
        else:
            array = np.asarray(value, np.float32)
            # OpenGL stores matrices column by column.
            is_matrix = array.ndim == 2 and uniform.array_length == 1
            uniform.write((array.T if is_matrix else array).tobytes())


class Targets:
    """What a picture of one size is drawn into."""

    def __init__(self, context: moderngl.Context, size: tuple[int, int]) -> None:
        """Make them.

        Args:
            context: whose.
            size: width, height, pixels.
        """
        self.size = size
        small = (size[0] // _GLOW_SHRINK, size[1] // _GLOW_SHRINK)
        self.colour = context.texture(size, 4)
        self.colour.repeat_x = self.colour.repeat_y = False
        self.depth = context.depth_texture(size)
        self.depth.compare_func = ""
        self.scene = context.framebuffer(self.colour, self.depth)
        glows = [context.texture(small, 4) for _ in range(2)]
        for glow in glows:
            glow.repeat_x = glow.repeat_y = False
        self.glow_texture, self.glow_between = glows
        self.glow, self.between = (context.framebuffer(glow) for glow in glows)
        self.shown = context.simple_framebuffer(size, 4)

    def release(self) -> None:
        """Give the memory back."""
        for framebuffer in (self.scene, self.glow, self.between, self.shown):
            for part in (*framebuffer.color_attachments, framebuffer.depth_attachment):
                if part is not None:
                    part.release()
            framebuffer.release()


class Look(NamedTuple):
    """The shaders of a condition.

    Attributes:
        features: what they were compiled with.
        scene: of surfaces.
        develop: of the lens.
        develop_fill: fills a picture by `develop`.
    """

    features: frozenset[str]
    scene: moderngl.Program
    develop: moderngl.Program
    develop_fill: moderngl.VertexArray


class Programs:
    """All shaders of a context, with the two shapes that fill a picture or lie under things."""

    def __init__(self, context: moderngl.Context) -> None:
        """Compile them."""
        self._context = context
        self.shadow = _program(context, "shadow.vert", "shadow.frag")
        self.sky = _program(context, "fill.vert", "sky.frag")
        self._blur = _program(context, "fill.vert", "blur.frag")
        self._contact = _program(context, "contact.vert", "contact.frag")
        corners = np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)], np.float32)
        self._corners = context.buffer(corners.tobytes())
        self.sky_fill, self._blur_fill = self._filling(self.sky), self._filling(self._blur)
        self._looks: dict[frozenset[str], Look] = {}
        self._patches = context.buffer(reserve=1024 * 7 * 4)
        self._patch_quads = context.vertex_array(
            self._contact,
            [
                (self._corners, "2f", "corner"),
                (self._patches, "4f 3f/i", "patch_place", "patch_turn"),
            ],
        )

    def look(self, features: frozenset[str]) -> Look:
        """The shaders with these features alone, compiled when first asked for.

        Args:
            features: some of SUN, NIGHT, WET, BLUR, GLOW, RAIN.
        """
        if features not in self._looks:
            develop = _program(self._context, "fill.vert", "develop.frag", features)
            scene = _program(self._context, "scene.vert", "scene.frag", features)
            self._looks[features] = Look(features, scene, develop, self._filling(develop))
        return self._looks[features]

    def _filling(self, program: moderngl.Program) -> moderngl.VertexArray:
        return self._context.vertex_array(program, [(self._corners, "2f", "corner")])

    def draw_contacts(
        self, things: Sequence[Placed], *, clip_from_world: Float64, **seen: float | Float64
    ) -> None:
        """Darken the ground under things, those near first; blending is the caller's.

        Args:
            things: what stands there.
            clip_from_world: the projection.
            seen: uniforms `darkest`, `eye` and `extinction` of the shaders.
        """
        rows = np.array(
            [
                (
                    *(p.x, p.y, p.z, p.mesh.size_wlh[1] / 2),
                    *(np.cos(p.yaw_rad), np.sin(p.yaw_rad), p.mesh.size_wlh[0] / 2),
                )
                for p in things[:1024]
            ],
            np.float32,
        )
        if not len(rows):
            return
        self._patches.write(rows.tobytes())
        set_uniforms(self._contact, clip_from_world=clip_from_world, **seen)
        self._patch_quads.render(self._context.TRIANGLE_STRIP, instances=len(rows))

    def spread_glow(self, targets: Targets) -> None:
        """Fill `targets.glow_texture` with the blurred light that outshines white."""
        width, height = targets.glow.size
        passes = (
            (targets.colour, targets.between, (1.4 / width, 0.0), 0.86),
            (targets.glow_between, targets.glow, (0.0, 1.4 / height), 0.0),
            (targets.glow_texture, targets.between, (3.4 / width, 0.0), 0.0),
            (targets.glow_between, targets.glow, (0.0, 3.4 / height), 0.0),
        )
        for source, target, stride, threshold in passes:
            target.use()
            source.use(0)
            set_uniforms(self._blur, picture=0, stride=stride, threshold=threshold)
            self._blur_fill.render(self._context.TRIANGLE_STRIP)


def _program(
    context: moderngl.Context, vertex: str, fragment: str, features: frozenset[str] = frozenset()
) -> moderngl.Program:
    folder = Path(__file__).with_name("shaders")
    version, _, body = (folder / fragment).read_text("utf-8").partition("\n")
    defines = "".join(f"#define {feature}\n" for feature in sorted(features))
    return context.program(
        vertex_shader=(folder / vertex).read_text("utf-8"),
        fragment_shader=f"{version}\n{defines}{body}",
    )
