"""`tailwire bench kernels`: pictures and sweeps to network inputs, beside numpy and OpenCV."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import DataError
from .bench_common import add_result_options, counter, say
from .keyframes import spread_moments

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_ROUNDS = 50


def add_kernels(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser(
        "kernels", help="pictures and sweeps to network inputs, beside numpy and OpenCV"
    )
    parser.add_argument("--nuscenes", metavar="DIR", type=Path, help="(the shipped clip)")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"counted runs ({_ROUNDS})")
    add_result_options(parser)


def run_kernels(arguments: Namespace) -> dict[str, Any]:
    """Read a keyframe and measure.

    Raises:
        DataError: the drive has no camera or no LiDAR.
    """
    from ..benchmarks.kernels import bench_kernels
    from ..runtime.compiled_kernels import compiled_arrays

    library, how = compiled_arrays()
    say(f"kernels: {how}")
    frames = [
        frame for moment in spread_moments(arguments.nuscenes, 1, say) for frame in moment.values()
    ]
    pictures = [one.payload for one in frames if isinstance(one.payload, bytes)]
    clouds = [one.payload for one in frames if one.modality == "lidar"]
    if not pictures or not clouds:
        raise DataError(
            "the first keyframe has no JPEG or no sweep",
            field="--nuscenes",
            remedy="name a drive with cameras and a LiDAR",
        )
    return bench_kernels(
        pictures,
        clouds[0],  # pyright: ignore[reportArgumentType] - a cloud
        library,
        rounds=arguments.rounds,
        progress=counter(arguments, "round"),
    )


def print_kernels(result: dict[str, Any]) -> None:
    """A line for each kernel and neighbour."""
    for name, ms in result["ms"].items():
        print(
            f"  {name:<20} median {ms['median']:8.3f} ms   least {ms['min']:8.3f}   "
            f"p90 {ms['p90']:8.3f}"
        )
