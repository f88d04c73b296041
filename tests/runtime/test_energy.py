"""Energy meters against sysfs trees made here, in the layouts of kernels that have them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tailwire.runtime.energy import (
    MOST_SECONDS_APART,
    EnergyAbsent,
    EnergyMeter,
    open_energy_meter,
)
from tailwire.runtime.errors import ConfigError

HWMON = "sys/class/hwmon/hwmon3"
RAPL = "sys/class/powercap"
RANGE_UJ = 262_143_328_850


class Clock:
    """Seconds that pass when a test says so, and `step` of them at each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step, self.looks = 100.0, step, 0

    def __call__(self) -> float:
        self.now += self.step
        self.looks += 1
        return self.now


def write(root: Path, files: Mapping[str, object]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="ascii")


def opened(root: Path, clock: Clock) -> EnergyMeter:
    meter = open_energy_meter(root, clock)
    assert isinstance(meter, EnergyMeter), meter
    return meter


def absent(root: Path) -> str:
    meter = open_energy_meter(root, Clock())
    assert isinstance(meter, EnergyAbsent)
    return meter.reason


def orin_nx(volts_mv: int = 5000, amperes_ma: int = 2000) -> dict[str, object]:
    """Channels of an Orin NX, with the driver's shunt voltages and their sum."""
    files: dict[str, object] = {f"{HWMON}/name": "ina3221", "sys/class/hwmon/hwmon0/name": "nvme"}
    for channel, label in enumerate(("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), start=1):
        files[f"{HWMON}/in{channel}_label"] = label
        files[f"{HWMON}/in{channel}_enable"] = 1
        files[f"{HWMON}/in{channel}_input"] = volts_mv
        files[f"{HWMON}/curr{channel}_input"] = amperes_ma // channel
        files[f"{HWMON}/in{channel + 3}_input"] = 8000
    return files | {f"{HWMON}/in7_label": "sum of shunt voltages", f"{HWMON}/in7_input": 24000}


def rapl(energies_uj: Mapping[str, int]) -> dict[str, object]:
    names = {"0": "package-0", "0:0": "core", "0:2": "dram", "1": "package-1", "2": "psys"}
    files: dict[str, object] = {f"{RAPL}/intel-rapl/enabled": 1}
    for domain, energy in energies_uj.items():
        folder = f"{RAPL}/intel-rapl:{domain}"
        files[f"{folder}/name"] = names[domain]
        files[f"{folder}/energy_uj"] = energy
        files[f"{folder}/max_energy_range_uj"] = RANGE_UJ
    return files


def test_energy_of_a_rail_is_the_integral_of_volts_times_amperes(tmp_path: Path) -> None:
    write(tmp_path, orin_nx())
    clock = Clock()
    meter = opened(tmp_path, clock)
    rng = np.random.default_rng(1)
    stamps = np.cumsum(rng.uniform(0.01, 0.5, 50))
    volts, amperes = rng.integers(4800, 5200, 50), rng.integers(500, 4000, 50)
    readings = []
    for stamp, mv, ma in zip(stamps, volts, amperes, strict=True):
        clock.now = 100.0 + float(stamp)
        write(tmp_path, {f"{HWMON}/in1_input": mv, f"{HWMON}/curr1_input": ma})
        readings.append(meter.read())
    use = meter.between(readings[3], readings[-1])
    watts = volts * amperes * 1e-6
    areas = (watts[4:] + watts[3:-1]) / 2 * np.diff(stamps[3:])
    assert use.joules == pytest.approx(areas.sum())
    assert use.seconds == pytest.approx(stamps[-1] - stamps[3])
    assert use.reason == ""
    assert (
        use.method
        == ("INA3221 rail VDD_IN (hwmon, power integrated between readings)")
        == meter.method
    )


def test_rails_are_summed_where_none_feeds_the_module(tmp_path: Path) -> None:
    """As on AGX Orin: two chips, channels that are not connected or switched off."""
    write(tmp_path, {f"{HWMON}/name": "ina3221", "sys/class/hwmon/hwmon4/name": "ina3221"})
    channels = [(HWMON, 1, "VDD_GPU_SOC", 1), (HWMON, 2, "VDD_CPU_CV", 1), (HWMON, 3, "OFF", 0)]
    for folder, channel, label, enable in (*channels, ("sys/class/hwmon/hwmon4", 1, "NC", 1)):
        write(
            tmp_path,
            {
                f"{folder}/in{channel}_label": label,
                f"{folder}/in{channel}_enable": enable,
                f"{folder}/in{channel}_input": 10_000,
                f"{folder}/curr{channel}_input": 1000 * channel,
            },
        )
    clock = Clock(step=0.5)
    meter = opened(tmp_path, clock)
    use = meter.between(meter.read(), meter.read())
    assert use.joules == pytest.approx((10 + 20) * 0.5)
    assert "sum of rails VDD_GPU_SOC + VDD_CPU_CV (" in use.method


def test_microwatts_are_taken_where_the_driver_gives_them(tmp_path: Path) -> None:
    write(tmp_path, orin_nx() | {f"{HWMON}/power1_input": 7_000_000})
    meter = opened(tmp_path, Clock(step=0.5))
    assert meter.between(meter.read(), meter.read()).joules == pytest.approx(3.5)


@pytest.mark.parametrize("with_power", [True, False])
def test_rails_of_older_kernels(tmp_path: Path, with_power: bool) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    rails = {"POM_5V_IN": 4000, "POM_5V_GPU": 1000, "POM_5V_CPU": 1500}
    for channel, (label, milliwatts) in enumerate(rails.items()):
        write(tmp_path, {f"{folder}/rail_name_{channel}": label})
        if with_power:
            write(tmp_path, {f"{folder}/in_power{channel}_input": milliwatts})
        else:
            write(tmp_path, {f"{folder}/in_voltage{channel}_input": 5000})
            write(tmp_path, {f"{folder}/in_current{channel}_input": milliwatts // 5})
    meter = opened(tmp_path, Clock(step=0.25))
    assert meter.between(meter.read(), meter.read()).joules == pytest.approx(1.0)
    assert meter.method.startswith("INA3221 rail POM_5V_IN (iio")


def test_powers_read_too_far_apart_give_no_energy_and_no_later_loss(tmp_path: Path) -> None:
    write(tmp_path, orin_nx())
    clock = Clock()
    meter = opened(tmp_path, clock)
    first = meter.read()
    clock.now += MOST_SECONDS_APART * 4
    second = meter.read()
    clock.now += 0.5
    third = meter.read()
    lost = meter.between(first, third)
    assert lost.joules is None
    assert lost.seconds == pytest.approx(4.5)
    assert "not read for 4.0 s" in lost.reason
    assert meter.between(second, third).joules == pytest.approx(5.0)


def test_packages_and_their_memory_are_counted_once(tmp_path: Path) -> None:
    start = {"0": 5_000_000, "0:0": 1, "0:2": 9_000_000, "1": 70_000_000, "2": 3}
    write(tmp_path, rapl(start))
    meter = opened(tmp_path, Clock(step=1.0))
    first = meter.read()
    used = {"0": 2_500_000, "0:0": 2_000_000, "0:2": 250_000, "1": 4_000_000, "2": 9_000_000}
    write(tmp_path, rapl({domain: start[domain] + used[domain] for domain in start}))
    use = meter.between(first, meter.read())
    assert use.joules == pytest.approx(2.5 + 0.25 + 4.0)
    assert use.method == "RAPL package-0 + dram-0 + package-1 (powercap energy_uj)"


def test_a_counter_that_goes_round_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path, rapl({"0": RANGE_UJ - 30_000_000}))
    clock = Clock()
    meter = opened(tmp_path, clock)
    first = last = meter.read()
    total_uj = RANGE_UJ - 30_000_000
    for _ in range(40):
        clock.now += 300.0
        total_uj += 20_000_000_000
        write(tmp_path, rapl({"0": total_uj % RANGE_UJ}))
        last = meter.read()
    assert meter.between(first, last).joules == pytest.approx(40 * 20_000.0)


def test_a_counter_left_alone_may_have_gone_round_twice(tmp_path: Path) -> None:
    write(tmp_path, rapl({"0": 0}))
    clock = Clock()
    meter = opened(tmp_path, clock)
    first = meter.read()
    clock.now += 24 * 3600.0
    use = meter.between(first, meter.read())
    assert use.joules is None
    assert "more than once" in use.reason


def test_a_counter_that_was_set_back_has_not_gone_round(tmp_path: Path) -> None:
    write(tmp_path, rapl({"0": 50_000_000_000}))
    meter = opened(tmp_path, Clock(step=2.0))
    first = meter.read()
    write(tmp_path, rapl({"0": 1_000_000}))
    use = meter.between(first, meter.read())
    assert use.joules is None
    assert "package-0 was set back" in use.reason


def test_rails_come_before_counters(tmp_path: Path) -> None:
    write(tmp_path, orin_nx() | rapl({"0": 0}))
    assert opened(tmp_path, Clock()).method.startswith("INA3221")


def test_a_machine_without_meters_says_what_was_looked_for(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/hwmon/hwmon0/name": "coretemp"})
    reason = absent(tmp_path)
    assert "no INA3221 rails in sys/class/hwmon" in reason
    assert "no RAPL packages in sys/class/powercap" in reason


def test_counters_for_the_administrator_alone_are_absent_with_that_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As since Linux 5.10, for fear of side channels; root is asked here too."""
    write(tmp_path, rapl({"0": 1}))
    read_text = Path.read_text

    def guarded(path: Path, encoding: str, errors: str) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, encoding=encoding, errors=errors)

    monkeypatch.setattr(Path, "read_text", guarded)
    reason = absent(tmp_path)
    assert "intel-rapl:0/energy_uj may not be read by this user" in reason
    assert "chmod" in reason


@pytest.mark.parametrize("content", ["", "n/a", "nan", "1e999"])
def test_files_without_a_number_are_named(tmp_path: Path, content: str) -> None:
    write(tmp_path, rapl({"0": 1}) | {f"{RAPL}/intel-rapl:0/energy_uj": content})
    assert "intel-rapl:0/energy_uj holds no number" in absent(tmp_path)
    write(tmp_path, rapl({"0": 1}) | {f"{RAPL}/intel-rapl:0/max_energy_range_uj": 0})
    assert "max_energy_range_uj is not positive" in absent(tmp_path)


@pytest.mark.parametrize("failure", ["gone", "garbage"])
def test_a_source_that_fails_later_is_a_break_and_comes_back(tmp_path: Path, failure: str) -> None:
    write(tmp_path, orin_nx())
    meter = opened(tmp_path, Clock(step=0.5))
    first, second = meter.read(), meter.read()
    current = tmp_path / HWMON / "curr1_input"
    if failure == "gone":
        current.unlink()
    else:
        current.write_text("?", encoding="ascii")
    broken = meter.read()
    write(tmp_path, orin_nx())
    third, fourth = meter.read(), meter.read()
    assert meter.between(first, second).joules == pytest.approx(5.0)
    assert meter.between(first, fourth).joules is None
    assert "curr1_input" in meter.between(second, broken).reason
    assert meter.between(third, fourth).joules == pytest.approx(5.0)


def test_sampling_fills_the_time_between_two_readings(tmp_path: Path) -> None:
    write(tmp_path, orin_nx())
    clock = Clock(step=0.4)
    meter = opened(tmp_path, clock)
    first = meter.read()
    with meter.sampling(period_s=0.001):
        give_up = time.monotonic() + 20.0
        while clock.looks < 12 and time.monotonic() < give_up:
            time.sleep(0.001)
    looks = clock.looks
    use = meter.between(first, meter.read())
    assert looks >= 12
    assert use.seconds > MOST_SECONDS_APART
    assert use.joules == pytest.approx(10.0 * use.seconds)
    assert clock.looks == looks + 1


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan"), 5.0])
def test_a_period_that_cannot_be_is_refused(tmp_path: Path, period_s: float) -> None:
    write(tmp_path, orin_nx())
    meter = opened(tmp_path, Clock())
    with pytest.raises(ConfigError, match="period_s"), meter.sampling(period_s):
        pass
