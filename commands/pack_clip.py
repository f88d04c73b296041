"""`python -m tailwire.commands.pack_clip`: how the clip that ships with the project was made.

For the project's own use, so it is no sub-command of `tailwire`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ..cli import describe
from ..runtime.errors import ConfigError, TailwireError
from .arguments import comma_list

_SIMULATE_OPTIONS = ("scenes", "seconds", "seed", "conditions", "camera_hz", "lidar_hz")


def main(argv: Sequence[str] | None = None) -> int:
    """Make the archive; returns the exit code, 2 for wrong input."""
    from ..simulation.clip import clip_archive
    from ..simulation.clip.pack import ClipOptions, pack_clip

    parser = argparse.ArgumentParser(prog="python -m tailwire.commands.pack_clip")
    parser.add_argument("dataroot", metavar="DATAROOT", type=Path, help="of a made drive")
    parser.add_argument(
        "--seconds", metavar="LIST", required=True, help="kept of each scene, e.g. 10,6.5"
    )
    parser.add_argument("--image-width", metavar="PX", type=int, default=640)
    parser.add_argument("--quality", metavar="N", type=int, default=75, help="of JPEG")
    parser.add_argument("--out", metavar="FILE.zip", type=Path, default=clip_archive())
    args = parser.parse_args(argv)
    try:
        options = ClipOptions(_numbers(args.seconds), args.image_width, args.quality)
        ours = (
            f"python -m tailwire.commands.pack_clip made --seconds {args.seconds} "
            f"--image-width {args.image_width} --quality {args.quality}"
        )
        record = pack_clip(args.dataroot, args.out, options, (_simulated(args.dataroot), ours))
    except TailwireError as error:
        print(describe(error), file=sys.stderr)
        return 2
    print(f"{args.out}: {record.size_bytes / 1e6:.2f} MB, {record.files} files")
    print(f"unpacked {record.unpacked_bytes / 1e6:.1f} MB, sha256 {record.sha256}")
    return 0


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in comma_list(text, "--seconds"))
    except ValueError as error:
        raise ConfigError(
            f"'{text}' is no list of numbers", field="--seconds", remedy="give e.g. 10,6.5"
        ) from error


def _simulated(dataroot: Path) -> str:
    """The command that made a drive, as its own record has it."""
    path = dataroot / "simulate.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        values = {name: settings[name] for name in _SIMULATE_OPTIONS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"how the drive was made cannot be read: {error}",
            field=str(path),
            remedy="give a drive of tailwire simulate",
        ) from error
    words = ["tailwire", "simulate"]
    for name, value in values.items():
        text = ",".join(value) if isinstance(value, list) else f"{value:g}"
        words += [f"--{name.replace('_', '-')}", text]
    return shlex.join([*words, "--out", "made"])


if __name__ == "__main__":
    sys.exit(main())
