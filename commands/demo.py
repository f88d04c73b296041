"""`tailwire demo`: standing questions on a drive, while sensors are switched off and on.

What happens to the sensors is in `demo_script.py`, what is drawn in `demo_view.py`.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError
from .arguments import add_drive_arguments, add_runtime_arguments, read_arguments
from .command import Command
from .progress import ProgressLine, process_age_s

if TYPE_CHECKING:
    from ..runtime.frames import Modality
    from ..runtime.runtime import Runtime
    from .demo_record import DemoRecord
    from .demo_script import Script
    from .demo_view import DemoTitle
    from .drives import Drive, Playback
    from .results import Results

_STEPS = 25


def _add_arguments(parser: ArgumentParser) -> None:
    add_drive_arguments(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="results folder (results/demo-<UTC time>)"
    )
    parser.add_argument(
        "--steps", metavar="N", type=int, default=_STEPS, help=f"how many frames ({_STEPS})"
    )
    parser.add_argument("--no-live", action="store_true", help="one line per step, no live table")
    parser.add_argument(
        "--capture", metavar="FILE.svg", type=Path, help="save the last table as a picture"
    )
    add_runtime_arguments(parser)


def _run(args: Namespace) -> int:
    config = read_arguments(args)
    _check(args)
    # What is heavy is imported from here on, so that a typing error is answered at once.
    from .drives import Playback, open_drive
    from .results import Results, new_folder_name

    with ProgressLine() as progress:
        drive = open_drive(args.nuscenes, args.version, progress)
        playback = Playback(drive)
        results = Results(args.out or new_folder_name("demo"), config)
        with results:
            progress("loading")
            from ..assembly import open_runtime

            with open_runtime(config, progress) as runtime:
                demo = _Demo(runtime, drive, playback, results, args.steps)
