"""`tailwire bench all`: everything that a pack and a machine can be measured by, and a page."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .bench_common import add_keeping_options, print_comparison, say, tolerance_share

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Callable

_MINUTES = 15.0


def add_all(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser("all", help="all of a pack in 15 minutes, and a page about it")
    parser.add_argument("--model", default=None, help="registry name, GGUF file or folder")
    parser.add_argument("--precision", default=None, choices=("fp32", "int8", "int4"))
    parser.add_argument("--pack", default=None, help="folder or name (that of the model)")
    parser.add_argument("--threads", type=int, default=2, help="of engines (2)")
    parser.add_argument("--nuscenes", metavar="DIR", type=Path, help="frames (the shipped clip)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="for results (results/bench-<UTC time>)"
    )
    parser.add_argument(
        "--minutes", type=float, default=_MINUTES, help=f"for all together ({_MINUTES:g})"
    )
    parser.add_argument(
        "--parts",
        metavar="LIST",
        help="only these: frame,card,paper,memory,peers,standing,llm,scale,demo",
    )
    # Under another name than that of single results, which are files.
    parser.add_argument(
        "--compare",
        dest="earlier",
        metavar="OLD",
        type=Path,
        help="mark in each part what is worse than in an earlier run: its folder, or its --save",
    )
    add_keeping_options(parser)


def run_all(arguments: Namespace) -> dict[str, Any]:
    """Run all parts and write the page.

    Raises:
        TailwireError: an option is wrong, or no part has a result.
    """
    from ..benchmarks.everything import all_parts, compare_parts, earlier_folder, run_parts
    from ..benchmarks.measure import machine_card
    from .report import write_page

    if not 0 < arguments.minutes < float("inf"):
        raise ConfigError(
            f"{arguments.minutes:g} is no time", field="--minutes", remedy="give some above 0"
        )
    tolerance = tolerance_share(arguments)
    # Now, so that a typing error shows before minutes of measuring.
    earlier = None if arguments.earlier is None else _earlier(arguments.earlier, earlier_folder)
    folder: Path = arguments.out or Path(
        "results", f"bench-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"
    )
    if (folder / "demo" / "answers.jsonl").exists():
        raise ConfigError(
            "results of an earlier run are here", field=str(folder), remedy="name another folder"
        )
    if earlier is not None and earlier.resolve() == folder.resolve():
        raise ConfigError(
            "the earlier run is in the folder of this one",
            field="--out",
            remedy="name another folder",
        )
    model_words = _words(arguments, "model", "threads")
    runtime_words = [*model_words, *_words(arguments, "precision", "pack", "nuscenes")]
    parts = all_parts(folder, runtime_words, model_words)
    parts = [
        # The card is of a pack alone.
        part if part.name != "card" else _without(part, "--nuscenes")
        for part in parts
        if part.name in _chosen(arguments.parts, [one.name for one in parts])
    ]
    outcome = run_parts(parts, seconds=arguments.minutes * 60, progress=say)
    page = None
    if outcome.seconds:
        drives = [] if arguments.nuscenes is None else [arguments.nuscenes]
        page, _ = write_page(folder, folder / "report.html", drives)
    compared: dict[str, Any] = {}
    if earlier is not None:
        found = compare_parts(earlier, folder, list(outcome.seconds), tolerance=tolerance)
        compared["comparison"] = found
    return {
        "benchmark": "all",
        "folder": str(folder),
        "page": None if page is None else str(page),
        "parts": outcome.figures,
        "seconds": {name: round(value, 1) for name, value in outcome.seconds.items()},
        "failed": outcome.failed,
        "skipped": outcome.skipped,
        "settings": {"minutes": arguments.minutes, "threads": arguments.threads},
        "machine": machine_card(arguments.threads),
        **compared,
    }


def _words(arguments: Namespace, *names: str) -> list[str]:
    """The options that were given, as they were."""
    given = {name: getattr(arguments, name) for name in names}
    return [
        word
        for name, value in given.items()
        if value is not None
        for word in (f"--{name}", str(value))
    ]


def _without(part: Any, option: str) -> Any:
    from dataclasses import replace

    words = list(part.words)
    if option in words:
        place = words.index(option)
        del words[place : place + 2]
    return replace(part, words=words)


def _chosen(text: str | None, known: list[str]) -> list[str]:
    names = known if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there is no part '{name}'", field="--parts", remedy=f"use some of {known}"
            )
    return names


def _earlier(path: Path, folder_of: Callable[[Path], Path]) -> Path:
    if not path.exists():
        raise ConfigError(
            "there is no such folder or file",
            field="--compare",
            remedy="name the folder of an earlier run",
        )
    return folder_of(path)


def print_all(result: dict[str, Any]) -> None:
    """Print what ran, failed and was skipped."""
    for name, seconds in result["seconds"].items():
        figures = ", ".join(
            f"{key} {_short(value)}" for key, value in result["parts"][name].items()
        )
        print(f"  {name:<9} {seconds:6.1f} s  {figures}")
    for name, why in result["failed"].items():
        print(f"  {name:<9} failed: {why}")
    for name in result["skipped"]:
        print(f"  {name:<9} skipped, no time left")
    for name, found in result.get("comparison", {}).get("parts", {}).items():
        print(f"{name}, ", end="")
        print_comparison(found)
    print(f"page: {result['page']}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
