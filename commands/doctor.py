"""`tailwire doctor`: what this machine can run, and why not the rest."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from .command import Command


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON line")


def _run(arguments: Namespace) -> int:
    from ..runtime.machine_report import (
        NOT_RUN_ON_A_GPU,
        backend_findings,
        find_jetson,
        machine_findings,
        python_fits,
    )

    machine, backends = machine_findings(), backend_findings()
    advice = python_fits(find_jetson())
    if arguments.json:
        named = {
            part: {one.name: {"works": one.works, "detail": one.detail} for one in findings}
            for part, findings in (("machine", machine), ("backends", backends))
        }
        print(json.dumps({**named, "advice": advice, "status": NOT_RUN_ON_A_GPU}))
        return 0
    for title, findings in (("this machine", machine), ("back ends", backends)):
        print(title)
        for one in findings:
            mark = {True: "yes", False: "no", None: ""}[one.works]
            print(f"  {one.name:<20} {mark:<4} {one.detail}")
    if advice:
        print(advice)
    print(NOT_RUN_ON_A_GPU)
    return 0


COMMAND = Command(
    "doctor", "say what this machine can run, and why not the rest", _add_arguments, _run
)
