"""Options of `tailwire bench adaptation`, and their checks that need no data."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .arguments import comma_list

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from ..benchmarks.adaptation_plan import BenchSettings

_DEPTHS = "4,7,10,13,16,19,22"
_CONDITIONS = "night,rain,fog"
_BASELINES, _PREFIX_BASELINES = "full,lora,prompt", "prefix-full,prefix-lora"
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
    parser.add_argument("--depths", metavar="LIST", help=f"of tails ({_DEPTHS})")
    parser.add_argument("--ships", **number, default=6, help="depth that ratios are about (6)")
    parser.add_argument(
        "--baselines",
        metavar="LIST",
        help=f"beside tails: {_BASELINES} have sensors at the input, {_PREFIX_BASELINES} train the "
        f"whole model behind the tail's connection ({_BASELINES}; with --steps 0 the others)",
    )
    parser.add_argument(
        "--conditions",
        metavar="LIST",
        default=_CONDITIONS,
        help=f"behind day ({_CONDITIONS}); '' for the day alone",
    )
    parser.add_argument(
        "--base",
        metavar="LIST",
        default=_BASE,
        help=f"sensors by day, or patterns ({_BASE})",
    )
    parser.add_argument("--add", metavar="LIST", default=_ADD, help=f"that come ({_ADD})")
    parser.add_argument(
        "--kind",
        metavar="conditioned|plain|per-block",
        default="conditioned",
        help="of connection; plain is the paper's, per-block has keys and values for each block",
    )
    parser.add_argument("--width", **number, default=160, help="of the small transformer (160)")
    parser.add_argument("--layers", **number, default=4, help="of the small transformer (4)")
    parser.add_argument("--heads", **number, default=4, help="of the small transformer (4)")
    parser.add_argument("--lora-rank", **number, default=8, help="of the tail when switching (8)")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="DIR",
        type=Path,
        help="begin the day with this connection: a folder of `train connections` or a pack; "
        "tails of another depth begin with it moved to their boundary",
    )
    parser.add_argument(
        "--switch-trains",
        choices=("needed", "all"),
        default="needed",
        help="what switching trains of a connection: what the sensor needs, or all of it (needed)",
    )
    parser.add_argument(
        "--coming",
        choices=("like", "random"),
        default="like",
        help="how a coming modality begins: like the one that serves, as tokens of both are "
        "objects, or at random, as one that nothing is known of (like)",
    )
    parser.add_argument(
        "--steps", **number, default=300, help="by day (300); 0: the day is that of --from"
    )
    parser.add_argument(
        "--day-times", **number, default=1, help="times as many of these that tails make (1)"
    )
    parser.add_argument(
        "--summary-steps", **number, help="first ones of a tail (6 of 10, 2 of 10 with --from)"
    )
    parser.add_argument("--readout-steps", **number, help="behind these (1 of 10)")
    parser.add_argument(
        "--row-weight", **real, default=1.0, help="by day, see train connections (1)"
    )
    parser.add_argument("--switch-steps", **number, default=150, help="of each change (150)")
    parser.add_argument(
        "--tail-times", **number, default=1, help="times as many of these that tails make (1)"
    )
    parser.add_argument("--batch", **number, default=256, help="decisions of a step (256)")
    parser.add_argument("--questions", **number, default=1500, help="held out, a condition (1500)")
    parser.add_argument(
        "--looks",
        metavar="LIST",
        help="shares of the steps of a run behind which held-out questions are asked; for a whole "
        "model on a CPU that takes longer than training (ten, from 0.0625 to 1)",
    )
    parser.add_argument(
        "--rates",
        metavar="LIST",
        default="",
        help="learning rates by method, with tail for all tails; of full, prefix-full and "
        "prefix-lora those of the language model (or its LoRA), or those beside it and these, "
        f"e.g. {_RATES},tail=1e-3,full=1e-3/1e-4",
    )
    parser.add_argument(
        "--compute", choices=("bfloat16", "float32"), default="bfloat16", help="dtype of products"
    )
    parser.add_argument(
        "--only",
        metavar="LIST",
        help="make the rows of these now, e.g. tail-6,full; several processes may share --out so",
    )
    parser.add_argument("--minutes", **real, help="begin no row after so many")
    parser.add_argument("--seed", **number, default=0, help="of everything (0)")
    parser.add_argument("--threads", **number, default=2, help="of torch (2)")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")


def chosen_settings(arguments: Namespace) -> BenchSettings:
    """What the options ask for, after checks that need no data.

    Raises:
        ConfigError: naming the option.
    """
    from ..benchmarks.adaptation_plan import LOOKS, RATES, BenchSettings
    from ..simulation.questions.conditions import CONDITIONS, check_conditions

    text = arguments.conditions
    conditions = tuple(comma_list(text, "--conditions")) if text else ()
    check_conditions(conditions, "--conditions")
    if CONDITIONS[0] in conditions:
        raise ConfigError(
            "the day is always there", field="--conditions", remedy="name others, e.g. night"
        )
    if arguments.kind not in ("conditioned", "plain", "per-block"):
        raise ConfigError(
            f"there is no kind '{arguments.kind}'",
            field="--kind",
            remedy="use conditioned, plain or per-block",
        )
    if arguments.width % arguments.heads:
        raise ConfigError(
            f"width {arguments.width} is no multiple of heads {arguments.heads}",
            field="--width",
            remedy="give a multiple",
        )
    summary, readout = arguments.summary_steps, arguments.readout_steps
    depths = read_depths(arguments.depths or _DEPTHS)
    baselines = arguments.baselines
    if baselines is None:
        baselines = _BASELINES if arguments.steps else _PREFIX_BASELINES
    # What was trained before needs its summary read only.
    share = 6 if arguments.start is None else 2
    steps = arguments.steps * arguments.day_times
    settings = BenchSettings(
        steps=arguments.steps,
        switch_steps=arguments.switch_steps,
        day_times=arguments.day_times,
        tail_times=arguments.tail_times,
        batch=arguments.batch,
        depths=tuple(depths),
        ships=arguments.ships,
        conditions=conditions,
        baselines=_baselines(baselines),
        questions=arguments.questions,
        kind=arguments.kind,
        width=arguments.width,
        layers=arguments.layers,
        heads=arguments.heads,
        lora_rank=arguments.lora_rank,
        summary_steps=steps * share // 10 if summary is None else summary,
        readout_steps=steps // 10 if readout is None else readout,
        row_weight=arguments.row_weight,
        switch_trains=arguments.switch_trains,
        coming=arguments.coming,
        precision=arguments.compute,
        looks=LOOKS if arguments.looks is None else _looks(arguments.looks),
        rates=_rates(arguments.rates, RATES),
        seed=arguments.seed,
    )
    settings.check_start()
    return settings


def read_depths(text: str, example: str = _DEPTHS) -> list[int]:
    """Tail depths of `--depths`, rising.

    Args:
        text: as typed.
        example: named in the error.

    Raises:
        ConfigError: these are none.
    """
    try:
        found = sorted({int(part) for part in comma_list(text, "--depths")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise ConfigError(
            f"'{text}' are no depths", field="--depths", remedy=f"give numbers, e.g. {example}"
        )
    return found


def _looks(text: str) -> tuple[float, ...]:
    try:
        found = sorted({float(part) for part in comma_list(text, "--looks")})
    except ValueError:
        found = []
    if not found or not all(0 < share <= 1 for share in found):
        raise ConfigError(
            f"'{text}' are no shares", field="--looks", remedy="give some, e.g. 0.125,0.25,0.5,1"
        )
    return tuple(found)


def _baselines(text: str) -> tuple[str, ...]:
    from ..benchmarks.input_level_methods import BASELINES

    names = comma_list(text, "--baselines") if text else []
    for name in names:
        if name not in BASELINES:
            raise ConfigError(
                f"there is no baseline '{name}'",
                field="--baselines",
                remedy=f"use some of {', '.join(BASELINES)}",
            )
    return tuple(name for name in BASELINES if name in names)


def _rates(text: str, known: Any) -> dict[str, tuple[float, float]]:
    rates = dict(known)
    for part in comma_list(text, "--rates") if text else []:
        name, _, numbers = part.partition("=")
        try:
            given = [float(number) for number in numbers.split("/")]
        except ValueError:
            given = []
        beside, own = rates.get(name, (0.0, 0.0))
        most = 2 if own else 1
        if name not in rates or not 0 < len(given) <= most or not all(0 < r < 1 for r in given):
            raise ConfigError(
                f"'{part}' is no rate",
                field="--rates",
                remedy=f"give some of {', '.join(rates)}, e.g. {_RATES}",
            )
        # One number is that of the language model's own weights, where they are trained.
        rates[name] = (given[0] if len(given) == most else beside, given[-1] if own else 0.0)
    return rates
