"""Light and weather of a drive, as the description of its scene names them."""

from __future__ import annotations

from collections.abc import Iterable

from ...runtime.errors import ConfigError

CONDITIONS = ("day", "night", "rain", "fog")


def condition_of(description: str) -> str:
    """The condition that a description of nuScenes names; `day` where it names none."""
    words = description.lower().replace(",", " ").split()
    return next((name for name in CONDITIONS[1:] if name in words), CONDITIONS[0])


def check_conditions(names: Iterable[str], field: str = "conditions") -> None:
    """Refuse conditions that no description is read as.

    Raises:
        ConfigError: one of them is unknown.
    """
    for name in names:
        if name not in CONDITIONS:
            raise ConfigError(
                f"there is no condition '{name}'",
                field=field,
                remedy=f"use {', '.join(CONDITIONS)}",
            )
