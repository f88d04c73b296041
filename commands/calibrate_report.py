"""What `tailwire calibrate` prints: how right the main plans are, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .printing import print_fact, print_table

if TYPE_CHECKING:
    from ..benchmarks.calibration import Calibration
    from ..benchmarks.exam import Exam
    from ..benchmarks.utility_comparison import Comparison
    from ..runtime.calibration_table import CalibrationTable, MeasuredPlan
    from ..runtime.pack import PackManifest


@dataclass(frozen=True)
class CalibrationReport:
    """All that is told of a calibration.

    Attributes:
        table: that was written.
        calibration: that made it.
        exam: what was asked.
        pack: that was measured.
        target: folder of the pack that has the table now.
        compared: how well models predict scenes left out; none where that was not asked for.
    """

    table: CalibrationTable
    calibration: Calibration
    exam: Exam
    pack: PackManifest
    target: Path
    compared: Sequence[Comparison] = ()

    def tell(self, *, as_json: bool) -> None:
        """Print it.

        Args:
            as_json: one line of JSON instead of text.
        """
        found = self._figures()
        if as_json:
            print(json.dumps(found))
            return
        print_fact("pack", f"{found['pack']}, table written to {self.target}")
        print_fact("measured", self.table.measured_on)
        print_fact(
            "answers",
            f"{found['answers']} under {found['plans']} plans, {len(self.table.rows)} cells, "
            f"scenes scatter {self.table.dispersion:.1f} times as much as single answers would",
        )
        rows = [("plan", "answers", "right")]
        rows += [(one["plan"], str(one["answers"]), one["share"]) for one in found["by_plan"]]
        print_table(rows)
        if self.compared:
            rows = [("on scenes left out", "log loss", "right where it chooses")]
            rows += [
                (one.name, "" if one.log_loss is None else f"{one.log_loss:.4f}", share)
                for one in self.compared
                for share in (f"{one.chosen:.1%}",)
            ]
            print_table(rows)
        for drive, reason in self.calibration.broken.items():
            print_fact("broken", f"{drive}: {reason}")

    def _figures(self) -> dict[str, Any]:
        totals: dict[int, list[int]] = {}
        for plan, _, _, questions, right in self.table.rows:
            total = totals.setdefault(plan, [0, 0])
            total[0] += questions
            total[1] += right
        by_plan = [
            {
                "plan": name_of(self.table.plans[number]),
                "answers": asked,
                "right": right,
                "accuracy": right / asked,
                "share": f"{right / asked:.1%}",
            }
            for number, (asked, right) in sorted(
                totals.items(), key=lambda one: -one[1][1] / one[1][0]
            )
        ]
        right = sum(total[1] for total in totals.values())
        return {
            "pack": f"{self.pack.name} {self.pack.version}",
            "out": str(self.target),
            "measured_on": self.table.measured_on,
            "plans": len(self.table.plans),
            "cells": len(self.table.rows),
            "answers": self.table.questions,
            "accuracy": right / self.table.questions,
            "dispersion": self.table.dispersion,
            "questions": len(self.exam.items),
            "keyframes": len(self.calibration.counts),
            "scenes": len(self.exam.drives),
            "scenes_broken": self.calibration.broken,
            "plans_left_out": self.calibration.left_out,
            "seconds": round(self.calibration.seconds, 1),
            "compared": [asdict(one) for one in self.compared],
            "by_plan": by_plan,
        }


def name_of(plan: MeasuredPlan) -> str:
    """A plan in words, e.g. `cam_front 0.5 s, lidar_top; depth 4, int8`."""
    parts = [
        f"{sensor} {age / 1000:g} s" if age else sensor
        for sensor, age in zip(plan.sensors, plan.ages_ms, strict=True)
    ]
    again = f"; given again after {plan.held_ms / 1000:g} s" if plan.held_ms else ""
    return f"{', '.join(parts) or 'no sensor'}; depth {plan.tail_blocks}, {plan.precision}{again}"
