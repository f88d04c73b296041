"""`tailwire look`: a picture of a keyframe with boxes, LiDAR and questions."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import CacheError, ConfigError, DataError
from .command import Command
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..simulation.nuscenes import NuScenes, Sample
    from ..simulation.questions.items import QaItem

_SUFFIXES = (".png", ".jpg", ".jpeg")


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("dataroot", metavar="DATAROOT", type=Path, help="a nuScenes data set")
    parser.add_argument("--sample", metavar="TOKEN", help="keyframe (default: the first one)")
    parser.add_argument("--scene", metavar="NAME", help="take a keyframe of this scene")
    parser.add_argument(
        "--index", metavar="N", type=int, help="which keyframe of the scene, from 0 (0)"
    )
    parser.add_argument(
        "--all", action="store_true", help="every keyframe of the scene; --out names a folder"
    )
    parser.add_argument(
        "--out",
        metavar="PICTURE|DIR",
        type=Path,
        required=True,
        help="file to write, .png or .jpg; with --all a folder",
    )
    parser.add_argument(
        "--questions",
        metavar="FILE",
        type=Path,
        help="in the format of NuScenes-QA (default: those of the dataroot, if there are any)",
    )
    parser.add_argument("--version", metavar="NAME", help="version folder in the dataroot")


def _run(args: Namespace) -> int:
    _check(args)
    # What is heavy is imported from here on, so that a typing error is answered at once.
    from ..simulation.nuscenes import NuScenes

    with ProgressLine() as progress:
        progress(f"opening {args.dataroot}")
        data = NuScenes.open(args.dataroot, args.version)
        samples = _samples(data, args)
        questions = _questions(args.dataroot, args.questions)
        known = sum(len(questions.get(sample.token, ())) for sample in samples)
        if args.questions is not None and not known:
            raise DataError(
                "none of its questions is about "
                + ("a keyframe of this scene" if args.all else f"keyframe {samples[0].token}"),
                field=str(args.questions),
                remedy="name the questions of this data set, or another keyframe",
            )
        files: list[Path] = []
        for number, sample in enumerate(samples):
            file = args.out / f"{number:03d}-{sample.token}.png" if args.all else args.out
            progress(f"drawing {file}")
            _write(data, sample, questions.get(sample.token, ()), file)
            files.append(file)
    for file in files:
        print(file)
    return 0


def _check(args: Namespace) -> None:
    if args.sample is not None and (args.scene or args.index is not None or args.all):
        raise ConfigError(
            "a keyframe is named twice",
            field="--sample",
            remedy="give --sample, or --scene with --index or --all",
        )
    if args.all and args.index is not None:
        raise ConfigError(
            "one keyframe and all of them are asked for", field="--all", remedy="give one of them"
        )
    if args.all:
        if args.out.exists() and not args.out.is_dir():
            raise ConfigError(
                "a file lies where the pictures are to go",
                field=str(args.out),
                remedy="name a folder with --out",
            )
    elif args.out.suffix.lower() not in _SUFFIXES:
        raise ConfigError(
            f"'{args.out.name}' is no name of a picture",
            field="--out",
            remedy=f"let it end in one of {', '.join(_SUFFIXES)}; a folder goes with --all",
        )
    elif args.out.is_dir():
        raise ConfigError("a folder has this name", field=str(args.out), remedy="name a file")


def _samples(data: NuScenes, args: Namespace) -> Sequence[Sample]:
    if args.sample is not None:
        try:
            return [data.sample(args.sample)]
        except DataError as error:
            raise DataError(
                f"there is no keyframe '{args.sample}' in {data.dataroot / data.version}",
                field="--sample",
                remedy="take a token of its sample.json, or --scene NAME with --index N",
            ) from error
    scene = args.scene or next((one.token for one in data.scenes if one.num_samples), None)
    samples = () if scene is None else data.samples(scene)
    if not samples:
        raise DataError(
            "there is no keyframe to draw" if scene is None else f"{scene} has no keyframe",
            field=str(data.dataroot / data.version),
            remedy="give another data set or scene",
        )
    if args.all:
        return samples
    index = args.index or 0
    if not 0 <= index < len(samples):
        raise ConfigError(
            f"there is no keyframe {index}; the scene has {len(samples)}",
            field="--index",
            remedy=f"give 0 to {len(samples) - 1}",
        )
    return [samples[index]]


def _questions(dataroot: Path, file: Path | None) -> Mapping[str, Sequence[QaItem]]:
    """The questions by keyframe."""
    from ..simulation.questions.files import FOLDER, question_file, read_questions

    beside = [question_file(dataroot / FOLDER, split) for split in ("train", "val")]
    files = [one for one in beside if one.is_file()] if file is None else [file]
    found: dict[str, list[QaItem]] = {}
    for one in files:
        for item in read_questions(one):
            found.setdefault(item.sample_token, []).append(item)
    return found


def _write(data: NuScenes, sample: Sample, questions: Sequence[QaItem], file: Path) -> None:
    from ..runtime.files import open_atomic
    from ..simulation.look import draw_keyframe

    picture = draw_keyframe(
        data, sample, questions, note="no questions; `tailwire questions` makes some"
    )
    kind = "PNG" if file.suffix.lower() == ".png" else "JPEG"
    try:
        with open_atomic(file) as stream:
            picture.save(stream, format=kind)
    except CacheError as error:
        raise ConfigError(
            f"the picture {error.problem}",
            field=str(file),
            remedy="name a file that can be written with --out",
        ) from error


COMMAND = Command(
    "look", "draw a keyframe: cameras with boxes, LiDAR, questions", _add_arguments, _run
)
