"""`tailwire bench adaptation`: sensors switched at night, beside input-level models."""

from __future__ import annotations

import contextlib
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .arguments import comma_list
from .bench_adaptation_options import add_adaptation, chosen_settings
from .progress import ProgressLine
from .train_common import check_torch, draw, not_negative, positive, training_cache

if TYPE_CHECKING:
    from ..benchmarks.adaptation_data import BenchData
    from ..benchmarks.adaptation_plan import BenchSettings
    from ..training.device_heads import HeadFiles
    from ..training.prepared_data import PreparedData

__all__ = ["add_adaptation", "print_adaptation", "run_adaptation"]


def run_adaptation(arguments: Namespace) -> dict[str, Any]:
    """Make the rows that the folder lacks, and count.

    Raises:
        TailwireError: an option is wrong, the data do not fit or are too little, or torch or the
            device is missing.
    """
    positive(arguments, "switch_steps", "tail_times", "day_times", "batch", "questions", "minutes")
    positive(arguments, "threads", "ships", "width", "layers", "heads")
    not_negative(arguments, "seed", "lora_rank", "row_weight", "summary_steps", "readout_steps")
    not_negative(arguments, "steps")
    check_torch()
    from .train_connections_options import check_device

    check_device(arguments.device)
    import torch

    from ..assembly import model_path
    from ..benchmarks.adaptation import AdaptationBench
    from ..benchmarks.adaptation_data import BenchData
    from ..benchmarks.adaptation_figures import figures
    from ..benchmarks.adaptation_plots import draw_adaptation
    from ..benchmarks.adaptation_record import BenchRecord
    from ..export.checkpoint import open_checkpoint
    from ..runtime.config import read_config
    from ..training.prepared_data import of_conditions

    begun = time.monotonic()
    torch.set_num_threads(arguments.threads)
    settings = chosen_settings(arguments)
    model = read_config(None, model=arguments.model, threads=arguments.threads).model
    checkpoint = open_checkpoint(model_path(model))
    start, start_hash, start_blocks = _start(arguments, settings, checkpoint.config)
    with ProgressLine(arguments.json) as line:
        prepared = _prepared(arguments, settings, model, line)
        base, coming = (
            _chosen(getattr(arguments, name), prepared, f"--{name}") for name in ("base", "add")
        )
        for sensor in {*base} & {*coming}:
            raise ConfigError(
                f"'{sensor}' is there already by day", field="--add", remedy="name other sensors"
            )
        known = prepared.origin["sensors"]
        kept = {name: known[name] for name in known if name in (*base, *coming)}
        data = BenchData(of_conditions(prepared, ("day", *settings.conditions)), kept)
        record = BenchRecord(
            arguments.out,
            {
                **settings.as_json(),
                "base": base,
                "coming": coming,
                "from": start_hash,
                "start": None if arguments.start is None else _name_of(arguments.start),
                "data": dict(prepared.origin),
            },
        )
        bench = AdaptationBench(
            data,
            checkpoint,
            settings,
            torch.device(arguments.device),
            record,
            base=base,
            coming=coming,
            start=lambda spec: start(spec, data),
            start_blocks=start_blocks,
            heads=_head_files(arguments.device, model),
            progress=line,
        )

        def is_late() -> bool:
            limit = arguments.minutes
            return limit is not None and time.monotonic() - begun > 60 * limit

        complete = bench.run(is_late, _only(arguments.only, settings))
    tails = [f"tail-{depth}" for depth in sorted({*settings.depths, settings.ships})]
    methods = [*tails, *settings.baselines]
    found = figures(record.rows, bench.exams, settings.conditions, settings.ships, methods)
    figure = None
    if settings.conditions:
        first = settings.conditions[0]
        blind = bench.exams[first].blind
        figure = draw(
            record.figure,
            lambda: draw_adaptation(record.figure, record.rows, found["recovery"], first, blind),
        )
    return {
        "benchmark": "adaptation",
        "settings": {**settings.as_json(), "base": base, "add": coming, "model": model},
        "data": dict(prepared.origin),
        "machine": _machine(arguments),
        "method": _METHOD,
        "complete": complete,
        "figure": figure,
        "seconds": round(time.monotonic() - begun, 1),
        **found,
    }


#: What the figures mean, in the result itself.
_METHOD = (
    "FLOPs by formula, 2 per multiply-add, forward and backward of padded batches, heads of texts "
    "once; held-out scenes, a question is right if all its decisions are; accuracy after the last "
    "step, flops_ratio_vs_full up to the first look at which full fine-tuning's best is reached; "
    "full_is: 'full' is an input-level model, 'prefix-full' the whole model trained behind the "
    "same connection from the same weights; standard errors and intervals are those of scenes"
)


def _head_files(device: str, model: str) -> HeadFiles | None:
    """Where head states are kept; a GPU computes them as fast as they can be read."""
    if device != "cpu":
        return None
    from ..runtime.model_registry import ModelRegistry
    from ..training.device_heads import HeadFiles

    return HeadFiles(training_cache() / "heads", ModelRegistry().sha256(model))


def _only(text: str | None, settings: BenchSettings) -> list[str] | None:
    if text is None:
        return None
    from ..benchmarks.adaptation_plan import tasks_of

    known = list(dict.fromkeys(task.method for task in tasks_of(settings)))
    names = list(comma_list(text, "--only"))
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there are no rows of '{name}'",
                field="--only",
                remedy=f"use some of {', '.join(known)}",
            )
    return names


def print_adaptation(result: dict[str, Any]) -> None:
    """Print the paper's table, one for each condition."""
    machine, settings = result["machine"], result["settings"]
    print(f"{machine['device']}, {machine['threads']} threads, {machine['versions']}")
    counted = ("steps", "switch_steps", "batch", "questions", "kind")
    print(", ".join(f"{name} {settings[name]}" for name in counted))
    for condition in settings["conditions"]:
        baseline = result["baselines"][condition]
        print(
            f"\n{condition}: question only {baseline['blind']:.1%}, majority per template "
            f"{baseline['majority']:.1%}, {baseline['questions']} questions"
        )
        head = ("method", "day C", "C", "C adapted", "C->L", "C->C+L", "PFLOP", "GB", "s/epoch")
        print(f"{head[0]:<10}" + "".join(f"{name:>11}" for name in head[1:]))
        for line in result["table"]:
            print(f"{line['method']:<10}" + "".join(_cells(line, condition)))
    _print_day(result)
    print("\nPFLOP, GB and seconds are those of C->C+L; C is before any adaptation")
    full = result["full_is"] or "full"
    print(
        f"FLOPs of full fine-tuning ({full}) over ours: {_number(result['flops_ratio_vs_full'])}, "
        f"memory of ours over its: {_number(result['memory_ratio_vs_full'])}, samples/s: "
        f"{_number(result['samples_per_second'])}"
    )
    _print_ratios(result)
    _print_pooled(result)
    if not result["complete"]:
        print("rows are missing; the same command goes on")


def _print_day(result: dict[str, Any]) -> None:
    """What the day took and gave, where it was learned."""
    learned = [row for row in result["rows"] if row["phase"] == "day" and row.get("flops")]
    if not learned:
        return
    about = result["baselines"]["day"]
    print(f"\nday: question only {about['blind']:.1%}, {about['questions']} questions")
    for row in learned:
        samples = row["samples"] if "samples" in row else row["points"][-1]["samples"]
        print(
            f"{row['method']:<12}{row['accuracy']:>7.1%} behind {samples:,} samples, "
            f"{row['flops'] / 1e12:.4g} TFLOP"
        )


def _print_ratios(result: dict[str, Any]) -> None:
    """Each baseline beside the tail that ships, by day and for each change."""
    for name, one in result["day_ratios"].items():
        _print_ratio(f"day, {name}", one)
    for condition, changes in result["ratios"].items():
        for change, baselines in changes.items():
            for name, one in baselines.items():
                _print_ratio(f"{condition}, {change}, {name}", one)


def _print_pooled(result: dict[str, Any]) -> None:
    """Each baseline beside the tail that ships, over all switches to the coming sensor."""
    for name, one in result["pooled"].items():
        if one is None:
            continue
        ends, reached = one["flops_interval"] or [None, None], one["flops_reached"]
        error = one["accuracy_gain_error"]
        print(
            f"{one['switches']} switches together, {name} over ours: FLOPs at equal accuracy "
            f"{_number(one['flops'])} (95 %: {_number(ends[0])} to {_number(ends[1])}"
            + ("" if reached is None else f"; ours is as right in {reached:.0%} of draws of scenes")
            + f"); ours is {100 * one['accuracy_gain']:+.1f} points better"
            + ("" if error is None else f" (standard error {100 * error:.1f})")
        )


def _print_ratio(what: str, one: dict[str, Any]) -> None:
    if one["accuracy_gain"] is None:
        return
    ends = one["flops_interval"] or [None, None]
    error = one["accuracy_gain_error"]
    print(
        f"{what} over ours: FLOPs at equal accuracy "
        f"{_number(one['flops'])} (95 %: {_number(ends[0])} to {_number(ends[1])}), at "
        f"a point less {_number(one['flops_one_point_less'])}, at equal samples "
        f"{_number(one['flops_equal_samples'])}; ours is "
        f"{100 * one['accuracy_gain']:+.1f} points better"
        + ("" if error is None else f" (standard error {100 * error:.1f})")
    )


def _cells(line: dict[str, Any], condition: str) -> list[str]:
    cells = line["conditions"][condition]
    added = cells["add"]
    switched = [cells[name] and cells[name]["accuracy"] for name in ("same", "replace", "add")]
    shares = [f"{_percent(value):>11}" for value in (line["day"], cells["before"], *switched)]
    if added is None:
        return [*shares, *(f"{'-':>11}" for _ in range(3))]
    peak = added["peak_bytes"]
    return [
        *shares,
        f"{added['flops'] / 1e15:>11.4g}",
        f"{'-' if peak is None else format(peak / 1e9, '.2f'):>11}",
        f"{added['epoch_seconds']:>11.1f}",
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _name_of(start: Path) -> str:
    """A pack's name and version, or the folder's name."""
    from ..runtime.pack import MANIFEST_NAME, read_manifest

    if not (start / MANIFEST_NAME).is_file():
        return start.resolve().name
    manifest = read_manifest(start)
    return f"{manifest.name} {manifest.version}"


def _start(
    arguments: Namespace, settings: BenchSettings, config: Any
) -> tuple[Any, str | None, int | None]:
    """What makes the day's first weights, a hash of what they are made of, and its depth.

    Raises:
        ConfigError: it shall be the day, and is of another depth than the tail that ships.
    """
    if arguments.start is None:
        return (lambda spec, data: None), None, None
    from ..benchmarks.adaptation_start import depth_of_start, fitted_start
    from ..training.connection_start import read_start
    from .train_connections_options import hash_of

    weights = read_start(arguments.start)
    depth = depth_of_start(weights)
    if not settings.steps and depth != settings.ships:
        raise ConfigError(
            f"the start is a connection of a tail of {depth}, not {settings.ships}",
            field="--ships",
            remedy=f"give {depth}, or --steps above 0, in which the day is learned again",
        )

    def started(spec: Any, data: BenchData) -> Any:
        base = _chosen(arguments.base, data.prepared, "--base")
        of = data.modalities
        coming = set(of.values()) - {of[sensor] for sensor in base}
        return fitted_start(weights, spec, config, data.sizes, of, coming, arguments.seed)

    return started, hash_of(weights), depth


def _prepared(
    arguments: Namespace, settings: BenchSettings, model: str, line: ProgressLine
) -> PreparedData:
    """What was prepared, or prepared now from drives and encoders."""
    from ..training.prepared_data import read_prepared
    from . import train_connections
    from .train_connections_options import check_language_model

    if (arguments.dataroot is None) == (arguments.prepared is None):
        raise ConfigError(
            "there must be drives or prepared data, and not both",
            field="--dataroot",
            remedy="give --dataroot DIR and --encoders-from WORKDIR, or --prepared FILE",
        )
    file = arguments.prepared
    if file is None:
        parser = ArgumentParser()
        train_connections.add_arguments(parser)
        words = ["--dataroot", *map(str, arguments.dataroot), "--out", str(arguments.out)]
        words += ["--prepare-only", "--sensors", f"{arguments.base},{arguments.add}"]
        words += ["--conditions", ",".join(("day", *settings.conditions)), "--model", model]
        words += ["--threads", str(arguments.threads), *(["--quiet"] if arguments.json else [])]
        if arguments.encoders_from is not None:
            words += ["--encoders-from", str(arguments.encoders_from)]
        # The last line of stdout is the benchmark's own.
        with contextlib.redirect_stdout(sys.stderr):
            train_connections.run(parser.parse_args(words))
        file = arguments.out / "prepared.npz"
    line("reading what was prepared")
    prepared = read_prepared(file)
    check_language_model(prepared.origin, model)
    return prepared


def _chosen(text: str, prepared: PreparedData, option: str) -> list[str]:
    """Sensors that fit names and patterns, in the data's order."""
    from .train_connections_options import fitting_sensors

    return list(fitting_sensors(comma_list(text, option), list(prepared.origin["sensors"]), option))


def _machine(arguments: Namespace) -> dict[str, Any]:
    from ..benchmarks.measure import machine_card

    device = _device_name(arguments.device)
    return {**machine_card(arguments.threads, ["torch"]), "device": device}


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
