"""The harness runs everything equally often, in turn, and takes ratios round by round."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tailwire.benchmarks.measure import (
    Timings,
    interleave,
    machine_card,
    paired_ratio,
    power_mode,
)


def test_variants_run_in_rotating_order_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    timings = interleave(
        {name: lambda name=name: calls.append(name) for name in "abc"}, rounds=3, warm_up=1
    )
    assert [timing.ms.size for timing in timings.values()] == [3, 3, 3]
    assert len(calls) == 12
    rounds = ["".join(calls[i : i + 3]) for i in range(3, 12, 3)]
    assert rounds == ["abc", "bca", "cab"]


def test_summary_is_of_all_rounds() -> None:
    summary = Timings(np.arange(1.0, 102.0)).summary()
    assert summary["median"] == 51.0
    assert summary["p10"] == 11.0
    assert summary["p99"] == 100.0
    assert summary["min"] == 1.0
    assert summary["runs"] == 101


def test_ratio_is_paired_by_round() -> None:
    # A machine that slows down by ten half way: medians of each side would give 10 or 0.2.
    slow = Timings(np.asarray([20.0, 20.0, 200.0, 200.0, 200.0]))
    fast = Timings(np.asarray([10.0, 10.0, 100.0, 100.0, 100.0]))
    assert paired_ratio(slow, fast) == {"p25": 2.0, "median": 2.0, "p75": 2.0}


def test_card_names_what_is_missing_instead_of_failing() -> None:
    card = machine_card(2, ["no-such-package"])
    assert card["versions"]["no-such-package"] is None
    assert card["threads"] == 2
    assert card["power_mode"]
    assert card["cores"] >= 1


def test_power_mode_is_told_or_said_to_be_absent(tmp_path: Path) -> None:
    assert power_mode(tmp_path) == "not told by this machine"
    governor = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("powersave\n")
    assert power_mode(tmp_path) == "powersave (scaling_governor)"
    profile = tmp_path / "sys/firmware/acpi/platform_profile"
    profile.parent.mkdir(parents=True)
    profile.write_text("balanced\n")
    assert power_mode(tmp_path) == "balanced (platform_profile)"
