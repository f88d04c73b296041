"""Selections in words: "the moving car to the front left of the bus", as templates want them."""

from __future__ import annotations

from dataclasses import dataclass

from .programs import Selection

_PLURALS = {"bus": "buses"}
#: Statuses that are said behind the noun.
_BEHIND = {
    "with rider": "with a rider",
    "without rider": "without a rider",
    "not standing": "not standing upright",
}


@dataclass(frozen=True, slots=True)
class Phrase:
    """A selection inside a template.

    `{a:many}` "moving cars to our back", `{a:bare}` "moving car to our back", `{a:one}` the same
    behind "a" or "another", `{a:the}` behind "the" or "the other".
    """

    selection: Selection

    def __format__(self, form: str) -> str:
        words = noun(self.selection, plural=form == "many") + place(self.selection)
        other = _has_other(self.selection)
        if form == "one":
            return f"another {words}" if other else f"a {words}"
        if form == "the":
            return f"the other {words}" if other else f"the {words}"
        return f"other {words}" if other else words


def noun(selection: Selection, plural: bool = False) -> str:
    """Status and class, e.g. `parked cars` or `bicycle with a rider`."""
    name = selection.name or "thing"
    if plural:
        name = _PLURALS.get(name, f"{name}s")
    if selection.status is None:
        return name
    behind = _BEHIND.get(selection.status)
    return f"{name} {behind}" if behind else f"{selection.status} {name}"


def place(selection: Selection) -> str:
    """Relation and likeness with a space before them, or nothing."""
    words = ""
    anchor = None if selection.anchor is None else noun(selection.anchor)
    if selection.like_anchor:
        words += f" in the same state as the {anchor}"
    if selection.direction is not None:
        whose = f"to our {selection.direction}"
        words += f" {whose}" if anchor is None else f" to the {selection.direction} of the {anchor}"
    return words


def _has_other(selection: Selection) -> bool:
    """Whether the anchor itself could be taken for one of those that are meant."""
    anchor = selection.anchor
    return anchor is not None and selection.name in (None, anchor.name)
