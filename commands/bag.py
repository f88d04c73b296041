"""`tailwire bag`: scenes of a nuScenes data set as ROS 2 bags."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError, DataError
from ..runtime.files import readable_bytes
from .arguments import comma_list
from .command import Command
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..simulation.bags import BagSummary
    from ..simulation.nuscenes import NuScenes

_SHOWN_DROPS = 5


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("dataroot", metavar="DATAROOT", type=Path, help="of the nuScenes data set")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="bag to make")
    parser.add_argument("--scene", metavar="NAME", help="not needed where there is only one")
    parser.add_argument(
        "--all", action="store_true", help="every scene, each as a bag DIR/<name of the scene>"
    )
    parser.add_argument("--version", metavar="NAME", help="version folder, e.g. v1.0-mini")
    parser.add_argument(
        "--sensors", metavar="LIST", help="only these, e.g. cam_front,lidar_top (default: all)"
    )
    parser.add_argument(
        "--objects",
        action="store_true",
        help="also the annotated boxes, as the sensor objects on /objects: ground truth",
    )
    parser.add_argument("--compress", action="store_true", help="zstd in chunks")


def _run(args: Namespace) -> int:
    if args.all and args.scene is not None:
        raise ConfigError(
            "one scene and all of them are asked for", field="--all", remedy="give one of the two"
        )
    sensors = None if args.sensors is None else comma_list(args.sensors, "--sensors")
    from ..simulation.nuscenes import NuScenes

    data = NuScenes.open(args.dataroot, args.version)
    if args.all:
        return _write_all(args, data, sensors)
    _show(_write(args, data, args.scene or _only_scene(data), args.out, sensors))
    _show_next(args.out)
    return 0


def _write_all(args: Namespace, data: NuScenes, sensors: tuple[str, ...] | None) -> int:
    names = [scene.name for scene in data.scenes if scene.num_samples]
    for name in names:
        # The name comes from a table, and becomes one of a folder.
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise DataError(
                f"the name {name!r} of a scene makes no folder name",
                field=str(args.dataroot),
                remedy="write that scene with --scene and --out",
            )
    if not names:
        raise DataError(
            "the data set has no scene with a keyframe",
            field=str(args.dataroot),
            remedy="give a data set with at least one scene",
        )
    existing = [name for name in names if (args.out / name).exists()]
    if existing:
        # Said before minutes of work, not in the middle of them.
        raise DataError(
            f"{len(existing)} of the {len(names)} bags are there already: "
            f"{', '.join(existing[:5])}",
            field=str(args.out),
            remedy="remove them, or write elsewhere",
        )
    for name in names:
        _show(_write(args, data, name, args.out / name, sensors))
    _show_next(args.out / names[0])
    return 0


def _only_scene(data: NuScenes) -> str:
    names = [scene.name for scene in data.scenes]
    if len(names) == 1:
        return names[0]
    some = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    raise ConfigError(
        f"there are {len(names)} scenes: {some or 'none'}",
        field="--scene",
        remedy="name one, or write them all with --all",
    )


def _write(
    args: Namespace, data: NuScenes, scene: str, out: Path, sensors: tuple[str, ...] | None
) -> BagSummary:
    from ..simulation.bags import write_bag

    with ProgressLine() as progress:

        def tell(done: int, total: int) -> None:
            progress(f"{scene}: {done} of {total} sensor files")

        return write_bag(
            data,
            scene,
            out,
            sensors=sensors,
            objects=args.objects,
            compress=args.compress,
            on_progress=tell,
        )


def _show(summary: BagSummary) -> None:
    rows = [("TOPIC", "TYPE", "MESSAGES")]
    rows += [(t.topic, t.type, str(t.count)) for t in sorted(summary.topics, key=lambda t: t.topic)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for topic, kind, count in rows:
        print(f"{topic:<{widths[0]}}  {kind:<{widths[1]}}  {count:>{widths[2]}}")
    messages = sum(topic.count for topic in summary.topics)
    print(
        f"{summary.path}: {summary.title}, {messages} messages with {summary.num_frames} frames, "
        f"{summary.duration_ns / 1e9:.1f} s, {readable_bytes(summary.size_bytes)}"
    )
    if summary.dropped:
        count = len(summary.dropped)
        files = "1 sensor file" if count == 1 else f"{count} sensor files"
        print(f"{files} could not be read, not in the bag:")
        for drop in summary.dropped[:_SHOWN_DROPS]:
            print(f"  {drop.sensor} at {drop.stamp_ns} ns: {drop.reason}")
        if len(summary.dropped) > _SHOWN_DROPS:
            print(f"  ... and {len(summary.dropped) - _SHOWN_DROPS} more")
    for note in summary.notes:
        print(f"note: {note}")


def _show_next(bag: Path) -> None:
    name = shlex.quote(str(bag))
    print("next:")
    print(f"  tailwire replay {name}")
    print(f"  ros2 bag play {name}    (it carries /clock: no --clock, nodes with use_sim_time)")


COMMAND = Command("bag", "write scenes of nuScenes as ROS 2 bags", _add_arguments, _run)
