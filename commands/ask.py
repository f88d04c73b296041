"""`tailwire ask`: one question about one keyframe.

What is printed about the answer is in `ask_report.py`.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..runtime.errors import DataError, EngineError, SensorError, without_remedy
from .arguments import add_drive_arguments, add_runtime_arguments, comma_list, read_arguments
from .budget_options import add_budget_arguments
from .command import Command
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..runtime.config import RuntimeConfig
    from ..runtime.plans import Answer
    from ..runtime.questions import Question
    from ..runtime.runtime import Runtime
    from ..simulation.nuscenes import Sample, Snapshot
    from .drives import Drive

_NUSCENES_QA = "nuscenes-qa"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("question", help="in plain words, e.g. 'Is there a bus behind me?'")
    add_drive_arguments(parser)
    parser.add_argument("--sample", metavar="TOKEN", help="keyframe (default: the first one)")
    parser.add_argument(
        "--sensors",
        metavar="LIST|all|none",
        help="sensors that are switched on, e.g. cam_front,lidar_top (default: all)",
    )
    parser.add_argument(
        "--answers",
        metavar=f"LIST|{_NUSCENES_QA}",
        help="allowed answers, e.g. yes,no; without them the answer is free text",
    )
    parser.add_argument(
        "--max-new-tokens", metavar="N", type=int, default=48, help="longest free text (48)"
    )
    add_runtime_arguments(parser)
    add_budget_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, no text")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print the answer alone, tell no progress"
    )


def _run(args: Namespace) -> int:
    config = _with_sensors(read_arguments(args), args.sensors)
    question = _question(args)
    # What is heavy is imported from here on, so that a typing error is answered at once.
    from . import ask_report
    from .drives import open_drive, perceiving

    with ProgressLine(args.quiet) as progress:
        drive = open_drive(args.nuscenes, args.version, progress)
        sample = _sample(drive, args.sample)
        drive.check_sensors(config.sensors)
        start = time.perf_counter()
        from ..assembly import open_runtime

        runtime = open_runtime(config, progress)
        load_ms = (time.perf_counter() - start) * 1e3
    with runtime:
        if config.sensors is None:
            runtime.switch_sensors(perceiving(runtime))
        seen = drive.snapshot(sample.token, runtime.sensors)
        _check_something_left(runtime.sensors, seen.frames, seen.dropped)
        if not (args.json or args.quiet):
            ask_report.print_heading(drive, sample, question, chosen=args.sample is not None)
        answer = _answer(runtime, seen, question, prints=not args.json)
        _check_something_left(runtime.sensors, answer.sensors, answer.dropped)
        if args.json:
            ask_report.print_json(answer, config, drive, sample, load_ms)
        elif not args.quiet:
            blocks = runtime.model.config.num_blocks
            ask_report.print_details(answer, question, config, blocks, load_ms)
    return 0


def _with_sensors(config: RuntimeConfig, typed: str | None) -> RuntimeConfig:
    if typed is None:
        return config
    words = {"all": None, "none": ()}
    sensors = words[typed] if typed in words else comma_list(typed, "--sensors")
    return config.model_copy(update={"sensors": sensors})


def _question(args: Namespace) -> Question:
    from ..runtime.questions import NUSCENES_QA_ANSWERS, Question

    answers = None
    if args.answers == _NUSCENES_QA:
        answers = NUSCENES_QA_ANSWERS
    elif args.answers is not None:
        answers = comma_list(args.answers, "--answers")
    return Question(args.question, answers, args.max_new_tokens)


def _sample(drive: Drive, token: str | None) -> Sample:
    if token is None:
        return drive.first_scene()[0]
    try:
        return drive.data.sample(token)
    except DataError as error:
        raise DataError(
            f"there is no keyframe '{token}' in {drive.data.dataroot / drive.data.version}",
            field="--sample",
            remedy="take a token of its sample.json, or leave --sample out for the first keyframe",
        ) from error


def _check_something_left(
    wanted: Iterable[str], usable: Mapping[str, object], dropped: Mapping[str, str]
) -> None:
    """Refuse to answer as if from sensors when none of those asked for works.

    Raises:
        SensorError: naming what is wrong with each.
    """
    broken = [dropped.get(sensor, sensor) for sensor in wanted]
    if broken and not usable:
        reasons = "; ".join(without_remedy(reason) for reason in broken)
        raise SensorError(
            f"none of the sensors asked for can be used: {reasons}",
            field="--sensors",
            remedy="repair these files, take another keyframe, or ask with --sensors none",
        )


def _answer(runtime: Runtime, seen: Snapshot, question: Question, *, prints: bool) -> Answer:
    """The answer; the drops of the reader are added to those of the runtime."""
    if prints and question.answers is None:
        answer = _print_stream(runtime, seen, question)
    else:
        answer = runtime.ask(seen.frames, question)
        if prints:
            print(answer.text)
    return answer.model_copy(update={"dropped": {**answer.dropped, **seen.dropped}})


def _print_stream(runtime: Runtime, seen: Snapshot, question: Question) -> Answer:
    from ..runtime.decoding import TextPiece

    begun = False
    for item in runtime.stream(seen.frames, question):
        if not isinstance(item, TextPiece):
            print()
            return item
        # Models like to begin with a space.
        text = item.text if begun else item.text.lstrip()
        begun = begun or bool(text)
        print(text, end="", flush=True)
    raise EngineError("the stream ended without an answer", field="answer", remedy="ask again")


COMMAND = Command("ask", "answer a question about a keyframe", _add_arguments, _run)
