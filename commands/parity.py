"""`tailwire parity`: do back ends give the same numbers, tokens and answers?"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .arguments import comma_list
from .command import Command
from .keyframes import spread_moments

if TYPE_CHECKING:
    from ..export.parity import Parity

_KEYFRAMES, _TOKENS = 8, 8
_DIFFERENT = 1


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--pack", metavar="DIR|NAME", help="folder or name (default: `driving`)")
    parser.add_argument("--model", metavar="NAME|PATH", help="registry name, GGUF file or folder")
    parser.add_argument(
        "--precision",
        metavar="fp32|int8|int4",
        default="fp32",
        help="of onnx-cpu, the tuned engines (fp32)",
    )
    parser.add_argument(
        "--backends",
        metavar="LIST",
        default="onnx-cpu,onnx-portable",
        help="of onnx-cpu, onnx-portable (standard operators, no fusions), torch, tensorrt; the "
        "first but torch is what the others are compared with (onnx-cpu,onnx-portable)",
    )
    parser.add_argument(
        "--export",
        metavar="DIR",
        type=Path,
        help="written by `tailwire export`; onnx-portable and tensorrt need it",
    )
    parser.add_argument(
        "--nuscenes", metavar="DIR", type=Path, help="frames (default: the clip of Tailwire)"
    )
    parser.add_argument(
        "--keyframes", metavar="N", type=int, default=_KEYFRAMES, help=f"({_KEYFRAMES})"
    )
    parser.add_argument(
        "--tokens",
        metavar="N",
        type=int,
        default=_TOKENS,
        help=f"decoded per keyframe ({_TOKENS})",
    )
    parser.add_argument(
        "--least",
        metavar="SHARE",
        type=float,
        default=1.0,
        help="of answers that must be the same for exit code 0 (1.0)",
    )
    parser.add_argument("--threads", metavar="N", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")


def _run(arguments: Namespace) -> int:
    for name in ("keyframes", "tokens", "threads"):
        if getattr(arguments, name) < 1:
            raise ConfigError(
                "the number is too small", field=f"--{name}", remedy="give at least 1"
            )
    from ..parity import reference_first, run_parity
    from ..runtime.config import read_config

    config = read_config(
        None,
        pack=arguments.pack,
        model=arguments.model,
        precision=arguments.precision,
        threads=arguments.threads,
    )
    backends = reference_first(comma_list(arguments.backends, "--backends"))
    found = run_parity(
        config,
        backends,
        lambda: spread_moments(arguments.nuscenes, arguments.keyframes, _say),
        export=arguments.export,
        new_tokens=arguments.tokens,
        progress=_say,
    )
    if not arguments.json:
        _show(backends[0], found)
    result = {"reference": backends[0], "backends": {one.backend: _as_json(one) for one in found}}
    print(json.dumps(result, separators=(",", ":")))
    good = all(one.same_answers >= arguments.least * one.answers for one in found)
    return 0 if good else _DIFFERENT


def _show(reference: str, found: list[Parity]) -> None:
    for one in found:
        print(f"{one.backend} beside {reference}")
        for name, stage in one.stages.items():
            print(f"  {name:<16} largest difference {stage.largest:10.3g}   of {stage.spread:8.3g}")
        for name in one.missing:
            print(f"  {name:<16} not in this back end")
        print(f"  likeliest token  {one.same_best} of {one.few // 5} the same", end="")
        print(f", {one.same_few} of the first {one.few}")
        print(f"  decoded tokens   {one.same_tokens} of {one.tokens} the same")
        print(f"  answers          {one.same_answers} of {one.answers} the same")


def _as_json(one: Parity) -> dict[str, Any]:
    return {
        "max_abs_diff": {name: float(f"{s.largest:.6g}") for name, s in one.stages.items()},
        "spread": {name: float(f"{s.spread:.6g}") for name, s in one.stages.items()},
        "missing": one.missing,
        "same_best": one.same_best,
        "same_of_best": [one.same_few, one.few],
        "same_tokens": [one.same_tokens, one.tokens],
        "same_answers": [one.same_answers, one.answers],
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


COMMAND = Command("parity", "compare back ends: numbers, tokens and answers", _add_arguments, _run)
