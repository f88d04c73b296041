"""`tailwire models`: which models there are, fetch one, say where one is."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from .command import Command
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..runtime.model_specs import ModelEntry


def _add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="list the models and whether they are here")
    listing.add_argument("--json", action="store_true", help="one JSON array instead of a table")
    listing.set_defaults(action=_list)

    get = actions.add_parser("get", help="fetch a model and check all of it against its hash")
    get.add_argument("name", metavar="NAME")
    get.add_argument(
        "--from",
        dest="from_file",
        metavar="FILE",
        type=Path,
        help="take it from this file (the model itself, or the wheel with it)",
    )
    get.add_argument("--offline", action="store_true", help="never use the network")
    get.add_argument("-q", "--quiet", action="store_true", help="no progress")
    get.set_defaults(action=_get)

    path = actions.add_parser("path", help="print where a model is; never uses the network")
    path.add_argument("name", metavar="NAME")
    path.set_defaults(action=_path)


def _run(args: Namespace) -> int:
    return args.action(args)


def _list(args: Namespace) -> int:
    from ..runtime.model_registry import ModelRegistry

    entries = ModelRegistry().entries()
    if args.json:
        print(json.dumps([entry.model_dump(mode="json") for entry in entries]))
        return 0
    rows = [("NAME", "KIND", "STATE", "SIZE", "LICENCE", "SOURCE"), *map(_row, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0


def _row(entry: ModelEntry) -> tuple[str, ...]:
    from ..runtime.files import readable_bytes
    from ..runtime.model_specs import WheelSource

    source = entry.source
    origin = f"PyPI {source.requirement}" if isinstance(source, WheelSource) else str(source.path)
    size = readable_bytes(entry.size_bytes) if entry.size_bytes else "unknown"
    return entry.name, entry.kind.replace("_", " "), entry.state, size, entry.licence, origin


def _get(args: Namespace) -> int:
    from ..runtime.model_registry import ModelRegistry

    with ProgressLine(args.quiet) as progress:
        path = ModelRegistry().get(
            args.name, from_file=args.from_file, offline=args.offline, progress=progress
        )
    print(path)
    return 0


def _path(args: Namespace) -> int:
    from ..runtime.model_registry import ModelRegistry

    print(ModelRegistry().path(args.name))
    return 0


COMMAND = Command("models", "list, fetch and find models", _add_arguments, _run)
