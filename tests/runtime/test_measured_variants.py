"""What measured variants make tails of other precisions worth, and where they are kept."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tailwire.runtime.calibration_table import CalibrationCell, CalibrationTable, MeasuredPlan
from tailwire.runtime.config import DRIVING_PACK, pack_folder
from tailwire.runtime.measured_variants import (
    MeasuredVariant,
    VariantTarget,
    worth_of_tails,
)
from tailwire.runtime.pack import load_pack
from tailwire.runtime.utility import UtilityModel, fit_utility


def variant(
    name: str,
    points: float,
    interval: tuple[float, float] | None = (-0.1, 0.1),
    blind: float | None = 0.4,
) -> MeasuredVariant:
    return MeasuredVariant(
        variant=name,
        measured_on="tests",
        questions=1000,
        right=700 + round(10 * points),
        blind_accuracy=blind,
        difference_points=points,
        interval_points=interval,
        same_answers=900,
        bytes=1,
    )


@pytest.mark.parametrize(
    ("name", "target", "precision"),
    [
        ("fp32,tail=int8", "onnx", "int8"),
        ("fp32,tail=int8", "cpu", None),
        ("cpu:int4", "cpu", "int4"),
        ("cpu:int4", "onnx", None),
        ("tensorrt:fp16,tail=int4", "tensorrt", "int4"),
        ("tensorrt:fp16,tail=int4", "onnx", None),
        ("fp32", "onnx", None),
        ("fp32,encoders=int8", "onnx", None),
        ("fp32,tail=int4,encoders=int8", "onnx", None),
        ("fp32,tail=fp16", "onnx", None),
    ],
)
def test_only_variants_of_the_tail_tell_of_it(
    name: str, target: VariantTarget, precision: str | None
) -> None:
    assert variant(name, 0).tail_precision(target) == precision


def test_points_lost_are_a_share_of_what_sensors_add() -> None:
    # Three of the thirty points that sensors add, measured closely.
    worth = worth_of_tails([variant("fp32", 0), variant("fp32,tail=int4", -3)], "onnx")
    assert worth["fp32"] == 1 and worth["int4"] == pytest.approx(0.9, abs=0.001)


def test_what_few_questions_say_is_believed_less() -> None:
    (close, wide) = (
        worth_of_tails([variant("cpu:int4", -3, interval)], "cpu")["int4"]
        for interval in ((-3.1, -2.9), (-8.0, 2.0))
    )
    assert close < wide < 1
    # A spread of the interval of 2.55 points against 1 known beforehand.
    assert wide == pytest.approx(1 - 0.1 / (1 + (10 / 3.92) ** 2))


def test_nothing_is_worth_more_than_float32() -> None:
    assert worth_of_tails([variant("cpu:int8", 2)], "cpu")["int8"] == 1


def test_what_says_nothing_is_left_out() -> None:
    assert worth_of_tails([], "cpu") == {}
    assert worth_of_tails([variant("fp32,tail=int8", -3)], "cpu") == {}
    assert worth_of_tails([variant("cpu:int8", -3, None)], "cpu") == {}
    assert worth_of_tails([variant("cpu:int8", -3, blind=None)], "cpu") == {}
    assert worth_of_tails([variant("cpu:int8", -3, blind=0.69)], "cpu") == {}


def test_counts_must_fit() -> None:
    with pytest.raises(ValidationError, match="more answers than questions"):
        variant("cpu:int8", 40)


def fitted(table: CalibrationTable, target: VariantTarget = "cpu") -> UtilityModel:
    model = fit_utility(table, load_pack(pack_folder(DRIVING_PACK)).manifest, target)
    assert model is not None
    return model


def table_of(*counts: tuple[str, int, int]) -> CalibrationTable:
    cells = [
        CalibrationCell(
            MeasuredPlan(sensors=("lidar_top",), ages_ms=(0,), tail_blocks=6, precision=precision),  # pyright: ignore[reportArgumentType]
            "count@front",
            "day",
            asked,
            right,
        )
        for precision, asked, right in counts
    ]
    return CalibrationTable.of("tests", cells)


def test_the_scheduler_takes_a_tail_for_what_was_measured_of_it() -> None:
    measured = (variant("cpu:int8", 0), variant("cpu:int4", -3))
    table = table_of(("int8", 1000, 700)).model_copy(update={"variants": measured})
    model = fitted(table)
    assert model.worth(6, "int8") == pytest.approx(1)
    assert model.worth(6, "int4") == pytest.approx(0.9, abs=0.001)
    # As much less at depths that nobody measured.
    assert model.worth(4, "int4") == pytest.approx(0.9, abs=0.001)
    assert model.worth(6, "fp32") == pytest.approx(1)
    assert fitted(table_of(("int8", 1000, 700))).worth(6, "int4") == pytest.approx(1)
    # Those of other engines say nothing of these.
    assert fitted(table, "onnx").worth(6, "int4") == pytest.approx(1)


def test_what_the_calibration_counted_itself_goes_first() -> None:
    counted = table_of(("int8", 1000, 700), ("int4", 500, 350))
    with_variants = counted.model_copy(update={"variants": (variant("cpu:int4", -3),)})
    assert fitted(with_variants).worth(6, "int4") == pytest.approx(fitted(counted).worth(6, "int4"))


def test_a_table_keeps_them() -> None:
    table = table_of(("int8", 10, 7))
    assert '"variants"' not in table.to_json()
    full = table.model_copy(update={"variants": (variant("cpu:int8", -1), variant("fp32", 0))})
    assert CalibrationTable.model_validate_json(full.to_json()) == full
