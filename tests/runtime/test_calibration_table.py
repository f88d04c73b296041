"""The table of a pack that says how often it is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailwire.runtime.calibration_table import (
    CalibrationCell,
    CalibrationTable,
    MeasuredPlan,
    read_calibration,
)
from tailwire.runtime.errors import PackError
from tailwire.runtime.pack import load_pack

DRIVING = Path(__file__).parents[2] / "packs" / "driving"
PLAN = MeasuredPlan(
    sensors=("cam_front", "lidar_top"), ages_ms=(500, 0), tail_blocks=4, precision="int8"
)
CELLS = (
    CalibrationCell(PLAN, "exist@front", "night", 8, 6),
    CalibrationCell(MeasuredPlan.newest("lidar_top"), "count", "day", 4, 1),
    CalibrationCell(PLAN.model_copy(update={"held_ms": 500}), "count", "day", 2, 0),
)


def _file(folder: Path, content: str) -> Path:
    path = folder / "calibration.json"
    path.write_text(content, encoding="utf-8")
    return path


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = CalibrationTable.of("made drives", CELLS, dispersion=1.5)
    read = read_calibration(_file(tmp_path, table.to_json()))
    assert read == table
    assert set(read.cells) == set(CELLS)
    assert {cell.accuracy for cell in read.cells} == {0.75, 0.25, 0.0}
    assert read.questions == 14


def test_cells_of_one_place_are_added_up() -> None:
    cell = CalibrationCell(PLAN, "exist", "day", 3, 2)
    table = CalibrationTable.of("", [cell, CELLS[0], cell])
    assert CalibrationCell(PLAN, "exist", "day", 6, 4) in table.cells
    assert len(table.rows) == 2


def test_the_first_format_is_read_too(tmp_path: Path) -> None:
    old = (
        '{"format": 1, "measured_on": "here", "cells": [{"sensors": ["a", "b"], '
        '"question_type": "exist", "condition": "day", "questions": 4, "right": 3}]}'
    )
    table = read_calibration(_file(tmp_path, old))
    assert list(table.cells) == [
        CalibrationCell(MeasuredPlan(sensors=("a", "b"), ages_ms=(0, 0)), "exist", "day", 4, 3)
    ]
    assert table.measured_on == "here"


def _broken(**changes: object) -> str:
    data = json.loads(CalibrationTable.of("", CELLS).to_json())
    return json.dumps(data | changes)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "calibration.json"),
        ("{", "calibration.json"),
        ("[]", "calibration.json"),
        (_broken(format=3), "calibration.json: format"),
        (_broken(rows=[[0, 0, 0, 2, 3]]), "rows.0 has 3 right of 2"),
        (_broken(rows=[[0, 0, 0, 0, 0]]), "rows.0 has 0 right of 0"),
        (_broken(rows=[[9, 0, 0, 2, 1]]), "rows.0 names"),
        (_broken(rows=[[0, 0, 0, 2, 1]] * 2), "rows.1 is there twice"),
        (_broken(rows=[[0, 0, 0, 2, -1]]), "calibration.json: rows.0.4"),
        (_broken(rows=[[0, 0, 0, 2]]), "calibration.json: rows.0.4"),
        (_broken(dispersion="NaN"), "calibration.json: dispersion"),
        (_broken(dispersion=0.5), "calibration.json: dispersion"),
        (_broken(topics=["count"] * 2), "topics has an entry twice"),
        (_broken(plans=[{"sensors": ["a"], "ages_ms": []}]), "calibration.json: plans.0"),
        (_broken(plans=[{"sensors": ["a"], "ages_ms": [-1]}]), "plans.0.ages_ms.0"),
        (_broken(extra=1), "calibration.json: extra"),
        (" " * (8 * 1024**2 + 1), "more than 8388608 bytes"),
        ("[" * 100_000, "calibration.json"),
        (
            '{"format": 1, "measured_on": "", "cells": [{"sensors": ["a"], "question_type": '
            '"exist", "condition": "day", "questions": 2, "right": 3}]}',
            "rows.0 has 3 right of 2",
        ),
        ('{"format": 1, "measured_on": "", "cells": [{}]}', "calibration.json: cells.0.sensors"),
    ],
)
def test_a_broken_one_is_refused_by_name(tmp_path: Path, content: str | None, named: str) -> None:
    path = tmp_path / "calibration.json" if content is None else _file(tmp_path, content)
    with pytest.raises(PackError, match=r"calibration\.json.*Remedy") as caught:
        read_calibration(path)
    assert named in str(caught.value)


def test_the_shipped_pack_knows_its_sensors_and_conditions() -> None:
    pack = load_pack(DRIVING)
    assert pack.manifest.calibration is not None
    table = read_calibration(DRIVING / pack.manifest.calibration)
    known = {sensor.name for sensor in pack.manifest.sensors}
    for plan in table.plans:
        assert set(plan.sensors) <= known
    assert set(table.conditions) == {"day", "night", "rain", "fog"}
