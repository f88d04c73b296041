"""`tailwire questions`: questions with known answers for a nuScenes drive, or a check of a file."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import DataError
from .command import Command
from .progress import ProgressLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..simulation.nuscenes import NuScenes
    from ..simulation.questions.items import QaItem


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("dataroot", metavar="DATAROOT", type=Path, help="of a nuScenes data set")
    parser.add_argument(
        "--version",
        metavar="NAME",
        help="version folder in the dataroot; not needed where there is only one",
    )
    parser.add_argument("--seed", metavar="N", type=int, default=7, help="of what is asked (7)")
    parser.add_argument(
        "--per-keyframe",
        metavar="N",
        type=int,
        default=30,
        help="most questions about one keyframe (30)",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="folder for the files (DATAROOT/questions)"
    )
    parser.add_argument(
        "--check",
        metavar="FILE",
        type=Path,
        help="make nothing; check a question file of NuScenes-QA or of ours against the data set",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _run(args: Namespace) -> int:
    from ..simulation.nuscenes import NuScenes
    from .questions_report import QuestionsReport

    data = NuScenes.open(args.dataroot, args.version)
    with ProgressLine(args.quiet or args.json) as progress:
        if args.check is not None:
            files, items, elsewhere = [args.check], *_checked(data, args.check)
        else:
            (files, items), elsewhere = _made(data, args, progress), 0
        progress("fitting the baselines that see nothing")
        report = QuestionsReport.of(items, files, elsewhere)
    if args.json:
        print(json.dumps(report.as_json()))
    else:
        report.print()
    return 0


def _made(
    data: NuScenes, args: Namespace, progress: ProgressLine
) -> tuple[list[Path], Sequence[QaItem]]:
    from ..simulation.questions.files import FOLDER, question_file, read_questions, write_questions

    write_questions(
        data,
        seed=args.seed,
        per_keyframe=args.per_keyframe,
        out=args.out,
        progress=lambda count: progress(f"{count} questions"),
    )
    folder = args.out or data.dataroot / FOLDER
    files = [question_file(folder, split) for split in ("train", "val")]
    return files, [item for file in files for item in read_questions(file)]


def _checked(data: NuScenes, file: Path) -> tuple[Sequence[QaItem], int]:
    """The questions of a file about keyframes of the data set, and how many are about others.

    Raises:
        DataError: the file is wrong, or knows none of the keyframes.
    """
    from ..simulation.questions.files import read_questions

    items = read_questions(file)
    known = {sample.token for scene in data.scenes for sample in data.samples(scene)}
    here = [item for item in items if item.sample_token in known]
    # The published files are about all of nuScenes, of which mini has a hundredth.
    if not here:
        problem = f"none of its {len(items)} questions is about a keyframe of this data set"
        raise DataError(
            problem if items else "the file has no question",
            field=str(file),
            remedy=f"give a file that belongs to {data.dataroot}, version {data.version}",
        )
    return here, len(items) - len(here)


COMMAND = Command(
    "questions",
    "make questions with known answers for a drive, or check a file",
    _add_arguments,
    _run,
)
