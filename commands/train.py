"""`tailwire train`: encoders, connections, and packs of them; each has a module of its own."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from . import train_connections, train_encoders, train_pack, train_senses
from .command import Command


def _add_arguments(parser: ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", required=True, metavar="WHAT")
    for module, name, text in (
        (train_encoders, "encoders", "detectors that turn camera and LiDAR frames into tokens"),
        (train_connections, "connections", "from tokens to answers, encoders and model frozen"),
        (train_pack, "pack", "put what was trained into a pack"),
        (train_senses, "senses", "packs of one sense each, to be composed, and a joint one"),
    ):
        part = parts.add_parser(name, help=text, description=text)
        module.add_arguments(part)
        part.set_defaults(run_part=module.run)


def _run(args: Namespace) -> int:
    return args.run_part(args)


COMMAND = Command("train", "train encoders and connections on drives", _add_arguments, _run)
