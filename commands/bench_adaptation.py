"""`tailwire bench adaptation`: sensors switched at night, beside input-level models."""

from __future__ import annotations

import contextlib
import sys
import time
from argparse import ArgumentParser, Namespace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError, SensorError
from .arguments import comma_list
from .progress import ProgressLine
from .train_common import check_torch, draw, not_negative, positive

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from ..benchmarks.adaptation import BenchSettings
    from ..benchmarks.adaptation_data import BenchData
    from ..training.prepared_data import PreparedData

_DEPTHS = "4,7,10,13,16,19,22"
_CONDITIONS = "night,rain,fog"
_BASE, _ADD = "cam_*", "lidar_top"
_RATES = "full=1e-4"


def add_adaptation(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser(
        "adaptation", help="switching sensors at night: accuracy, FLOPs and memory of training"
    )
    number, real = {"metavar": "N", "type": int}, {"metavar": "X", "type": float}
    parser.add_argument(
        "--dataroot", metavar="DIR", type=Path, nargs="+", action="extend", help="drives"
    )
    parser.add_argument(
        "--encoders-from", metavar="WORKDIR", type=Path, help="folder of `train encoders`"
    )
    parser.add_argument(
        "--prepared",
        metavar="FILE",
        type=Path,
        help="of `train connections --prepare-only`, instead of drives and encoders",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="for rows, weights and the figure; the same command goes on there",
    )
    parser.add_argument("--device", metavar="cpu|cuda", default="cpu", help="that learns (cpu)")
    parser.add_argument("--model", metavar="NAME|PATH", help="language model (the default one)")
    parser.add_argument("--depths", metavar="LIST", default=_DEPTHS, help=f"of tails ({_DEPTHS})")
    parser.add_argument("--ships", **number, default=6, help="depth that ratios are about (6)")
    parser.add_argument(
        "--conditions", metavar="LIST", default=_CONDITIONS, help=f"behind day ({_CONDITIONS})"
    )
    parser.add_argument(
        "--base",
        metavar="LIST",
        default=_BASE,
        help=f"sensors by day, or patterns ({_BASE})",
    )
    parser.add_argument("--add", metavar="LIST", default=_ADD, help=f"that come ({_ADD})")
    parser.add_argument("--kind", metavar="conditioned|plain", default="conditioned")
    parser.add_argument("--width", **number, default=160, help="of the small transformer (160)")
    parser.add_argument("--layers", **number, default=4, help="of the small transformer (4)")
    parser.add_argument("--heads", **number, default=4, help="of the small transformer (4)")
    parser.add_argument("--lora-rank", **number, default=8, help="of the tail when switching (8)")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="DIR",
        type=Path,
        help="begin the day with this connection: a folder of `train connections` or a pack",
    )
    parser.add_argument(
        "--switch-trains",
        choices=("needed", "all"),
        default="needed",
        help="what switching trains of a connection: what the sensor needs, or all of it (needed)",
    )
    parser.add_argument("--steps", **number, default=300, help="by day (300)")
    parser.add_argument("--summary-steps", **number, help="first ones by day (6 of 10)")
    parser.add_argument("--readout-steps", **number, help="behind these (1 of 10)")
    parser.add_argument(
        "--row-weight", **real, default=1.0, help="by day, see train connections (1)"
    )
    parser.add_argument("--switch-steps", **number, default=150, help="of each change (150)")
    parser.add_argument("--batch", **number, default=256, help="decisions of a step (256)")
    parser.add_argument("--questions", **number, default=1500, help="held out, a condition (1500)")
    parser.add_argument(
        "--rates",
        metavar="LIST",
        default="",
        help="learning rates of tail, full (of the language model's own weights), lora and prompt, "
        "e.g. full=1e-4,tail=1e-3",
    )
    parser.add_argument(
        "--compute", choices=("bfloat16", "float32"), default="bfloat16", help="dtype of products"
    )
    parser.add_argument("--minutes", **real, help="begin no row after so many")
    parser.add_argument("--seed", **number, default=0, help="of everything (0)")
    parser.add_argument("--threads", **number, default=2, help="of torch (2)")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")


def run_adaptation(arguments: Namespace) -> dict[str, Any]:
    """Make the rows that the folder lacks, and count.

    Raises:
        TailwireError: an option is wrong, the data do not fit or are too little, or torch or the
            device is missing.
    """
    positive(arguments, "steps", "switch_steps", "batch", "questions", "minutes", "threads")
    positive(arguments, "ships", "width", "layers", "heads")
    not_negative(arguments, "seed", "lora_rank", "row_weight", "summary_steps", "readout_steps")
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
    from ..benchmarks.input_level_model import METHODS
    from ..export.checkpoint import open_checkpoint
    from ..runtime.config import read_config

    begun = time.monotonic()
    torch.set_num_threads(arguments.threads)
    settings = _settings(arguments)
    model = read_config(None, model=arguments.model, threads=arguments.threads).model
    checkpoint = open_checkpoint(model_path(model))
    start, start_hash = _start(arguments, checkpoint.config)
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
        data = BenchData(prepared, kept)
        record = BenchRecord(
            arguments.out,
            {
                **settings.as_json(),
                "device": _device_name(arguments.device),
                "base": base,
                "coming": coming,
                "from": start_hash,
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
            progress=line,
        )

        def is_late() -> bool:
            limit = arguments.minutes
            return limit is not None and time.monotonic() - begun > 60 * limit

        complete = bench.run(is_late)
    tails = [f"tail-{depth}" for depth in sorted({*settings.depths, settings.ships})]
    methods = [*tails, *METHODS]
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
    "step, flops_ratio_vs_full up to the first look at which full fine-tuning's best is reached"
)


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
        head = ("method", "day C", "C", "C adapted", "C->L", "C->C+L", "PFLOP", "GB", "s")
        print(f"{head[0]:<10}" + "".join(f"{name:>11}" for name in head[1:]))
        for line in result["table"]:
            print(f"{line['method']:<10}" + "".join(_cells(line, condition)))
    print("\nPFLOP, GB and seconds are those of C->C+L; C is before any adaptation")
    print(
        f"FLOPs of full fine-tuning over ours: {_number(result['flops_ratio_vs_full'])}, memory of "
        f"ours over its: {_number(result['memory_ratio_vs_full'])}, samples/s: "
        f"{_number(result['samples_per_second'])}"
    )
    if not result["complete"]:
        print("rows are missing; the same command goes on")


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
        f"{added['seconds']:>11.1f}",
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _settings(arguments: Namespace) -> BenchSettings:
    from ..benchmarks.adaptation import RATES, BenchSettings
    from ..simulation.questions.conditions import CONDITIONS, check_conditions

    conditions = tuple(comma_list(arguments.conditions, "--conditions"))
    check_conditions(conditions, "--conditions")
    if CONDITIONS[0] in conditions:
        raise ConfigError(
            "the day is always there", field="--conditions", remedy="name others, e.g. night"
        )
    if arguments.kind not in ("conditioned", "plain"):
        raise ConfigError(
            f"there is no kind '{arguments.kind}'",
            field="--kind",
            remedy="use conditioned or plain",
        )
    if arguments.width % arguments.heads:
        raise ConfigError(
            f"width {arguments.width} is no multiple of heads {arguments.heads}",
            field="--width",
            remedy="give a multiple",
        )
    summary, readout = arguments.summary_steps, arguments.readout_steps
    return BenchSettings(
        steps=arguments.steps,
        switch_steps=arguments.switch_steps,
        batch=arguments.batch,
        depths=tuple(_numbers(arguments.depths)),
        ships=arguments.ships,
        conditions=conditions,
        questions=arguments.questions,
        kind=arguments.kind,
        width=arguments.width,
        layers=arguments.layers,
        heads=arguments.heads,
        lora_rank=arguments.lora_rank,
        summary_steps=arguments.steps * 6 // 10 if summary is None else summary,
        readout_steps=arguments.steps // 10 if readout is None else readout,
        row_weight=arguments.row_weight,
        switch_trains=arguments.switch_trains,
        precision=arguments.compute,
        rates=_rates(arguments.rates, RATES),
        seed=arguments.seed,
    )


def _numbers(text: str) -> list[int]:
    try:
        found = sorted({int(part) for part in comma_list(text, "--depths")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise ConfigError(
            f"'{text}' are no depths", field="--depths", remedy=f"give numbers, e.g. {_DEPTHS}"
        )
    return found


def _rates(text: str, known: Any) -> dict[str, tuple[float, float]]:
    rates = dict(known)
    for part in comma_list(text, "--rates") if text else []:
        name, _, value = part.partition("=")
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        if name not in rates or not 0 < rate < 1:
            raise ConfigError(
                f"'{part}' is no rate",
                field="--rates",
                remedy=f"give some of {', '.join(rates)}, e.g. {_RATES}",
            )
        rates[name] = (rates[name][0], rate) if name == "full" else (rate, rates[name][1])
    return rates


def _start(arguments: Namespace, config: Any) -> tuple[Any, str | None]:
    """What makes the day's first weights, and a hash of what they are made of."""
    if arguments.start is None:
        return (lambda spec, data: None), None
    from ..benchmarks.adaptation_start import fitted_start
    from ..training.connection_start import read_start
    from .train_connections_options import hash_of

    weights = read_start(arguments.start)

    def started(spec: Any, data: BenchData) -> Any:
        base = _chosen(arguments.base, data.prepared, "--base")
        of = data.modalities
        coming = set(of.values()) - {of[sensor] for sensor in base}
        return fitted_start(weights, spec, config, data.sizes, of, coming, arguments.seed)

    return started, hash_of(weights)


def _prepared(
    arguments: Namespace, settings: BenchSettings, model: str, line: ProgressLine
) -> PreparedData:
    """What was prepared, or prepared now from drives and encoders."""
    from ..training.prepared_data import read_prepared
    from . import train_connections

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
    if prepared.origin["language_model"] != model:
        raise ConfigError(
            f"the data were prepared for {prepared.origin['language_model']}, not {model}",
            field="--model",
            remedy="name that language model, or prepare the data again",
        )
    return prepared


def _chosen(text: str, prepared: PreparedData, option: str) -> list[str]:
    """Sensors that fit names and patterns, in the data's order."""
    known = list(prepared.origin["sensors"])
    patterns = comma_list(text, option)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise SensorError(
                f"there is no sensor '{pattern}'",
                field=option,
                remedy=f"use some of {', '.join(known)}, or a pattern such as cam_*",
            )
    return [name for name in known if any(fnmatchcase(name, one) for one in patterns)]


def _machine(arguments: Namespace) -> dict[str, Any]:
    from ..benchmarks.measure import machine_card

    device = _device_name(arguments.device)
    return {**machine_card(arguments.threads, ["torch"]), "device": device}


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
