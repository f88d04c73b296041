"""`tailwire replay`: a recorded drive goes through the runtime, and its answers are counted.

Only its options and what must be in place are here; the run itself is in `replay_run.py`.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError
from .arguments import add_runtime_arguments, comma_list, read_arguments
from .budget_options import add_budget_arguments
from .command import Command
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..runtime.questions import Question

_NUSCENES_QA = "nuscenes-qa"
_MAX_RATE = "max"
_OBJECTS = "objects"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="BAG|DATAROOT", type=Path, help="a ROS 2 bag, or a nuScenes data set"
    )
    parser.add_argument("--scene", metavar="NAME", help="only this scene (default: all in turn)")
    parser.add_argument("--version", metavar="NAME", help="version folder of a nuScenes data set")
    parser.add_argument(
        "--rate",
        metavar=f"R|{_MAX_RATE}",
        default=_MAX_RATE,
        help="1.0 is real time, where what there is no time for is skipped; "
        f"{_MAX_RATE} (default) answers everything as fast as possible",
    )
    parser.add_argument(
        "--questions",
        metavar="FILE",
        type=Path,
        help="questions with answers in the format of NuScenes-QA (default: those of the dataroot)",
    )
    parser.add_argument(
        "--split",
        metavar="val|train|all",
        help="questions of this split (default: val where there is one)",
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, help="most questions of the file per keyframe"
    )
    parser.add_argument(
        "--question",
        metavar="TEXT",
        action="append",
        default=[],
        help="a standing question, asked at every keyframe; may be repeated",
    )
    parser.add_argument(
        "--answers",
        metavar=f"LIST|{_NUSCENES_QA}",
        help="allowed answers of --question, e.g. yes,no; without them the answer is free text",
    )
    parser.add_argument(
        "--question-hz",
        metavar="HZ",
        type=float,
        default=2.0,
        help="how often to ask where the drive has no keyframes (2)",
    )
    parser.add_argument(
        "--sensors",
        metavar="LIST",
        help="sensors that are switched on, e.g. cam_front,lidar_top (default: all of the pack); "
        f"{_OBJECTS} is the ground truth of a data set, or the boxes in a bag, and takes part only "
        "where it is named",
    )
    parser.add_argument(
        "--drop",
        metavar="SENSOR@5s..8s",
        action="append",
        default=[],
        help="take a sensor away for a while, in seconds of the drive; SENSOR alone: all the time",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="results folder (results/replay-<UTC time>)"
    )
    parser.add_argument(
        "--no-bag", action="store_true", help="write no bag with the answers beside the sensors"
    )
    parser.add_argument(
        "--rerun", metavar="FILE.rrd", type=Path, help="also record for the viewer of Rerun"
    )
    parser.add_argument("--no-live", action="store_true", help="one line per keyframe, no table")
    parser.add_argument("--json", action="store_true", help="print one JSON object, no text")
    add_runtime_arguments(parser)
    add_budget_arguments(parser)


def _run(args: Namespace) -> int:
    config = read_arguments(args)
    if args.sensors is not None:
        named = comma_list(args.sensors, "--sensors")
        config = config.model_copy(update={"sensors": named})
    rate = _rate(args.rate)
    _check(args)
    # What is heavy is imported from here on, so that a typing error is answered at once.
    from ..simulation.replay.drops import check_drops, parse_drop
    from ..simulation.replay.player import Pace

    pace = Pace(rate, args.question_hz)
    drops = [parse_drop(text) for text in args.drop]
    standing = _standing_questions(args)

    from .replay_questions import choose_questions
    from .replay_run import Replay
    from .replay_sources import find_drives
    from .results import Results, new_folder_name

    progress = ProgressLine(args.json)
    with progress:
        progress(f"opening {args.path}")
        # Ground truth takes part only where it is named.
        objects = _OBJECTS in (config.sensors or ())
        found = find_drives(args.path, args.version, args.scene, objects=objects)
        chosen = choose_questions(
            args.path,
            found,
            file=args.questions,
            split=args.split,
            limit=args.limit,
            standing=standing,
        )
    for entry in found.entries[:1] if drops else ():
        # Checked again per drive; a typing error shows before models are loaded.
        check_drops(drops, entry.open().sensors)
    if args.rerun is not None:
        from ..simulation.replay.rerun_recording import check_rerun

        check_rerun()
    # Made before models are, which may take minutes: a folder that cannot be written shows now.
    with Results(args.out or new_folder_name("replay"), config) as results:
        with progress:
            from ..assembly import open_runtime

            runtime = open_runtime(config, progress)
        with runtime:
            if not objects and _OBJECTS in runtime.sensors:
                runtime.switch_sensors([one for one in runtime.sensors if one != _OBJECTS])
            replay = Replay(
                runtime,
                found,
                chosen,
                results,
                pace=pace,
                drops=drops,
                rerun=args.rerun,
                writes_bags=not args.no_bag,
            )
            replay.play(as_json=args.json, redraw=not args.no_live)
    return 0


def _rate(typed: str) -> float | None:
    if typed == _MAX_RATE:
        return None
    try:
        rate = float(typed)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ConfigError(
            f"'{typed}' is no rate",
            field="--rate",
            remedy=f"give a positive number such as 1.0, or {_MAX_RATE}",
        )
    return rate


def _check(args: Namespace) -> None:
    if args.limit is not None and args.limit < 1:
        raise ConfigError(
            f"{args.limit} questions per keyframe are none",
            field="--limit",
            remedy="give 1 or more",
        )
    if args.answers is not None and not args.question:
        raise ConfigError(
            "allowed answers are given, but no question",
            field="--answers",
            remedy="give --question too; questions of a file have the answers of NuScenes-QA",
        )
    if args.rerun is not None and not args.rerun.absolute().parent.is_dir():
        raise ConfigError(
            "the folder of the recording does not exist",
            field=str(args.rerun),
            remedy="make it, or name another file with --rerun",
        )


def _standing_questions(args: Namespace) -> list[Question]:
    from ..runtime.questions import NUSCENES_QA_ANSWERS, Question

    answers = None
    if args.answers == _NUSCENES_QA:
        answers = NUSCENES_QA_ANSWERS
    elif args.answers is not None:
        answers = comma_list(args.answers, "--answers")
    # Asked at every keyframe, a question that is given twice is one.
    return list(dict.fromkeys(Question(text, answers) for text in args.question))


COMMAND = Command(
    "replay", "play a drive through the runtime and count its answers", _add_arguments, _run
)
