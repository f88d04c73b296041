"""`tailwire bench recognition`: made images beside real ones, to a detector of photographs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from ..simulation.nuscenes.reader import NuScenes

_KEYFRAMES = 10


def add_recognition(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser(
        "recognition", help="does a detector of photographs recognise what data sets show"
    )
    parser.add_argument(
        "--nuscenes",
        metavar="DIR",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        help="data sets in nuScenes format, e.g. a made one and a real one",
    )
    parser.add_argument(
        "--keyframes", metavar="N", type=int, default=_KEYFRAMES, help=f"of each ({_KEYFRAMES})"
    )
    parser.add_argument(
        "--pictures", metavar="DIR", type=Path, help="save the images with what was found in them"
    )
    parser.add_argument(
        "--detector", metavar="FILE.tgz", type=Path, help="the detector's package, fetched by hand"
    )
    parser.add_argument("--offline", action="store_true", help="never use the network")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")


def run_recognition(arguments: Namespace) -> dict[str, Any]:
    """Fetch the detector if need be, and measure.

    Raises:
        ConfigError: a data set is given twice, or a number is wrong.
        TailwireError: a data set cannot be read, or the detector not be had.
    """
    if arguments.threads < 1:
        raise ConfigError(
            f"{arguments.threads} is too small", field="--threads", remedy="give at least 1"
        )
    from ..benchmarks.coco_detector import CocoDetector
    from ..benchmarks.detector_files import CENTERNET, detector_files
    from ..benchmarks.measure import machine_card
    from ..benchmarks.recognition import SeenImage, bench_recognition
    from ..benchmarks.recognition_pictures import save_picture

    # Opened first: a wrong folder is told before anything is fetched.
    drives = _open(arguments.nuscenes)
    files = detector_files(
        archive=arguments.detector,
        offline=arguments.offline,
        progress=lambda text: print(text, file=sys.stderr, flush=True),
    )
    detector = CocoDetector(files["graph"], files["weights"], threads=arguments.threads)

    def save(name: str, seen: SeenImage) -> None:
        save_picture(arguments.pictures, name, seen)

    quiet = arguments.json or not sys.stderr.isatty()
    result = bench_recognition(
        drives,
        detector,
        keyframes=arguments.keyframes,
        on_image=save if arguments.pictures is not None else None,
        progress=None if quiet else _count,
    )
    result["detector"] = {
        "package": f"{CENTERNET.name} {CENTERNET.version}",
        "origin": CENTERNET.origin,
        "licence": CENTERNET.licence,
        "sha256": {name: file.sha256 for name, file in CENTERNET.files.items()},
    }
    result["machine"] = machine_card(arguments.threads, ["onnxruntime", "onnx", "pillow", "numpy"])
    return result


def print_recognition(result: dict[str, Any]) -> None:
    """Print hit rates as a table, data sets side by side."""
    settings, data = result["settings"], result["data"]
    print(
        f"hits at IoU {settings['hit_iou']} (at {settings['lax_iou']}), score "
        f"{settings['min_score']} or more, images {'x'.join(map(str, settings['image_px']))}"
    )
    print(f"{result['detector']['package']}: {result['detector']['origin']}")
    width = max(44, *(len(name) + 2 for name in data))
    _print_row("", list(data), width)
    shown = [f"{part['keyframes']} keyframes, {part['images']} images" for part in data.values()]
    _print_row("", shown, width)
    for kind in next(iter(data.values()))["kinds"]:
        _print_row(kind, [_cell(part["kinds"][kind]) for part in data.values()], width)
    print("each: hit rate (95 % interval) hits of boxes, [hit rate at the laxer IoU], false")
    print("positives an image. What counted boxes were taken for:")
    for name, part in data.items():
        for kind, figures in part["kinds"].items():
            taken = ", ".join(f"{label} {count}" for label, count in figures["seen_as"].items())
            if taken:
                print(f"  {name}: {kind}: {taken}")


def _print_row(head: str, cells: list[str], width: int) -> None:
    print((f"{head:<14}" + "".join(f"{cell:<{width}}" for cell in cells)).rstrip())


def _cell(figures: dict[str, Any]) -> str:
    false_positives = figures["false_positives_per_image"]
    spurious = "" if false_positives is None else f" fp {false_positives:.2f}"
    if not figures["count"]:
        return f"no box{spurious}"
    low, high = figures["interval_95"]
    return (
        f"{figures['hit_rate']:.2f} ({low:.2f}-{high:.2f}) {figures['hits']} of "
        f"{figures['count']} [{figures['lax_hit_rate']:.2f}]{spurious}"
    )


def _open(folders: list[Path]) -> dict[str, NuScenes]:
    from ..simulation.nuscenes.reader import NuScenes

    drives: dict[str, NuScenes] = {}
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise ConfigError(
                "this data set is given twice",
                field=f"--nuscenes {folder}",
                remedy="give each data set once",
            )
        seen.add(folder.resolve())
        name = folder.resolve().name
        # Two data sets in folders of one name are told apart by their whole paths.
        drives[name if name not in drives else str(folder)] = NuScenes.open(folder)
    return drives


def _count(done: int, total: int) -> None:
    print(f"\rkeyframe {done} of {total}", end="\n" if done == total else "", file=sys.stderr)
