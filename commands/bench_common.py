"""What sub-commands of `tailwire bench` share: options, kept results, and comparisons with them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .arguments import add_drive_arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..assembly import Assembly
    from ..runtime.runtime import Runtime
    from .drives import Playback

_TOLERANCE_PERCENT = 10.0
_MARKS = {"regression": "WORSE", "better": "better", "same": "same", "missing": "missing"}


def add_result_options(parser: ArgumentParser) -> None:
    """Options for keeping and comparing a result."""
    parser.add_argument(
        "--compare", metavar="OLD.json", type=Path, help="mark what is worse than in a kept result"
    )
    add_keeping_options(parser)


def add_keeping_options(parser: ArgumentParser) -> None:
    """Those of `add_result_options` that do not depend on what an earlier result is."""
    parser.add_argument("--save", metavar="FILE", type=Path, help="keep the result as JSON")
    parser.add_argument(
        "--tolerance",
        metavar="PERCENT",
        type=float,
        default=_TOLERANCE_PERCENT,
        help=f"by which times may be worse ({_TOLERANCE_PERCENT:g}); counted figures may not",
    )
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")


def add_runtime_options(parser: ArgumentParser) -> None:
    """Options that choose what is measured."""
    parser.add_argument("--model", default=None, help="registry name, GGUF file or folder")
    parser.add_argument("--precision", default=None, choices=("fp32", "int8", "int4"))
    parser.add_argument("--pack", default=None, help="folder or name (that of the model)")
    parser.add_argument("--threads", type=int, default=2, help="of engines (2)")
    parser.add_argument("--tail", metavar="BLOCKS", type=int, default=None, help="tail depth")
    parser.add_argument(
        "--sensors", metavar="LIST", help="comma-separated (those that pack and drive have)"
    )


def add_drive_options(parser: ArgumentParser) -> None:
    """Options that choose the frames."""
    add_drive_arguments(parser)


def tolerance_share(arguments: Namespace) -> float:
    """By which share times may be worse.

    Raises:
        ConfigError: the option is no share.
    """
    share = float(getattr(arguments, "tolerance", _TOLERANCE_PERCENT)) / 100
    if not 0 <= share < float("inf"):
        raise ConfigError(
            f"{arguments.tolerance:g} % is no tolerance",
            field="--tolerance",
            remedy="give 0 or more",
        )
    return share


class Comparison:
    """The earlier result that a new one is compared with, if any."""

    def __init__(self, arguments: Namespace) -> None:
        """Read it now, so that a typing error shows before minutes of measuring.

        Raises:
            ConfigError: the tolerance is no share, or there is no such file.
        """
        self._tolerance = tolerance_share(arguments)
        self._old: dict[str, Any] | None = None
        self._skipped: str | None = None
        path: Path | None = getattr(arguments, "compare", None)
        if path is None:
            return
        if not path.is_file():
            raise ConfigError(
                "there is no such file", field="--compare", remedy="name a kept result"
            )
        from ..benchmarks.result_file import read_result

        try:
            self._old = read_result(path)
        except ConfigError as error:
            # The measurement itself is worth having.
            self._skipped = f"{path}: {error.problem}; {error.remedy}"
            say(f"not compared: {self._skipped}")

    def add_to(self, result: dict[str, Any]) -> None:
        """Put `comparison` into a result, if one was asked for."""
        from ..benchmarks.result_file import compare_results

        if self._old is not None:
            try:
                result["comparison"] = compare_results(self._old, result, tolerance=self._tolerance)
            except ConfigError as error:
                self._skipped = error.problem
        if self._skipped is not None:
            result["comparison"] = {"skipped": self._skipped, "regressions": []}


def print_comparison(found: dict[str, Any]) -> None:
    """Print what has changed."""
    if "skipped" in found:
        print(f"not compared: {found['skipped']}")
        return
    print(f"compared with the result of {found['with']['date']}:")
    for name, row in found["rows"].items():
        change = "" if row["change"] is None else f"{row['change']:+8.1%}"
        print(f"  {_MARKS[row['verdict']]:<8} {name:<40} {row['old']} -> {row['new']} {change}")
    for note in found["notes"]:
        print(f"  note: {note}")


def open_assembly(arguments: Namespace) -> Assembly:
    """The assembly that the options name; its runtime is not loaded yet."""
    from ..assembly import Assembly
    from ..runtime.config import read_config

    sensors = getattr(arguments, "sensors", None)
    config = read_config(
        None,
        model=arguments.model,
        pack=arguments.pack,
        precision=arguments.precision,
        threads=arguments.threads,
        tail_blocks=arguments.tail,
        sensors=None if sensors is None else [one.strip() for one in sensors.split(",")],
    )
    return Assembly(config, say)


def standing_questions(
    runtime: Runtime, count: int | None = None
) -> list[tuple[str, Sequence[str]]]:
    """Standing questions with allowed answers: those of the pack, else some others.

    Args:
        runtime: that is to answer them.
        count: how many, repeating them where there are fewer; None for all.
    """
    from ..simulation.questions.standing import STANDING_QUESTIONS

    suggested = [(one.text, one.answers) for one in runtime.pack.questions if one.answers]
    known: list[tuple[str, Sequence[str]]] = [*suggested] or [*STANDING_QUESTIONS]
    return known if count is None else [known[i % len(known)] for i in range(count)]


def open_playback(arguments: Namespace, runtime: Runtime) -> Playback:
    """The frames of a drive; leaves those sensors on that it has.

    Raises:
        SensorError: pack and drive have no sensor in common.
    """
    from ..runtime.errors import SensorError
    from .drives import Playback, open_drive, perceiving

    drive = open_drive(arguments.nuscenes, arguments.version, say)
    there = [name for name in perceiving(runtime) if name in drive.data.sensors]
    if not there:
        raise SensorError(
            f"pack and drive ({drive.title}) have no sensor in common",
            field="sensors",
            remedy=f"the drive has {', '.join(drive.data.sensors)}",
        )
    runtime.switch_sensors(there)
    return Playback(drive)


def counter(arguments: Namespace, what: str) -> Callable[[int, int], None] | None:
    """Tells progress on a terminal."""
    if arguments.json or not sys.stderr.isatty():
        return None
    return lambda done, total: print(
        f"\r{what} {done} of {total}", end="\n" if done == total else "", file=sys.stderr
    )


def say(text: str) -> None:
    """Tell what is being done, beside the result."""
    print(text, file=sys.stderr, flush=True)


def print_machine(result: dict[str, Any]) -> None:
    """Print what was measured, and on what."""
    machine = result["machine"]
    print(f"{result['benchmark']}: {result['settings']}")
    load = machine["load_average_1min"]
    busy = "" if load is None else f", load {load:g}"
    print(
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores{busy}, power mode "
        f"{machine['power_mode']}, {machine['versions']}"
    )


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print a table, indented."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        print("  " + "  ".join([name.ljust(widths[0]), *padded]).rstrip())
