"""`tailwire adapt`: a pack learns a sensor from drives with right answers; the old pack stays.

Options and the order of things are here; which sensors are meant is in `adapt_sensors.py`, what is
printed in `adapt_report.py`. Learning is `runtime/adaptation/`, the same that `Runtime.adapt` runs.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .adapt_sensors import WantedChange, meant_sensors, wanted_change
from .arguments import (
    add_question_arguments,
    add_runtime_arguments,
    comma_list,
    read_arguments,
)
from .command import Command
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..runtime.adaptation.adapting import Adaptation
    from ..runtime.adaptation.data import AdaptationData
    from ..runtime.adaptation.request import AdaptationRequest
    from ..runtime.config import RuntimeConfig
    from ..runtime.runtime import Runtime

#: Exit code of a result that was refused.
REFUSED = 1
_WAIT_S = 0.2
_MEGABYTE = 10**6
#: Options whose name is not that of the field they set.
_OPTION_OF = {
    "time_s": "max-seconds",
    "memory_bytes": "max-memory",
    "flops": "max-flops",
    "tail_blocks": "train-tail",
}


def _add_arguments(parser: ArgumentParser) -> None:
    number, real = {"metavar": "N", "type": int}, {"metavar": "X", "type": float}
    what = parser.add_argument_group("what changes", "sensors, patterns (cam_*) or kinds (lidar)")
    what.add_argument("--add", metavar="LIST", help="sensors that come")
    what.add_argument(
        "--replace",
        metavar="LIST=LIST",
        action="append",
        default=[],
        help="sensors that go, and those that come for them",
    )
    what.add_argument("--drop", metavar="LIST", help="sensors that go")
    what.add_argument(
        "--polish", action="store_true", help="the sensors stay, and learn from this data"
    )
    what.add_argument(
        "--sensors",
        metavar="LIST",
        help="that serve before (all of the pack but those that come, and objects)",
    )
    add_question_arguments(parser, "what is learned from", "--data", "--dataroot")
    cost = parser.add_argument_group("what it may cost")
    cost.add_argument("--max-seconds", **real, help="wall clock of learning")
    cost.add_argument("--max-memory", metavar="MB", type=float, help="beyond what is loaded")
    cost.add_argument("--max-flops", **real, help="of learning, e.g. 2e13")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--train-tail", **number, help="train through N blocks (the deepest that fits)"
    )
    how.add_argument("--lora-rank", **number, help="of the LoRA (8, less where it must)")
    how.add_argument("--epochs", **real, default=8.0, help="most passes over the questions (8)")
    how.add_argument("--batch", **number, default=32, help="questions of a step (32)")
    how.add_argument("--learning-rate", **real, default=1e-3, help="its peak (0.001)")
    how.add_argument(
        "--fresh", action="store_true", help="forget what the pack knows of sensors that come"
    )
    how.add_argument(
        "--tolerance",
        **real,
        default=0.01,
        help="how far held-out accuracy with the sensors of before may fall (0.01)",
    )
    how.add_argument("--seed", **number, default=0, help="of everything (0)")
    how.add_argument("--cache", metavar="DIR", type=Path, help="for tokens of the drives")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="the new pack; must not be there"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no text")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_runtime_arguments(parser)


def _run(args: Namespace) -> int:
    config = read_arguments(args)
    _check(args)
    # What is heavy is imported from here on, so that a typing error is answered at once.
    from ..assembly import open_runtime
    from ..runtime.adaptation.adapting import check_torch
    from ..runtime.new_pack import check_target
    from .adapt_report import report, result_of

    check_torch()
    check_target(args.out, "adapted pack")
    with ProgressLine(args.quiet) as line:
        every = config.model_copy(update={"sensors": None})
        with open_runtime(every, line) as runtime:
            change = _change(args, config, runtime)
            runtime.switch_sensors(change.before)
            request = _request(args, change, config.threads)
            sensors = (*change.before, *change.add, *change.replace.values())
            data = _data(args, sensors, runtime, line)
            result = _adapt(runtime.adapt(request, data), line)
            old = runtime.pack
        line.clear()
    if result.outcome == "cancelled":
        raise KeyboardInterrupt
    if not args.json:
        report(result, old)
    result_of(result, config)
    return REFUSED if result.outcome == "refused" else 0


def _check(args: Namespace) -> None:
    if not (args.add or args.replace or args.drop or args.polish):
        raise ConfigError(
            "nothing is to change",
            field="adapt",
            remedy="give one of --add, --replace, --drop and --polish",
        )
    if args.polish and (args.add or args.replace or args.drop):
        raise ConfigError(
            "sensors change, so more than polishing is asked for",
            field="--polish",
            remedy="leave it out",
        )
    for option, value in (("--limit", args.limit), ("--keyframes", args.keyframes)):
        if value is not None and value < 1:
            raise ConfigError(f"{value} is too small", field=option, remedy="give 1 or more")


def _change(args: Namespace, config: RuntimeConfig, runtime: Runtime) -> WantedChange:
    pack = runtime.pack
    modalities = {
        sensor: pack.encoders[name].modality for sensor, name in pack.sensor_encoders.items()
    }
    before = config.sensors
    if args.sensors is not None:
        before = meant_sensors(args.sensors, modalities, "--sensors")
    return wanted_change(
        modalities, add=args.add, replace=args.replace, drop=args.drop, before=before
    )


def _request(args: Namespace, change: WantedChange, threads: int) -> AdaptationRequest:
    from pydantic import ValidationError

    from ..runtime.adaptation.request import AdaptationBudget, AdaptationRequest

    memory = args.max_memory
    values: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("lora_rank", "epochs", "batch", "learning_rate", "fresh", "tolerance", "seed")
    }
    try:
        budget = AdaptationBudget(
            time_s=args.max_seconds,
            memory_bytes=None if memory is None else round(memory * _MEGABYTE),
            flops=args.max_flops,
        )
        return AdaptationRequest(
            add=change.add,
            replace=change.replace,
            drop=change.drop,
            budget=budget,
            tail_blocks=args.train_tail,
            # Nothing is answered meanwhile, so learning has the machine for itself.
            threads=threads,
            nice=0,
            swap=False,
            out=args.out,
            **values,
        )
    except (ValidationError, OverflowError, ValueError) as error:
        name, problem = "max-memory", str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            field = str(first["loc"][0])
            name, problem = _OPTION_OF.get(field, field.replace("_", "-")), str(first["msg"])
        raise ConfigError(problem, field=f"--{name}", remedy="correct this option") from error


def _data(
    args: Namespace, sensors: tuple[str, ...], runtime: Runtime, line: ProgressLine
) -> AdaptationData:
    from ..benchmarks.exam import set_exam
    from ..runtime.files import cache_dir
    from ..simulation.questions.conditions import CONDITIONS, check_conditions
    from ..training.adaptation_data import adaptation_data
    from ..training.moments import TrainingMoment

    conditions = CONDITIONS
    if args.conditions is not None:
        conditions = comma_list(args.conditions, "--conditions")
        check_conditions(conditions, "--conditions")
    line("reading drives and questions")
    exam = set_exam(
        args.data,
        version=args.version,
        files=args.questions,
        split="all",
        conditions=conditions,
        limit=args.limit,
        keyframes=args.keyframes,
    )
    splits = {item.sample_token: item.split for item in exam.items}
    moments = [
        TrainingMoment(drive.data, token, drive.scene.name, splits[token], drive.condition)
        for drive in exam.drives
        for token in drive.tokens
        if token in splits
    ]
    return adaptation_data(
        moments,
        exam.items,
        sensors,
        runtime.pack,
        runtime.encoders,
        args.cache if args.cache is not None else cache_dir() / "training",
        lambda done, count: line(f"encoding keyframe {done} of {count}"),
    )


def _adapt(adaptation: Adaptation, line: ProgressLine):
    """Wait for the end; the first Ctrl-C ends training and keeps what is good, if it has begun."""
    from .adapt_report import progress_text
    from .train_common import stopping

    with stopping() as stop:
        while not adaptation.wait(_WAIT_S):
            progress = adaptation.progress()
            line(progress_text(progress))
            if stop.wanted and progress.phase in ("training", "checking"):
                adaptation.finish()
            elif stop.wanted:
                adaptation.cancel()
    return adaptation.result()


COMMAND = Command("adapt", "teach a pack a sensor, from drives", _add_arguments, _run)
