"""`tailwire build`: engines of exported graphs, on the device that will run them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from .command import Command


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("export", metavar="DIR", type=Path, help="written by `tailwire export`")


def _run(arguments: Namespace) -> int:
    from ..tensorrt_store import TensorRtLoader

    loader = TensorRtLoader(arguments.export, _say)
    for graph in loader.manifest.graphs:
        print(f"{graph.role:<16} {loader.build(graph)}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


COMMAND = Command("build", "build TensorRT engines of exported graphs", _add_arguments, _run)
