"""`tailwire build`: engines of exported graphs, on the device that will run them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from .command import Command

#: The device cannot take some graphs; the others are built.
_SOME_REFUSED = 1


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("export", metavar="DIR", type=Path, help="written by `tailwire export`")


def _run(arguments: Namespace) -> int:
    from ..runtime.errors import EngineError
    from ..tensorrt_store import TensorRtLoader

    loader = TensorRtLoader(arguments.export, _say)
    # What is missing altogether is one error, not one for each graph.
    _ = loader.context
    refused = 0
    for graph in loader.manifest.graphs:
        try:
            print(f"{graph.role:<16} {loader.build(graph)}")
        except EngineError as error:
            refused += 1
            print(f"{graph.role:<16} not built, it will run on the CPU: {error}")
    return _SOME_REFUSED if refused else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


COMMAND = Command("build", "build TensorRT engines of exported graphs", _add_arguments, _run)
