"""`tailwire doctor`: what this machine can run, why not the rest, and where parts of a pack run."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .command import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..runtime.machine_report import Finding
    from ..runtime.part_report import Device, Placed


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--pack", metavar="DIR|NAME", help="whose parts are placed (`driving`, if it is here)"
    )
    parser.add_argument(
        "--engines",
        metavar="DIR",
        type=Path,
        help="written by `tailwire export`: also say where each of its graphs would run",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line")


def _run(arguments: Namespace) -> int:
    from ..runtime.config import DRIVING_PACK, pack_folder, shipped_pack
    from ..runtime.machine_report import (
        NOT_RUN_ON_A_GPU,
        backend_findings,
        find_jetson,
        machine_findings,
        python_fits,
    )
    from ..runtime.pack import load_pack
    from ..runtime.part_report import MEMORY_FALLBACK, best_device, placed_parts

    named = arguments.pack
    folder = shipped_pack(DRIVING_PACK) if named is None else pack_folder(named)
    pack = None if folder is None else load_pack(folder).manifest
    machine, backends = machine_findings(), backend_findings()
    parts = [] if pack is None else placed_parts(pack, machine, backends)
    graphs: list[Placed] = []
    if arguments.engines is not None:
        graphs = _placed_graphs(arguments.engines, best_device(backends))
    advice = python_fits(find_jetson())
    if arguments.json:
        told = _as_json(machine, backends, parts, graphs)
        told |= {"advice": advice, "memory": MEMORY_FALLBACK, "status": NOT_RUN_ON_A_GPU}
        print(json.dumps(told))
        return 0
    for title, findings in (("this machine", machine), ("back ends", backends)):
        print(title)
        for one in findings:
            mark = {True: "yes", False: "no", None: ""}[one.works]
            print(f"  {one.name:<20} {mark:<4} {one.detail}")
    if pack is not None:
        print(f"where the parts of the pack '{pack.name}' run: by default, and of an export")
        _print_placed(parts)
    if graphs:
        print(f"where the graphs of {arguments.engines} would run")
        _print_placed(graphs)
    for text in (advice, MEMORY_FALLBACK, NOT_RUN_ON_A_GPU):
        if text:
            print(text)
    return 0


def _placed_graphs(folder: Path, device: Device) -> list[Placed]:
    """Where each graph of an export would run.

    Raises:
        EngineError: the folder is no export.
    """
    from ..export.portable.readiness import problems_of
    from ..runtime.part_report import Placed
    from ..tensorrt_store import TensorRtLoader

    loader = TensorRtLoader(folder)
    found: list[Placed] = []
    for graph in loader.manifest.graphs:
        where = device.told
        if device.backend == "tensorrt":
            built = loader.is_built(graph)
            where += ", engine built" if built else f", engine to be built: tailwire build {folder}"
        problems = problems_of(folder / graph.file, graph)
        if problems:
            where += f"; TensorRT would refuse it, then CPU: {problems[0]}"
        found.append(Placed(graph.role, graph.precision, where))
    return found


def _as_json(
    machine: Sequence[Finding],
    backends: Sequence[Finding],
    parts: Sequence[Placed],
    graphs: Sequence[Placed],
) -> dict[str, Any]:
    told: dict[str, Any] = {
        part: {one.name: {"works": one.works, "detail": one.detail} for one in findings}
        for part, findings in (("machine", machine), ("backends", backends))
    }
    told["parts"] = {
        one.part: {"by_default": one.by_default, "exported": one.exported} for one in parts
    }
    told["graphs"] = {
        one.part: {"precision": one.by_default, "runs": one.exported} for one in graphs
    }
    return told


def _print_placed(placed: Sequence[Placed]) -> None:
    first = max(len(one.part) for one in placed)
    second = max(len(one.by_default) for one in placed)
    for one in placed:
        print(f"  {one.part:<{first}}  {one.by_default:<{second}}  {one.exported}")


COMMAND = Command(
    "doctor", "say what this machine can run, and why not the rest", _add_arguments, _run
)
