"""`tailwire report`: one self-contained HTML page about a folder of results."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError, TailwireError
from .command import Command
from .printing import print_fact

if TYPE_CHECKING:
    from ..benchmarks.report.findings import Findings
    from ..simulation.nuscenes import NuScenes

_PAGE = "report.html"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", type=Path, help="with results of bench, eval, demo and replay"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help=f"the page (DIR/{_PAGE})")
    parser.add_argument(
        "--nuscenes",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="drive whose sample frames are shown; may come again (the clip is known)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="without sample frames")


def _run(args: Namespace) -> int:
    from .. import __version__
    from ..benchmarks.report.findings import read_findings
    from ..benchmarks.report.page import page
    from ..benchmarks.report.pictures import picture
    from ..runtime.errors import CacheError
    from ..runtime.files import readable_bytes, write_atomic

    found = read_findings(args.folder.resolve())
    drives = [] if args.no_pictures else _drives(args, found)
    now = datetime.now(timezone.utc)
    text = page(
        found, lambda step: picture(drives, step), version=__version__, date=f"{now:%Y-%m-%d}"
    )
    target: Path = args.out or args.folder / _PAGE
    try:
        write_atomic(target, text)
    except CacheError as error:
        raise ConfigError(
            f"the page cannot be written: {error.problem}",
            field=str(target),
            remedy="name a file that can be written with --out FILE",
        ) from error
    shown = [*found.benchmarks, *(["schedule"] if found.schedule else [])]
    shown += [*found.evaluations, *(run.name for run in found.runs)]
    print_fact("shows", ", ".join(dict.fromkeys(shown)))
    for note in found.notes:
        print_fact("note", note)
    print_fact("page", f"{target} ({readable_bytes(len(text.encode()))})")
    return 0


def _drives(args: Namespace, found: Findings) -> list[NuScenes]:
    """Drives that frames are taken from; those of the clip too, if a run may have played it."""
    from ..simulation.nuscenes import NuScenes
    from .drives import open_drive

    named = [NuScenes.open(root, None) for root in args.nuscenes]
    if not any(step.sample_token for run in found.runs for step in run.steps):
        return named
    try:
        clip = open_drive(None, None, lambda text: print(text, file=sys.stderr))
    except TailwireError as error:
        found.notes.append(f"no frames of the clip: {error.problem}")
        return named
    return [*named, clip.data]


COMMAND = Command("report", "one HTML page about a folder of results", _add_arguments, _run)
