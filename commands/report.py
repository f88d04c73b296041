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
    from collections.abc import Sequence

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
    from ..runtime.files import readable_bytes

    drives = None if args.no_pictures else args.nuscenes
    page, found = write_page(args.folder, args.out or args.folder / _PAGE, drives)
    shown = [*found.benchmarks, *(["schedule"] if found.schedule else [])]
    shown += [*found.evaluations, *(run.name for run in found.runs)]
    print_fact("shows", ", ".join(dict.fromkeys(shown)))
    for note in found.notes:
        print_fact("note", note)
    print_fact("page", f"{page} ({readable_bytes(page.stat().st_size)})")
    return 0


def write_page(folder: Path, target: Path, drives: Sequence[Path] | None) -> tuple[Path, Findings]:
    """Write the page about a folder.

    Args:
        folder: with results.
        target: of the page.
        drives: whose frames are shown beside those of the clip; None shows no frames.

    Raises:
        TailwireError: nothing can be shown, a drive cannot be opened, or the page not be written.
    """
    from .. import __version__
    from ..benchmarks.report.findings import read_findings
    from ..benchmarks.report.page import page
    from ..benchmarks.report.pictures import picture
    from ..runtime.errors import CacheError
    from ..runtime.files import write_atomic

    found = read_findings(folder.resolve())
    opened = [] if drives is None else _opened(drives, found)
    now = datetime.now(timezone.utc)
    text = page(
        found, lambda step: picture(opened, step), version=__version__, date=f"{now:%Y-%m-%d}"
    )
    try:
        write_atomic(target, text)
    except CacheError as error:
        raise ConfigError(
            f"the page cannot be written: {error.problem}",
            field=str(target),
            remedy="name a file that can be written with --out FILE",
        ) from error
    return target, found


def _opened(drives: Sequence[Path], found: Findings) -> list[NuScenes]:
    """Drives that frames are taken from; the clip too, if a run may have played it."""
    from ..simulation.nuscenes import NuScenes
    from .drives import clip_dataroot

    named = [NuScenes.open(root, None) for root in drives]
    if not any(step.sample_token for run in found.runs for step in run.steps):
        return named
    try:
        clip = NuScenes.open(clip_dataroot(lambda text: print(text, file=sys.stderr)), None)
    except TailwireError as error:
        found.notes.append(f"no frames of the clip: {error.problem}")
        return named
    return [*named, clip]


COMMAND = Command("report", "one HTML page about a folder of results", _add_arguments, _run)
