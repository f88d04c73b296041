"""Limits as people type them, and where they end up."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest

from tailwire.commands.arguments import add_runtime_arguments, read_arguments
from tailwire.commands.budget_options import add_budget_arguments
from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.errors import ConfigError


def read(*words: str) -> RuntimeConfig:
    parser = ArgumentParser()
    add_runtime_arguments(parser)
    add_budget_arguments(parser)
    return read_arguments(parser.parse_args(words))


@pytest.mark.parametrize(
    ("option", "typed", "field", "value"),
    [
        ("flops", "8G", "flops", 8_000_000_000),
        ("flops", "8.5 GFLOPs", "flops", 8_500_000_000),
        ("flops", "5e9", "flops", 5_000_000_000),
        ("flops", "123456", "flops", 123_456),
        ("latency", "40", "latency_ms", 40.0),
        ("latency", "40ms", "latency_ms", 40.0),
        ("latency", "0.25 s", "latency_ms", 250.0),
        ("memory", "500MB", "memory_bytes", 500_000_000),
        ("memory", "1.5GiB", "memory_bytes", 1_610_612_736),
        ("memory", "700000000", "memory_bytes", 700_000_000),
        ("energy", "300", "energy_mj", 300.0),
        ("energy", "1.2J", "energy_mj", 1200.0),
    ],
)
def test_amounts_have_units(option: str, typed: str, field: str, value: float) -> None:
    assert getattr(read(f"--budget-{option}", typed).budget, field) == value


@pytest.mark.parametrize("typed", ["", "G", "-8G", "0", "nan", "inf", "8 apples", "8GB", "1..2"])
def test_what_is_no_amount_is_refused_by_its_option(typed: str) -> None:
    with pytest.raises(ConfigError, match="--budget-flops"):
        read(f"--budget-flops={typed}")


def test_limits_that_are_typed_win_over_those_of_a_file_and_leave_the_others(
    tmp_path: Path,
) -> None:
    file = tmp_path / "runtime.yaml"
    file.write_text("policy: greedy\nbudget: {flops: 7, latency_ms: 50}\n")
    config = read("--config", str(file), "--budget-latency", "40", "--policy", "optimal")
    assert (config.budget.flops, config.budget.latency_ms) == (7, 40)
    assert config.policy == "optimal"
    assert read("--config", str(file)).policy == "greedy"
    assert read().policy == "fixed"
    assert read().budget.model_dump(exclude_none=True) == {}
