"""`tailwire demo`: standing questions on a drive, while sensors are switched off and on.

Only its options and what must be in place are here; the run itself is in `demo_run.py`.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..runtime.errors import ConfigError
from .arguments import add_drive_arguments, add_runtime_arguments, read_arguments
from .budget_options import add_budget_arguments
from .command import Command
from .progress import ProgressLine

_STEPS = 25


def _add_arguments(parser: ArgumentParser) -> None:
    add_drive_arguments(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="results folder (results/demo-<UTC time>)"
    )
    parser.add_argument(
        "--steps", metavar="N", type=int, help=f"how many frames (all of the clip; else {_STEPS})"
    )
    parser.add_argument("--no-live", action="store_true", help="one line per step, no live table")
    parser.add_argument(
        "--capture", metavar="FILE.svg", type=Path, help="save the last table as a picture"
    )
    add_runtime_arguments(parser)
    add_budget_arguments(parser)


def _run(args: Namespace) -> int:
    config = read_arguments(args)
    _check(args)
    # What is heavy is imported from here on, so that a typing error is answered at once.
    from .demo_run import Demo
    from .drives import Playback, open_drive
    from .results import Results, new_folder_name

    progress = ProgressLine()
    with progress:
        drive = open_drive(args.nuscenes, args.version, progress)
        drive.check_sensors(config.sensors)
        playback = Playback(drive)
        # Takes its time with a large data set, and a broken table shows before models are built.
        progress("reading annotations")
        _ = drive.data.has_annotations
    steps = args.steps or (len(playback) if playback.plays_all else _STEPS)
    # Made before models are, which may take minutes: a folder that cannot be written shows now.
    with Results(args.out or new_folder_name("demo"), config) as results:
        with progress:
            from ..assembly import open_runtime

            runtime = open_runtime(config, progress)
        with runtime:
            demo = Demo(runtime, playback, results, steps)
            demo.play(redraw=not args.no_live)
            if args.capture is not None:
                demo.save_picture(args.capture)
    return 0


def _check(args: Namespace) -> None:
    if args.steps is not None and args.steps < 1:
        raise ConfigError(
            f"{args.steps} steps are no demo", field="--steps", remedy="give at least 1"
        )
    if args.capture is not None and not args.capture.absolute().parent.is_dir():
        raise ConfigError(
            "the folder of the picture does not exist",
            field=str(args.capture),
            remedy="make it, or name another file with --capture",
        )


COMMAND = Command(
    "demo", "answer standing questions on a drive while sensors come and go", _add_arguments, _run
)
