"""What a made drive is made of: the parameters that decide every byte of it.

They are kept beside the drive (`simulate.json`), so that a drive that was cut off goes on only
with the same ones.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, get_args

from .. import __version__
from ..runtime.errors import ConfigError, DataError
from .rig import KEYFRAME_HZ
from .world.condition import CONDITIONS, ConditionName

PARAMETERS_FILE = "simulate.json"
CAMERA_RATES = (12, 6, 4, 2)
LIDAR_RATES = (20, 10, 4, 2)
RendererName = Literal["auto", "gl", "ray"]
MAX_SCENES = 9999
MAX_SECONDS = 120.0

_FIRST_DAY = datetime(2025, 3, 1, tzinfo=timezone.utc)
_HOUR_OF: dict[str, int] = {"fog": 7, "day": 10, "rain": 14, "night": 21}
_SCENES_IN_A_LOG = 5
#: From the start of a scene to that of the next of the same day.
_SCENE_GAP_S = 150


@dataclass(frozen=True)
class DriveParameters:
    """Parameters of `make_drive`; the same ones give the same bytes.

    Attributes:
        scenes: how many.
        seconds: length of each.
        seed: of everything.
        conditions: of light and weather; scene after scene takes the next, and begins again.
        image_width: pixels; images are 16 : 9.
        camera_hz: images a second.
        lidar_hz: sweeps a second.
        renderer: `auto`, `gl` or `ray`.
        layouts: file of real street layouts; None makes streets up.
        meshes: folder of meshes that stand in for our own; None for our own alone.
        version: name of the folder of tables.
    """

    scenes: int
    seconds: float
    seed: int
    conditions: tuple[ConditionName, ...]
    image_width: int = 800
    camera_hz: int = 12
    lidar_hz: int = 20
    renderer: RendererName = "auto"
    layouts: Path | None = None
    meshes: Path | None = None
    version: str = "v1.0-trainval"

    @property
    def keyframes_per_scene(self) -> int:
        """Keyframes of one scene."""
        return math.floor(self.seconds * KEYFRAME_HZ + 1e-9)

    @property
    def identity(self) -> str:
        """What tells its data set from others, the same on every machine."""
        plain = {name: value for name, value in asdict(self).items() if name != "scenes"}
        for name in ("layouts", "meshes"):
            plain[name] = None if plain[name] is None else plain[name].name
        return json.dumps(plain)

    def check(self) -> None:
        """Refuse what makes no drive.

        Raises:
            ConfigError: naming the parameter.
        """
        _in_range("scenes", self.scenes, 1, MAX_SCENES)
        _in_range("seconds", self.seconds, 1 / KEYFRAME_HZ, MAX_SECONDS)
        if not 0 <= self.seed < 2**63:
            raise ConfigError(
                f"{_short(self.seed)} is no seed",
                field="seed",
                remedy=f"give a whole number from 0 to {2**63 - 1}",
            )
        _in_range("image_width", self.image_width, 32, 3840)
        if self.image_width % 16:
            raise ConfigError(
                f"{self.image_width} pixels give no whole height at 16 : 9",
                field="image_width",
                remedy="take a multiple of 16, e.g. 800 or 1600",
            )
        _one_of("camera_hz", self.camera_hz, CAMERA_RATES)
        _one_of("lidar_hz", self.lidar_hz, LIDAR_RATES)
        _one_of("renderer", self.renderer, get_args(RendererName))
        if not 1 <= len(self.conditions) <= 8:
            raise ConfigError(
                f"{len(self.conditions)} conditions are given",
                field="conditions",
                remedy=f"give 1 to 8 of {', '.join(CONDITIONS)}",
            )
        for condition in self.conditions:
            _one_of("conditions", condition, get_args(ConditionName))
        if self.layouts is not None and not self.layouts.is_file():
            raise ConfigError("there is no such file", field=str(self.layouts), remedy="check it")
        if self.meshes is not None and not self.meshes.is_dir():
            raise ConfigError(
                "there is no such folder", field=str(self.meshes), remedy="check the path"
            )

    def scene_name(self, index: int) -> str:
        """Name of a scene, which are counted from 0."""
        return f"scene-{index + 1:04d}"

    def condition(self, index: int) -> ConditionName:
        """Light and weather of a scene."""
        return self.conditions[index % len(self.conditions)]

    def start(self, index: int) -> datetime:
        """When a scene begins; no two scenes overlap.

        Some scenes of each condition share a day, each at the hour of its condition.
        """
        in_a_day = _SCENES_IN_A_LOG * len(self.conditions)
        day, slot = divmod(index, in_a_day)
        hour = _HOUR_OF[self.condition(index)]
        return _FIRST_DAY + timedelta(days=day, hours=hour, seconds=slot * _SCENE_GAP_S)

    def logfile(self, index: int, location: str) -> str:
        """Name of the log of a scene: a day's scenes of one place and condition share one."""
        return f"{location}-{self.start(index):%Y-%m-%d}-{self.condition(index)}"

    def to_json(self) -> dict[str, Any]:
        """For messages to other processes; `from_json` is the way back."""
        plain = asdict(self)
        return plain | {name: _text(plain[name]) for name in ("layouts", "meshes")}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> DriveParameters:
        """What `to_json` gave."""
        named: dict[str, Any] = {field.name: plain[field.name] for field in fields(cls)}
        for name in ("layouts", "meshes"):
            named[name] = None if named[name] is None else Path(named[name])
        named["conditions"] = tuple(named["conditions"])
        return cls(**named)

    def record(self) -> dict[str, Any]:
        """As kept beside the drive: files by their content, so that they may be moved."""
        plain = self.to_json()
        plain["conditions"] = list(self.conditions)
        plain["layouts"] = None if self.layouts is None else _digest([self.layouts])
        plain["meshes"] = (
            None if self.meshes is None else _digest(sorted(self.meshes.rglob("*")), self.meshes)
        )
        return {"tailwire": __version__, **plain}


def check_same(recorded: Path, parameters: DriveParameters) -> None:
    """Refuse to go on with a drive that was begun with other parameters.

    Args:
        recorded: the file beside the drive.
        parameters: to go on with.

    Raises:
        DataError: naming what differs.
    """
    try:
        before = json.loads(recorded.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"this holds no parameters of a drive: {error}",
            field=str(recorded),
            remedy="remove the folder around it",
        ) from error
    now = json.loads(json.dumps(parameters.record()))
    if not isinstance(before, dict) or before.keys() != now.keys():
        raise DataError(
            "the drive was begun by another version of Tailwire",
            field=str(recorded),
            remedy="remove the folder around it",
        )
    for name, value in now.items():
        if before[name] != value:
            raise DataError(
                f"the drive was begun with {name} {_short(before[name])}, "
                f"and is to go on with {_short(value)}",
                field=name,
                remedy=f"give the same {name}, or remove {recorded.parent} to begin anew",
            )


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(
            f"{value} is out of range", field=name, remedy=f"take {low:g} to {high:g}"
        )


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        choices = ", ".join(map(str, known))
        raise ConfigError(f"{value!r} is unknown", field=name, remedy=f"take one of {choices}")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _digest(paths: list[Path], root: Path | None = None) -> str:
    """sha256 of the names below `root` and the contents of files."""
    total = hashlib.sha256()
    for path in paths:
        if path.is_file():
            name = "" if root is None else path.relative_to(root).as_posix()
            total.update(f"{name}\0{path.stat().st_size}\0".encode())
            total.update(path.read_bytes())
    return total.hexdigest()
