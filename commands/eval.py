"""`tailwire eval`: how often a pack is right on drives with known answers, and beside whom.

Options and the order of things are here; measuring is in `benchmarks/evaluation.py`, what is
printed in `eval_report.py`.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError
from .arguments import (
    add_question_arguments,
    add_runtime_arguments,
    comma_list,
    read_arguments,
)
from .budget_options import add_budget_arguments
from .command import Command
from .progress import ProgressLine, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..benchmarks.evaluation import EvaluationProgress
    from ..benchmarks.exam import Exam
    from ..runtime.config import RuntimeConfig
    from ..runtime.runtime import Runtime
    from .results import Results

_HEAD_CACHE_MB = 1024


def _add_arguments(parser: ArgumentParser) -> None:
    add_question_arguments(parser, "what is asked", "--dataroot")
    parser.add_argument(
        "--split", metavar="val|train|all", default="val", help="questions of this split (val)"
    )
    parser.add_argument(
        "--sensors", metavar="LIST", help="sensors or patterns such as cam_* (all of the pack)"
    )
    parser.add_argument(
        "--sensor-sets",
        metavar="LISTS",
        help="several sets in one run, e.g. 'cam_*,lidar_top;cam_*;lidar_top'; the first one "
        "gives the figures by type",
    )
    parser.add_argument(
        "--no-bound", action="store_true", help="no second pass with ground-truth objects"
    )
    parser.add_argument(
        "--head-cache",
        metavar="MB",
        type=int,
        default=_HEAD_CACHE_MB,
        help=f"memory for the heads of questions that come again ({_HEAD_CACHE_MB})",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="keep eval.json, answers.jsonl and plots there"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, no text")
    add_runtime_arguments(parser)
    add_budget_arguments(parser)


def _run(args: Namespace) -> int:
    config = read_arguments(args)
    _check(args)
    sets = _sensor_lists(args, config)
    # What is heavy is imported from here on, so that a typing error is answered at once.
    from contextlib import ExitStack

    from ..benchmarks.exam import set_exam
    from ..simulation.questions.conditions import CONDITIONS, check_conditions

    conditions = CONDITIONS
    if args.conditions is not None:
        conditions = comma_list(args.conditions, "--conditions")
        check_conditions(conditions, "--conditions")
    progress = ProgressLine()
    with ExitStack() as stack:
        stack.enter_context(progress)
        progress("reading drives and questions")
        exam = set_exam(
            args.dataroot,
            version=args.version,
            files=args.questions,
            split=args.split,
            conditions=conditions,
            limit=args.limit,
            keyframes=args.keyframes,
        )
        results = None
        if args.out is not None:
            from .results import Results

            # Made before models are, which may take minutes: a bad folder shows now.
            results = stack.enter_context(Results(args.out, config))
        from ..assembly import open_runtime

        runtime = stack.enter_context(open_runtime(config, progress))
        _evaluate(args, config, runtime, exam, sets, results, progress)
    return 0


def _evaluate(
    args: Namespace,
    config: RuntimeConfig,
    runtime: Runtime,
    exam: Exam,
    sensor_lists: Sequence[Sequence[str]],
    results: Results | None,
    progress: ProgressLine,
) -> None:
    from ..benchmarks.evaluation import Evaluation
    from ..benchmarks.sensor_sets import OBJECTS_BOUND, bound_set, parse_sensor_sets
    from ..simulation.annotated_objects import OBJECTS
    from ..simulation.questions.baselines import Baselines
    from .eval_report import EvaluationReport

    pack = runtime.pack
    modalities = {
        sensor: pack.encoders[name].modality for sensor, name in pack.sensor_encoders.items()
    }
    option = "--sensors" if args.sensor_sets is None else "--sensor-sets"
    sets = parse_sensor_sets(sensor_lists, modalities, option)
    bound = None if args.no_bound else bound_set(modalities, OBJECTS)
    no_bound = "not asked for" if args.no_bound else f"the pack has no sensor '{OBJECTS}'"
    if bound is not None and not all(drive.data.has_annotations for drive in exam.drives):
        bound, no_bound = None, "a data set has no annotations"
    bound_name = None
    if bound is not None:
        # The set may be among those that were named.
        bound_name = next((name for name, one in sets.items() if one == bound), OBJECTS_BOUND)
        sets.setdefault(bound_name, bound)
    progress("learning blind guesses")
    guesses = Baselines.fit(exam.train).predict(exam.items) if exam.train else {}
    evaluation = Evaluation(
        runtime,
        exam,
        guesses,
        sets,
        with_history=[
            sensor
            for sensor, name in pack.sensor_encoders.items()
            if pack.encoders[name].previous_ms is not None
        ],
        head_bytes=args.head_cache << 20,
        on_answers=None if results is None else results.add,
        on_progress=lambda done: progress(_progress_text(done)),
    )
    report = EvaluationReport(
        runtime, config, exam, evaluation, sets, bound_name, no_bound, results
    )
    progress(f"asking {len(exam.items)} questions")
    try:
        evaluation.run()
        report.complete = True
    finally:
        # An error before the first answer has nothing to sum up.
        if evaluation.marks:
            progress.clear()
            report.tell(as_json=args.json)


def _progress_text(done: EvaluationProgress) -> str:
    return (
        f"{done.questions_done} of {done.questions} questions, {done.accuracy:.1%} right, "
        f"{done.questions_done / max(done.seconds, 1e-9):.1f} a second, "
        f"{duration(done.seconds_left)} left, drive {done.drive_number} of {done.drives} "
        f"({done.drive})"
    )


def _sensor_lists(args: Namespace, config: RuntimeConfig) -> list[tuple[str, ...]]:
    """Lists of patterns; one empty list is all sensors."""
    if args.sensors is not None and args.sensor_sets is not None:
        raise ConfigError(
            "sensors are given beside sets of sensors",
            field="--sensors",
            remedy="give one of --sensors and --sensor-sets",
        )
    if args.sensor_sets is not None:
        return [comma_list(text, "--sensor-sets") for text in args.sensor_sets.split(";")]
    if args.sensors is not None:
        return [comma_list(args.sensors, "--sensors")]
    return [config.sensors or ()]


def _check(args: Namespace) -> None:
    for option, value in (("--limit", args.limit), ("--keyframes", args.keyframes)):
        if value is not None and value < 1:
            raise ConfigError(f"{value} is too small", field=option, remedy="give 1 or more")
    if args.head_cache < 0:
        raise ConfigError(
            f"{args.head_cache} MB are no memory", field="--head-cache", remedy="give 0 or more"
        )


COMMAND = Command("eval", "measure a pack on drives with known answers", _add_arguments, _run)
