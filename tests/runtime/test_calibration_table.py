"""The table of a pack that says how often it is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailwire.runtime.calibration_table import (
    CalibrationCell,
    CalibrationTable,
    read_calibration,
)
from tailwire.runtime.errors import PackError
from tailwire.runtime.pack import load_pack

DRIVING = Path(__file__).parents[2] / "packs" / "driving"


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    cell = CalibrationCell(
        sensors=("lidar_top",), question_type="exist", condition="night", questions=8, right=6
    )
    table = CalibrationTable(measured_on="made drives", cells=(cell,))
    path = tmp_path / "calibration.json"
    path.write_text(table.model_dump_json(), encoding="utf-8")
    assert read_calibration(path) == table
    assert read_calibration(path).cells[0].accuracy == 0.75


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        '{"format": 2, "measured_on": "", "cells": []}',
        '{"format": 1, "measured_on": "", "cells": [{"sensors": ["a"], "question_type": "exist", '
        '"condition": "day", "questions": 2, "right": 3}]}',
    ],
)
def test_a_broken_one_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "calibration.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(PackError, match=r"calibration\.json: .*Remedy"):
        read_calibration(path)


def test_the_shipped_pack_knows_its_sensors_and_conditions() -> None:
    pack = load_pack(DRIVING)
    assert pack.manifest.calibration is not None
    table = read_calibration(DRIVING / pack.manifest.calibration)
    known = {sensor.name for sensor in pack.manifest.sensors}
    for cell in table.cells:
        assert set(cell.sensors) <= known
    assert {cell.condition for cell in table.cells} == {"day", "night", "rain", "fog"}
