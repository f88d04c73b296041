"""Conditions as descriptions of scenes name them."""

from __future__ import annotations

import pytest

from tailwire.runtime.errors import ConfigError
from tailwire.simulation.questions.conditions import CONDITIONS, check_conditions, condition_of


@pytest.mark.parametrize(
    ("description", "condition"),
    [
        ("Parking lot, parked cars", "day"),
        ("Night, big street, bus stop", "night"),
        ("Crossing, Rain, many peds", "rain"),
        ("Fog, T-junction", "fog"),
        ("Train crossing, brainy nightclub", "day"),
        ("", "day"),
    ],
)
def test_the_description_names_the_condition(description: str, condition: str) -> None:
    assert condition_of(description) == condition


def test_unknown_conditions_are_refused() -> None:
    check_conditions(CONDITIONS)
    with pytest.raises(ConfigError, match="snow"):
        check_conditions(["day", "snow"])
