"""`tailwire calibrate`: how often a pack is right under many plans, measured into the pack.

Options and the order of things are here; measuring is in `benchmarks/calibration.py`, the table in
`runtime/calibration_table.py`.
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
from .command import Command
from .progress import ProgressLine, duration

if TYPE_CHECKING:
    from contextlib import ExitStack

    from ..benchmarks.calibration import CalibrationProgress
    from ..benchmarks.calibration_parts import CalibrationParts
    from ..benchmarks.exam import Exam
    from ..runtime.calibration_table import MeasuredPlan
    from ..runtime.config import RuntimeConfig
    from ..runtime.language_model import LanguageModel
    from ..runtime.model_config import Precision
    from ..runtime.runtime import Runtime

_KEYFRAMES, _QUESTIONS, _PLANS, _RANDOM_SETS = 400, 6, 24, 24
_AGES_S = "0,0.5,1"
_MOST_AGE_S = 60.0


def _add_arguments(parser: ArgumentParser) -> None:
    add_question_arguments(parser, "what is asked", "--dataroot")
    parser.add_argument(
        "--split", metavar="val|train|all", default="val", help="questions of this split (val)"
    )
    plans = parser.add_argument_group("which plans are measured")
    plans.add_argument(
        "--sensor-sets",
        metavar="LISTS",
        help="sets that answer at every keyframe, e.g. 'cam_*,lidar_top;lidar_top' (all sensors of "
        "each modality, and all together); other plans take turns",
    )
    plans.add_argument(
        "--random-sets",
        metavar="N",
        type=int,
        default=_RANDOM_SETS,
        help=f"sets drawn at random ({_RANDOM_SETS})",
    )
    plans.add_argument(
        "--depths", metavar="LIST", help="of the tail (those that have an engine of their own)"
    )
    plans.add_argument(
        "--ages", metavar="LIST", default=_AGES_S, help=f"of tokens, seconds ({_AGES_S})"
    )
    plans.add_argument(
        "--precisions", metavar="LIST", help="of the language model (that of --precision)"
    )
    plans.add_argument(
        "--plans",
        metavar="N",
        type=int,
        default=_PLANS,
        help=f"that answer at each keyframe, in turns, besides those ({_PLANS})",
    )
    plans.add_argument("--seed", metavar="N", type=int, default=7, help="of what is drawn (7)")
    where = parser.add_argument_group("where it goes")
    where.add_argument("--out", metavar="PACK_DIR", type=Path, help="a new pack with the table")
    where.add_argument(
        "--in-place", action="store_true", help="put the table into the pack that is measured"
    )
    where.add_argument(
        "--work", metavar="FILE", type=Path, help="keep counts there, and go on from them"
    )
    where.add_argument(
        "--compare",
        action="store_true",
        help="leave scenes out in turns and tell how well models predict them (minutes)",
    )
    where.add_argument("--json", action="store_true", help="print one JSON object, no text")
    add_runtime_arguments(parser)


def _run(args: Namespace) -> int:
    config = read_arguments(args)
    _check(args, config)
    ages_ms = _ages_ms(args.ages)
    # What is heavy is imported from here on, so that a typing error is answered at once.
    from contextlib import ExitStack

    from ..benchmarks.exam import set_exam
    from ..runtime.new_pack import check_target
    from ..simulation.questions.conditions import CONDITIONS, check_conditions

    conditions = CONDITIONS
    if args.conditions is not None:
        conditions = comma_list(args.conditions, "--conditions")
        check_conditions(conditions, "--conditions")
    if args.out is not None:
        check_target(args.out)
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
            limit=args.limit or _QUESTIONS,
            keyframes=args.keyframes or _KEYFRAMES,
        )
        from ..assembly import open_runtime

        runtime = stack.enter_context(open_runtime(config, progress))
        _calibrate(args, config, ages_ms, runtime, exam, stack, progress)
    return 0


def _calibrate(
    args: Namespace,
    config: RuntimeConfig,
    ages_ms: tuple[int, ...],
    runtime: Runtime,
    exam: Exam,
    stack: ExitStack,
    progress: ProgressLine,
) -> None:
    from ..benchmarks.calibration import Calibration, table_of
    from ..benchmarks.calibration_file import WorkFile, WorkHeader
    from ..runtime.calibrated_pack import calibrate_in_place, write_calibrated_pack
    from ..runtime.config import pack_folder
    from .calibrate_report import CalibrationReport

    folder = pack_folder(config.pack)
    parts = _parts(args, config, runtime, stack, progress)
    plans, always = _plans(args, parts, ages_ms, exam)
    done, keep = (), None
    if args.work is not None:
        header = WorkHeader(
            pack=f"{runtime.pack.name} {runtime.pack.version}",
            connection=runtime.pack.files[runtime.pack.connection.file].sha256,
            model=runtime.model.manifest.name,
            exam=_identity(exam, args),
            plans=tuple(plans),
        )
        work = stack.enter_context(WorkFile(args.work, header))
        done, keep = work.done, work.add
    calibration = Calibration(
        parts,
        exam,
        plans,
        plans_per_keyframe=args.plans,
        always=always,
        done=done,
        seed=args.seed,
        on_keyframe=keep,
        on_progress=lambda now: progress(_progress_text(now)),
    )
    progress(f"asking {len(exam.items)} questions under {len(plans)} plans")
    calibration.run()
    progress("fitting")
    names = ", ".join(root.resolve().name for root in args.dataroot)
    measured_on = (
        f"{len(exam.items)} questions ({exam.split}) about {len(calibration.counts)} keyframes "
        f"of {len(exam.drives)} scenes in {names}, language model {runtime.model.manifest.name}"
    )
    table = table_of(calibration.counts.values(), plans, measured_on)
    target = folder
    if args.out is not None:
        target = args.out
        write_calibrated_pack(folder, target, table)
    else:
        calibrate_in_place(folder, table)
    compared = ()
    if args.compare:
        from ..benchmarks.utility_comparison import compare, plan_flops
        from ..runtime.utility_features import SensorTraits

        progress("comparing models on scenes left out")
        lengths = _lengths(runtime, exam)
        flops = plan_flops(plans, runtime.parts.frame_cost(), runtime.model.boundary, lengths)
        traits = SensorTraits.of(runtime.pack)
        compared = compare(list(calibration.counts.values()), plans, flops, traits)
    progress.clear()
    report = CalibrationReport(table, calibration, exam, runtime.pack, target, compared)
    report.tell(as_json=args.json)


def _lengths(runtime: Runtime, exam: Exam) -> list[int]:
    """Tokens of the questions of the first keyframe, for what plans cost."""
    first = exam.items[0].sample_token
    texts = [item.question for item in exam.items if item.sample_token == first]
    rendered = map(runtime.pack.prompt.render, texts)
    return [len(runtime.model.tokenizer.encode(text).ids) for text in rendered]


def _parts(
    args: Namespace,
    config: RuntimeConfig,
    runtime: Runtime,
    stack: ExitStack,
    progress: ProgressLine,
) -> CalibrationParts:
    """What is measured, with a language model for each precision."""
    from contextlib import closing

    from ..assembly import load_language_model
    from ..benchmarks.calibration_parts import CalibrationParts
    from ..runtime.config import pack_folder

    pack = runtime.pack
    models: dict[Precision, LanguageModel] = {runtime.model.manifest.precision: runtime.model}
    for precision in _precisions(args, config):
        if precision not in models:
            depths = (pack.connection.tail_blocks, pack.tail_blocks)
            model = load_language_model(
                config.model,
                precision,
                threads=config.threads,
                depths=depths,
                pack=pack_folder(config.pack),
                progress=progress,
            )
            models[precision] = stack.enter_context(closing(model))
    return CalibrationParts(
        pack, runtime.encoders, runtime.connection, models, threads=config.threads
    )


def _plans(
    args: Namespace, parts: CalibrationParts, ages_ms: tuple[int, ...], exam: Exam
) -> tuple[list[MeasuredPlan], list[int]]:
    """All plans, and the numbers of those that answer at every keyframe."""
    from ..benchmarks.calibration_plans import plans_to_compare_with, plans_to_measure
    from ..benchmarks.sensor_sets import parse_sensor_sets
    from ..simulation.annotated_objects import OBJECTS

    pack = parts.pack
    modalities = {
        sensor: pack.encoders[name].modality for sensor, name in pack.sensor_encoders.items()
    }
    named = [] if args.sensor_sets is None else args.sensor_sets.split(";")
    lists = [comma_list(text, "--sensor-sets") for text in named]
    sets = parse_sensor_sets(lists, modalities, "--sensor-sets") if lists else {}
    annotated = all(drive.data.has_annotations for drive in exam.drives)
    # Objects come from annotations; those of another name, or without any, have no frames here.
    there = {
        sensor: modality
        for sensor, modality in modalities.items()
        if modality != "objects" or (sensor == OBJECTS and annotated)
    }
    model = next(iter(parts.models.values()))
    deepest = pack.connection.tail_blocks
    blocks = model.config.num_blocks
    own = [blocks - group.start for group in model.manifest.groups]
    depths = [depth for depth in own if depth <= deepest]
    if args.depths is not None:
        depths = [_depth(text, deepest) for text in comma_list(args.depths, "--depths")]
    plans = plans_to_measure(
        there,
        named=tuple(sets.values()),
        depths=depths,
        ages_ms=ages_ms,
        precisions=tuple(parts.models),
        random_sets=args.random_sets,
        seed=args.seed,
    )
    return plans, plans_to_compare_with(plans, there, tuple(sets.values()))


def _precisions(args: Namespace, config: RuntimeConfig) -> list[Precision]:
    from typing import get_args

    from ..runtime.model_config import Precision

    known: dict[str, Precision] = {name: name for name in get_args(Precision)}
    if args.precisions is None:
        return [config.precision]
    wanted = comma_list(args.precisions, "--precisions")
    for text in wanted:
        if text not in known:
            raise ConfigError(
                f"there is no precision '{text}'",
                field="--precisions",
                remedy=f"use {', '.join(known)}",
            )
    return [known[text] for text in wanted]


def _identity(exam: Exam, args: Namespace) -> str:
    """What is asked, in a hash: a run may go on where only this is equal."""
    import hashlib

    asked = sorted((item.sample_token, item.question, item.answer) for item in exam.items)
    options = (args.plans, args.sensor_sets, args.seed)
    return hashlib.sha256(repr((asked, options)).encode()).hexdigest()


def _progress_text(done: CalibrationProgress) -> str:
    return (
        f"{done.keyframes_done} of {done.keyframes} keyframes, {done.answers} answers, "
        f"{done.accuracy:.1%} right, {duration(done.seconds_left)} left"
    )


def _ages_ms(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in comma_list(text, "--ages"):
        try:
            age_s = float(part)
        except ValueError:
            age_s = -1.0
        if not 0 <= age_s <= _MOST_AGE_S:
            raise ConfigError(
                f"'{part}' is no age",
                field="--ages",
                remedy=f"give seconds from 0 to {_MOST_AGE_S:g}, e.g. --ages {_AGES_S}",
            )
        found.append(round(1000 * age_s))
    if 0 not in found:
        raise ConfigError(
            "newest frames are not among the ages", field="--ages", remedy="begin with 0"
        )
    return tuple(dict.fromkeys(found))


def _depth(text: str, deepest: int) -> int:
    depth = int(text) if text.isdigit() else 0
    if not 0 < depth <= deepest:
        raise ConfigError(
            f"'{text}' is no depth of this pack", field="--depths", remedy=f"give 1 to {deepest}"
        )
    return depth


def _check(args: Namespace, config: RuntimeConfig) -> None:
    from ..runtime.config import CONDITIONED_STARTER_PACK, STARTER_PACK

    if config.pack in (STARTER_PACK, CONDITIONED_STARTER_PACK):
        raise ConfigError(
            f"the pack '{config.pack}' is untrained, so there is nothing to measure",
            field="--pack",
            remedy="name a trained pack",
        )
    if (args.out is None) != args.in_place:
        raise ConfigError(
            "it is not said where the table goes"
            if args.out is None
            else "a new pack is named beside --in-place",
            field="--out",
            remedy="give one of --out PACK_DIR and --in-place",
        )
    least = {"limit": 1, "keyframes": 1, "plans": 1, "random_sets": 0}
    for name, limit in least.items():
        value = getattr(args, name)
        if value is not None and value < limit:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{value} is too small", field=option, remedy=f"give {limit} or more")


COMMAND = Command(
    "calibrate", "measure how often a pack is right under many plans", _add_arguments, _run
)
