"""Messages of errors, which also stand in reports and drops as they are."""

from __future__ import annotations

import pytest

from tailwire.runtime.errors import SensorError, without_remedy


@pytest.mark.parametrize(
    ("problem", "text"),
    [("it is cut off", "cam: it is cut off."), ("it is cut off.", "cam: it is cut off.")],
)
def test_problem_and_remedy_are_sentences(problem: str, text: str) -> None:
    error = SensorError(problem, field="cam", remedy="record it again")
    assert str(error) == f"{text} Remedy: record it again"
    assert without_remedy(str(error)) == "cam: it is cut off"
    assert str(SensorError("it is gone")) == "it is gone" == without_remedy("it is gone")
