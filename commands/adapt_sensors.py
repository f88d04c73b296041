"""Which sensors `tailwire adapt` means: names, patterns (`cam_*`) or kinds (`lidar`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ..runtime.errors import ConfigError, SensorError
from .arguments import comma_list

#: Ground truth or a detector's boxes: meant only where it is named.
_OBJECTS = "objects"
_KINDS = {"cam": "camera", "cameras": "camera"}


@dataclass(frozen=True)
class WantedChange:
    """What the options come to.

    Attributes:
        before: sensors that serve before, in the pack's order.
        add: sensors that come.
        replace: by sensor that goes, the one that comes.
        drop: sensors that go.
    """

    before: tuple[str, ...]
    add: tuple[str, ...] = ()
    replace: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()


def wanted_change(
    modalities: Mapping[str, str],
    *,
    add: str | None = None,
    replace: Sequence[str] = (),
    drop: str | None = None,
    before: Sequence[str] | None = None,
) -> WantedChange:
    """Find the sensors that are meant.

    Args:
        modalities: by sensor, of all sensors of the pack in its order.
        add: as typed.
        replace: as typed, `GOING=COMING` each.
        drop: as typed.
        before: sensors that serve before; None for all of the pack but those that come and
            `objects`.

    Raises:
        SensorError: the pack has no such sensor.
        ConfigError: a text is no list, or has no `=`.
    """
    coming = list(meant_sensors(add, modalities, "--add")) if add is not None else []
    going = list(meant_sensors(drop, modalities, "--drop")) if drop is not None else []
    pairs: dict[str, str] = {}
    for text in replace:
        old, sign, new = text.partition("=")
        if not sign:
            raise ConfigError(
                f"there is no '=' in '{text}'",
                field="--replace",
                remedy="write what goes and what comes, e.g. --replace cam_*=lidar_top",
            )
        olds = meant_sensors(old, modalities, "--replace")
        news = meant_sensors(new, modalities, "--replace")
        pairs.update(zip(olds, news, strict=False))
        # Many may make way for one, or one for many.
        going += olds[len(news) :]
        coming += news[len(olds) :]
    if before is None:
        new = {*coming, *pairs.values()}
        before = [
            name
            for name, kind in modalities.items()
            if name not in new and (kind != _OBJECTS or name in (*going, *pairs))
        ]
    return WantedChange(tuple(before), tuple(coming), pairs, tuple(going))


def meant_sensors(text: str, modalities: Mapping[str, str], option: str) -> tuple[str, ...]:
    """Sensors in the pack's order.

    Args:
        text: names, patterns and kinds with commas between them.
        modalities: by sensor.
        option: named in errors.

    Raises:
        SensorError: the pack has no such sensor.
        ConfigError: a part is empty.
    """
    found: set[str] = set()
    for part in comma_list(text, option):
        ordinary = [name for name, kind in modalities.items() if kind != _OBJECTS]
        fitting = {part} & set(modalities) or {n for n in ordinary if fnmatchcase(n, part)}
        if not fitting:
            kind = _KINDS.get(part, part)
            fitting = {name for name, modality in modalities.items() if modality == kind}
        if not fitting:
            raise SensorError(
                f"the pack has no sensor '{part}'",
                field=option,
                remedy=f"use some of {', '.join(modalities)}, a pattern such as cam_*, or a kind: "
                f"{', '.join(dict.fromkeys(modalities.values()))}",
            )
        found |= fitting
    return tuple(name for name in modalities if name in found)
