"""Pictures by OpenGL on the CPU (Mesa's llvmpipe through EGL), without a screen.

One context per renderer, used from the thread that made it. What stands is uploaded once per
world, meshes once per shape; a picture costs a shadow map that neighbouring cameras share, one
pass over what the camera sees, and one pass for what the lens does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import ConfigError
from ..meshes import MATERIALS, MeshLibrary
from ..nuscenes.geometry import Float64
from ..rig import CameraMount
from ..world import Condition, Placed, World
from . import gl_programs
from .gl_geometry import MeshCache, StandingScene, turn_and_place
from .gl_lights import NightLights, ShadowMap
from .lamp_map import HEADLIGHT
from .lens import DROP_TEXELS, GRAIN_TEXELS, Lens, drop_tile, grain_tile
from .lighting import Lighting, linear_from_srgb
from .sky import SKY_SIZE, sky_picture
from .surfaces import LAYERS, LEVEL_GROUND, TEXELS, TILE_M, baked_surfaces, layer_index
from .view import AGENTS_WITHIN_M, COARSE_BEYOND_M, View

if TYPE_CHECKING:
    import moderngl

_LIGHT_KINDS = {"": 0, "headlight": 1, "taillight": 2, "window": 3, "lamp": 4}
_UNPLACED = (0.0, 0.0, 0.0)


def made_context() -> moderngl.Context:
    """An OpenGL context without a screen.

    Raises:
        ConfigError: ModernGL or EGL is missing, with the commands that install them.
    """
    try:
        import moderngl
    except ImportError as error:
        raise ConfigError(
            "ModernGL is not installed",
            field="renderer",
            remedy="pip install 'tailwire[sim]', or take the renderer `ray`",
        ) from error
    try:
        settings: dict[str, Any] = {"backend": "egl"}
        return moderngl.create_context(standalone=True, **settings)
    # glcontext raises plain Exception where EGL or its driver is missing.
    except Exception as error:
        raise ConfigError(
            f"EGL gives no OpenGL context: {error}",
            field="renderer",
            remedy="apt install libegl1 libgl1-mesa-dri, or take the renderer `ray`",
        ) from error


def _features(condition: Condition, lighting: Lighting) -> frozenset[str]:
    """What the shaders have to reckon with, see `gl_programs.Programs.look`."""
    lens = Lens.of(condition, lighting)
    wanted = {
        "SUN": any(lighting.sun),
        "NIGHT": lighting.night,
        "WET": condition.wetness > 0,
        "BLUR": lens.blur_s > 0,
        "GLOW": lens.glow > 0,
        "RAIN": lens.rain > 0,
    }
    return frozenset(feature for feature, needed in wanted.items() if needed)


class GlRenderer:
    """Draws worlds with OpenGL; see `CameraRenderer`."""

    name = "gl"

    def __init__(self, library: MeshLibrary) -> None:
        """Make a context, compile the shaders and upload the textures.

        Raises:
            ConfigError: there is no EGL or no ModernGL.
        """
        self._context = made_context()
        self._library = library
        self._programs = gl_programs.Programs(self._context)
        self._meshes = MeshCache(self._context, library)
        self._textures = self._context.texture_array(
            (TEXELS, TEXELS, len(LAYERS)), 4, baked_surfaces().tobytes()
        )
        self._textures.build_mipmaps()
        # Between two sizes of a texture the nearer is taken: blending both costs twice the time.
        self._textures.filter = self._context.LINEAR_MIPMAP_NEAREST, self._context.LINEAR
        self._grain = self._tile(grain_tile(), GRAIN_TEXELS)
        self._drops = self._tile(drop_tile(), DROP_TEXELS)
        self._shadow = ShadowMap(self._context, self._programs)
        self._night = NightLights(self._context)
        self._targets: gl_programs.Targets | None = None
        self._world: World | None = None
        self._look: gl_programs.Look | None = None
        self._standing: StandingScene | None = None
        self._sky = self._context.texture((SKY_SIZE, SKY_SIZE), 3, dtype="f2")
        self._lighting: Lighting | None = None

    def render(
        self, world: World, time_s: float, mount: CameraMount, width: int
    ) -> NDArray[np.uint8]:
        """The image of a camera at a moment.

        Args:
            world: what to look at.
            time_s: since the start of the scene.
            mount: which camera of the ego vehicle.
            width: of the image, pixels; the height is 9/16 of it.

        Returns:
            uint8 `[height, width, 3]`, RGB.
        """
        # Several renderers may live in one thread, each with its own context.
        with self._context:
            return self._rendered(world, time_s, mount, width)

    def _rendered(
        self, world: World, time_s: float, mount: CameraMount, width: int
    ) -> NDArray[np.uint8]:
        self._take(world)
        assert self._lighting is not None
        lighting = self._lighting
        view = View.of(world, time_s, mount, width)
        agents = [*world.placed_agents(time_s), *world.placed_signals(time_s)]
        lens = Lens.of(world.condition, lighting, world.name, mount.channel, round(time_s * 1e6))
        if any(lighting.sun):
            self._shadow.prepare(world, time_s, lighting, self._draw_casters)
        if lighting.night:
            self._night.prepare(world, time_s)
        targets = self._target(width)
        self._draw_scene(view, agents, lighting, targets)
        before = View.of(world, time_s - lens.blur_s, mount, width) if lens.blur_s else view
        picture = self._develop(view, before, lens, targets)
        self._meshes.trim()
        return picture

    def close(self) -> None:
        """Give all memory of the context back."""
        self._context.release()

    def _take(self, world: World) -> None:
        if world is self._world:
            return
        if self._standing is not None:
            self._standing.release()
        self._lighting = lighting = Lighting.of(world.condition)
        self._look = self._programs.look(_features(world.condition, lighting))
        self._write_materials(self._look.scene)
        self._standing = StandingScene(self._context, world, self._library, self._look.scene)
        self._shadow.forget()
        self._night.forget()
        picture = sky_picture(world.condition, lighting, world.name)
        self._sky.write(picture.astype(np.float16).tobytes())
        self._world = world

    def _tile(self, tile: NDArray[np.uint8], texels: int) -> moderngl.Texture:
        return self._context.texture((texels, texels), 3, tile.tobytes())

    def _target(self, width: int) -> gl_programs.Targets:
        size = (width, width * 9 // 16)
        if self._targets is None or self._targets.size != size:
            if self._targets is not None:
                self._targets.release()
            self._targets = gl_programs.Targets(self._context, size)
        return self._targets

    def _write_materials(self, scene: moderngl.Program) -> None:
        colour = np.zeros((gl_programs.MATERIALS, 4), np.float32)
        look = np.zeros((gl_programs.MATERIALS, 4), np.float32)
        for row, material in enumerate(MATERIALS):
            layer = layer_index(material.texture)
            colour[row] = (*linear_from_srgb(material.colour), material.gloss)
            flags = 1 * material.paint + 2 * material.retro + 4 * (material.name in LEVEL_GROUND)
            look[row] = (layer, 1 / TILE_M[layer], _LIGHT_KINDS[material.light], flags)
        gl_programs.set_uniforms(
            scene,
            material_colour=colour,
            material_look=look,
            blotch_layer=float(LAYERS.index("blotches")),
        )

    def _draw_scene(
        self, view: View, agents: list[Placed], lighting: Lighting, targets: gl_programs.Targets
    ) -> None:
        assert self._look is not None
        context, scene = self._context, self._look.scene
        assert self._world is not None and self._standing is not None
        condition = self._world.condition
        gl_programs.set_uniforms(
            scene,
            clip_from_world=view.clip_from_world,
            shadow_from_world=self._shadow.shadow_from_world,
            eye=view.eye,
            to_sun=lighting.to_sun,
            sun=lighting.sun,
            sky_light=lighting.sky,
            bounce=lighting.bounce,
            air=lighting.air,
            extinction=lighting.extinction,
            wetness=condition.wetness,
            lamp_map=self._night.lamp_map,
            headlights=self._night.headlights,
            headlight=HEADLIGHT,
        )
        targets.scene.use()
        targets.scene.clear(depth=1.0)
        context.enable_only(context.DEPTH_TEST | context.CULL_FACE)
        context.front_face = "cw"  # the picture is drawn upside down, see `View`
        context.depth_func = "<"
        for unit, texture in enumerate(
            (self._textures, self._sky, self._shadow.texture, self._night.texture)
        ):
            texture.use(unit)
        gl_programs.set_uniforms(scene, textures=0, sky=1, shadows=2, lamp_light=3)
        near = self._seen(view, agents)
        for placed, distance in near:
            detail = int(distance > COARSE_BEYOND_M)
            self._draw_placed(scene, placed, detail)
        gl_programs.set_uniforms(
            scene, place=_UNPLACED, turn=(1.0, 0.0), thing_paint=(0.0, 0.0, 0.0, -1.0)
        )
        self._standing.draw(view)
        context.enable_only(context.DEPTH_TEST)
        context.depth_func = "<="
        rotation = view.world_from_camera[:3, :3] @ np.linalg.inv(view.intrinsic)
        gl_programs.set_uniforms(
            self._programs.sky, sky=1, world_from_pixel=rotation @ np.diag([*targets.size, 1.0])
        )
        self._programs.sky_fill.render(context.TRIANGLE_STRIP)
        context.enable(context.BLEND)
        blending: Any = context  # its stubs know two factors, OpenGL four
        blending.blend_func = (
            *(context.SRC_ALPHA, context.ONE_MINUS_SRC_ALPHA),
            *(context.ZERO, context.ONE),  # alpha is how much the ground mirrors
        )
        targets.scene.depth_mask = False
        self._programs.draw_contacts(
            [placed for placed, _ in near],
            clip_from_world=view.clip_from_world,
            darkest=lighting.contact_shade,
            eye=view.eye,
            extinction=lighting.extinction,
        )
        targets.scene.depth_mask = True
        context.enable_only(context.NOTHING)

    def _seen(self, view: View, agents: list[Placed]) -> list[tuple[Placed, float]]:
        if not agents:
            return []
        sizes = np.array([placed.mesh.size_wlh for placed in agents])
        centres = np.array([(p.x, p.y, p.z) for p in agents])
        centres[:, 2] += sizes[:, 2] / 2
        distances = np.linalg.norm(centres - view.eye, axis=1)
        seen = view.sees(centres, np.linalg.norm(sizes, axis=1) / 2 + 0.5)
        seen &= distances < AGENTS_WITHIN_M
        order = np.argsort(distances)
        return [(agents[row], float(distances[row])) for row in order if seen[row]]

    def _draw_placed(self, program: moderngl.Program, placed: Placed, detail: int) -> None:
        x, y, z, cos, sin = turn_and_place(placed)
        members: dict[str, Any] = {"place": (x, y, z), "turn": (cos, sin)}
        if program is not self._programs.shadow:
            lights = placed.lights_on * 1 + placed.braking * 2
            members["thing_paint"] = (*placed.paint, lights / 255)
        gl_programs.set_uniforms(program, **members)
        self._meshes.buffers(placed.mesh, detail).draw(program)

    def _draw_casters(self, clip_from_world: Float64, agents: list[Placed]) -> None:
        """Depths of all that throws a shadow, into the bound target."""
        assert self._standing is not None
        program = self._programs.shadow
        gl_programs.set_uniforms(
            program, clip_from_world=clip_from_world, place=_UNPLACED, turn=(1.0, 0.0)
        )
        self._standing.draw_shadows(clip_from_world, program)
        for placed in agents:
            self._draw_placed(program, placed, detail=1)

    def _develop(
        self, view: View, before: View, lens: Lens, targets: gl_programs.Targets
    ) -> NDArray[np.uint8]:
        context, look = self._context, self._look
        assert look is not None
        if lens.glow:
            self._programs.spread_glow(targets)
        rng = lens.rng()
        width, height = targets.size
        self._grain.use(3)
        self._drops.use(4)
        targets.colour.use(0)
        targets.depth.use(1)
        targets.glow_texture.use(2)
        gl_programs.set_uniforms(
            look.develop,
            picture=0,
            depths=1,
            glow=2,
            grain=3,
            drops=4,
            before_from_clip=before.clip_from_world @ np.linalg.inv(view.clip_from_world),
            grain_scale=(width / GRAIN_TEXELS, height / GRAIN_TEXELS),
            grain_shift=rng.uniform(size=2),
            drop_shift=rng.uniform(size=2),
            rain_shift=rng.uniform(size=4),
            rain=lens.rain,
            lens_drops=lens.drops,
            glow_share=lens.glow,
            exposure=lens.exposure,
            horizon=view.horizon / height,
            noise=(lens.shot, lens.read),
        )
        targets.shown.use()
        look.develop_fill.render(context.TRIANGLE_STRIP)
        pixels = targets.shown.read(components=3, alignment=1)
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
