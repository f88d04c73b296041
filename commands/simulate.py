"""`tailwire simulate`: made drives, written as nuScenes data sets with questions."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..runtime.errors import ConfigError, TailwireError
from ..runtime.files import readable_bytes
from .arguments import comma_list
from .command import Command
from .progress import ProgressLine, duration

if TYPE_CHECKING:
    from ..simulation.drive_parameters import RendererName
    from ..simulation.made_drive import DriveProgress, MadeDrive
    from ..simulation.world.condition import ConditionName

_OPTIONS = (
    "scenes",
    "seconds",
    "seed",
    "conditions",
    "layouts",
    "image_width",
    "camera_hz",
    "lidar_hz",
    "renderer",
    "meshes",
    "workers",
    "version",
)


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="dataroot to make; must not exist"
    )
    parser.add_argument("--scenes", metavar="N", type=int, default=20, help="how many (20)")
    parser.add_argument(
        "--seconds", metavar="S", type=float, default=20.0, help="length of a scene (20)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=7, help="of everything (7)")
    parser.add_argument(
        "--conditions",
        metavar="LIST",
        default="day,night,rain,fog",
        help="of light and weather, scene by scene in turn (day,night,rain,fog)",
    )
    parser.add_argument(
        "--layouts", metavar="FILE", type=Path, help="real street layouts instead of made-up ones"
    )
    parser.add_argument("--camera-hz", metavar="HZ", type=int, default=12, help="12, 6, 4 or 2")
    parser.add_argument("--lidar-hz", metavar="HZ", type=int, default=20, help="20, 10, 4 or 2")
    parser.add_argument(
        "--image-width", metavar="PIXELS", type=int, default=800, help="of 16 : 9 images (800)"
    )
    parser.add_argument(
        "--renderer",
        metavar="auto|gl|ray",
        default="auto",
        help="OpenGL without a screen, or rays (slow, needs no OpenGL)",
    )
    parser.add_argument(
        "--meshes", metavar="DIR", type=Path, help="glTF or OBJ meshes instead of the built-in ones"
    )
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="processes (2)")
    parser.add_argument(
        "--version",
        metavar="NAME",
        default="v1.0-trainval",
        help="folder of the tables (v1.0-trainval)",
    )
    parser.add_argument("--no-questions", action="store_true", help="make no questions")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def _run(args: Namespace) -> int:
    conditions = comma_list(args.conditions, "--conditions")
    if args.workers < 1:
        raise ConfigError(
            f"{args.workers} processes make nothing", field="--workers", remedy="give at least 1"
        )
    from ..simulation.made_drive import make_drive

    try:
        with ProgressLine(args.quiet) as line:
            made = make_drive(
                args.out,
                args.scenes,
                args.seconds,
                args.seed,
                cast("tuple[ConditionName, ...]", conditions),
                layouts=args.layouts,
                image_width=args.image_width,
                camera_hz=args.camera_hz,
                lidar_hz=args.lidar_hz,
                renderer=cast("RendererName", args.renderer),
                meshes=args.meshes,
                workers=args.workers,
                version=args.version,
                questions=not args.no_questions,
                on_progress=lambda progress: line(_progress_text(progress)),
            )
    except TailwireError as error:
        if error.field not in _OPTIONS:
            raise
        option = "--" + error.field.replace("_", "-")
        raise type(error)(error.problem, field=option, remedy=error.remedy) from error
    except KeyboardInterrupt:
        print("the same command goes on behind the scenes that are finished", file=sys.stderr)
        raise
    _show(made, args.workers)
    return 0


def _progress_text(progress: DriveProgress) -> str:
    if progress.stage == "tables":
        return "joining the tables"
    if progress.stage == "questions":
        return "making questions"
    text = (
        f"{progress.scenes_done} of {progress.scenes} scenes, "
        f"{progress.keyframes_done} of {progress.keyframes} keyframes"
    )
    if progress.keyframes_per_s:
        left_s = (progress.keyframes - progress.keyframes_done) / progress.keyframes_per_s
        text += f", {progress.keyframes_per_s:.2f} keyframes/s, {duration(left_s)} left"
    return text


def _show(made: MadeDrive, workers: int) -> None:
    from ..simulation.made_drive import PEAK_MEMORY_METHOD

    rate = made.keyframes_made / max(made.scene_seconds, 1e-9)
    memory = [
        f"{readable_bytes(made.peak_rss_bytes)} here",
        f"{readable_bytes(made.worker_peak_rss_bytes)} in the largest worker",
    ]
    rows = [
        ("scenes", f"{made.scenes}"),
        ("keyframes", f"{made.keyframes}"),
        ("sensor files", f"{made.frames}, {readable_bytes(made.num_bytes)}"),
        ("boxes", f"{made.annotations}"),
        ("questions", f"{made.questions}"),
    ]
    if made.keyframes_made:
        rows += [
            (
                "speed",
                f"{rate:.2f} keyframes/s ({made.keyframes_made} in "
                f"{duration(made.scene_seconds)}, up to {workers} processes, files included)",
            ),
            ("memory", f"{', '.join(memory)}: {PEAK_MEMORY_METHOD}"),
        ]
    print(f"made {made.out}")
    for name, text in rows:
        print(f"  {name:<13} {text}")
    root = shlex.quote(str(made.out))
    print("Next:")
    print(f"  tailwire look {root} --out picture.png")
    print(f"  tailwire bag {root} --scene scene-0001 --out {shlex.quote(f'{made.out}-bag')}")
    print(f"  tailwire replay {root}")


COMMAND = Command("simulate", "make drives with known answers", _add_arguments, _run)
