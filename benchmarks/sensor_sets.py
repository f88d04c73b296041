"""Sets of sensors that are compared with each other, from patterns such as `cam_*`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from ..runtime.errors import ConfigError, SensorError

OBJECTS_BOUND = "ground-truth objects"
"""Name of the set that bounds the others."""


def parse_sensor_sets(
    texts: Sequence[Sequence[str]], modalities: Mapping[str, str], option: str
) -> dict[str, tuple[str, ...]]:
    """Find the sensors that patterns mean.

    Sensors of the modality `objects` may be ground truth, so no pattern means them: they take part
    where they are named in full.

    Args:
        texts: one list of patterns per set; an empty one is every sensor that is no `objects`.
        modalities: modality by sensor, of all sensors of a pack, in its order.
        option: named in errors.

    Returns:
        Sensors in the pack's order, by a name for the set.

    Raises:
        SensorError: a pattern fits no sensor.
        ConfigError: two sets are the same.
    """
    found: dict[str, tuple[str, ...]] = {}
    ordinary = [name for name, modality in modalities.items() if modality != "objects"]
    for patterns in texts:
        chosen: set[str] = set() if patterns else set(ordinary)
        for pattern in patterns:
            fitting = [name for name in ordinary if fnmatchcase(name, pattern)]
            fitting += [pattern] if pattern in modalities else []
            if not fitting:
                raise SensorError(
                    f"the pack has no sensor '{pattern}'",
                    field=option,
                    remedy=f"use some of {', '.join(modalities)}, or a pattern such as cam_*",
                )
            chosen.update(fitting)
        if not chosen:
            raise SensorError(
                "the pack has no sensor but ground-truth objects",
                field=option,
                remedy=f"name them: {option} {','.join(modalities)}",
            )
        sensors = tuple(name for name in modalities if name in chosen)
        if sensors in found.values():
            raise ConfigError(
                f"the sensors {', '.join(sensors)} are given twice",
                field=option,
                remedy="name each set once",
            )
        found[",".join(patterns) or "all sensors"] = sensors
    return found


def bound_set(modalities: Mapping[str, str], objects: str) -> tuple[str, ...] | None:
    """The set that gives the bound, None where the pack cannot.

    Args:
        modalities: modality by sensor of the pack.
        objects: name of the sensor that annotations are given as.
    """
    return (objects,) if modalities.get(objects) == "objects" else None
