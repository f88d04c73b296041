"""Small made drives with questions, in a second: the tiny world in boxes and flat pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tailwire.simulation import made_drive, made_scene
from tailwire.simulation.drive_parameters import DriveParameters
from tailwire.simulation.made_drive import make_drive
from tailwire.simulation.made_scene import write_scene
from tailwire.simulation.world import World
from tailwire.simulation.world.condition import ConditionName

from .simulation.made_parts import BoxLibrary, FlatRenderer
from .simulation.tiny_world import tiny_world


def quick_drive(
    out: Path,
    scenes: int = 3,
    seconds: float = 1.0,
    conditions: Sequence[ConditionName] = ("day", "fog"),
    seed: int = 7,
) -> Path:
    """A dataroot with questions; of three scenes the last one is held out.

    Two drives of one seed share their keyframes: give each its own to train on both.
    """

    def world(parameters: DriveParameters, index: int) -> World:
        return tiny_world(duration_s=parameters.seconds + 0.2)

    def scene(
        root: Path, parameters: DriveParameters, index: int, told: Callable[[int], None]
    ) -> None:
        write_scene(root, parameters, index, BoxLibrary(), FlatRenderer(), told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_scene, "made_world", world)
        patch.setattr(made_drive, "make_scene", scene)
        made = make_drive(
            out,
            scenes,
            seconds,
            seed,
            tuple(conditions),
            image_width=32,
            camera_hz=4,
            lidar_hz=4,
            workers=0,
        )
    return made.out
