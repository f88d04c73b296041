"""`tailwire compose`: packs that know different sensors become one pack that knows all of them.

Options and the report are here; the work is in `export/compose.py`.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .arguments import comma_list
from .command import Command
from .printing import print_fact

if TYPE_CHECKING:
    from ..export.compose import Composition, CompositionRequest
    from ..export.compose_parts import Part
    from ..runtime.composition_specs import Method

_METHODS = ("naive", "damc", "task-arithmetic", "ties", "dare", "tsv")


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "packs", metavar="PACK", nargs="+", help="folders of packs, or `driving`; two or more"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="pack to make")
    how = parser.add_argument_group("how their changes of the language model are merged")
    how.add_argument(
        "--method", metavar="|".join(_METHODS), help="of merging (damc, or that of a composed pack)"
    )
    how.add_argument(
        "--weights",
        metavar="auto|LIST",
        help="how much each pack's change counts, e.g. 0.5,0.5; `auto` goes by how often each pack "
        "is right by itself, as its calibration says (default: those of the method)",
    )
    how.add_argument(
        "--density", metavar="SHARE", type=float, help="of values that ties and dare keep (0.2)"
    )
    how.add_argument(
        "--rank", metavar="N", type=int, help="of the change that ties, dare and tsv make"
    )
    how.add_argument("--seed", metavar="N", type=int, default=0, help="of what dare draws (0)")
    how.add_argument(
        "--fold",
        action="store_true",
        help="fold LoRAs into the engines' weights: nothing is computed beside them, and weights "
        "cannot change at run time",
    )
    small = parser.add_argument_group("questions that --weights auto tries weights on")
    small.add_argument(
        "--dataroot",
        metavar="DIR",
        type=Path,
        action="append",
        help="data set with questions, may come again; without it calibrations decide",
    )
    small.add_argument("--nuscenes-version", metavar="NAME", help="version folder in the data sets")
    small.add_argument(
        "--split", metavar="val|train|all", default="train", help="of the questions (train)"
    )
    small.add_argument(
        "--keyframes", metavar="N", type=int, default=60, help="that are asked about (60)"
    )
    small.add_argument(
        "--steps", metavar="N", type=int, default=4, help="weights are multiples of 1/N (4)"
    )
    small.add_argument("--model", metavar="NAME|PATH", help="language model of the packs")
    small.add_argument("--precision", metavar="fp32|int8|int4", help="it runs at (int8)")
    small.add_argument("--threads", metavar="N", type=int, help="threads of an engine")
    what = parser.add_argument_group("what is made")
    what.add_argument("--names", metavar="LIST", help="of the parts (those of the packs)")
    what.add_argument(
        "--remove",
        metavar="LIST",
        help="of one composed pack: leave these parts out; the last one left becomes the pack that "
        "it was",
    )
    what.add_argument("--name", help="of the composed pack")
    what.add_argument("--version", default="1", help="of the composed pack (1)")
    what.add_argument("--json", action="store_true", help="print one JSON object, no text")


def _run(args: Namespace) -> int:
    from ..export.compose import (
        compose,
        kept_weights,
        restore_part,
        write_composition,
    )
    from ..export.compose_parts import open_parts
    from ..runtime.config import pack_folder
    from ..runtime.new_pack import check_target

    asked = None if args.method is None else _method(args.method)
    check_target(args.out, "composed pack")
    begun = time.monotonic()
    folders = [pack_folder(pack) for pack in args.packs]
    names = None if args.names is None else comma_list(args.names, "--names")
    parts = open_parts(folders, names)
    method = asked or _recorded_method(parts)
    if args.remove is not None:
        parts = _without(parts, comma_list(args.remove, "--remove"), len(folders))
        if len(parts) == 1:
            restore_part(args.out, parts[0])
            _report_restored(args, parts[0], time.monotonic() - begun)
            return 0
    weights = _weights(args, parts, method)
    if args.remove is not None and weights is None:
        weights = kept_weights(parts, method)
    composition = compose(parts, _request(args, method, weights))
    write_composition(args.out, composition)
    _report(args, composition, method, time.monotonic() - begun)
    return 0


def _method(text: str) -> Method:
    from ..export.merging import METHODS

    known: dict[str, Method] = {name: name for name in METHODS}
    if text not in known:
        raise ConfigError(
            f"there is no method '{text}'", field="--method", remedy=f"use {', '.join(METHODS)}"
        )
    return known[text]


def _recorded_method(parts: list[Part]) -> Method:
    """That of the composed pack whose parts these are."""
    first = parts[0].method
    if first is None or any(part.method != first for part in parts):
        return "damc"
    return first


def _request(
    args: Namespace, method: Method, weights: dict[str, float] | None
) -> CompositionRequest:
    from ..export.compose import CompositionRequest
    from ..export.merging import DENSITY, MergeOptions

    density = DENSITY if args.density is None else args.density
    return CompositionRequest(
        method=method,
        weights=weights,
        options=MergeOptions(density, args.rank, args.seed),
        fold=args.fold,
        name=args.name,
        version=args.version,
    )


def _weights(args: Namespace, parts: list[Part], method: Method) -> dict[str, float] | None:
    text: str | None = args.weights
    if args.dataroot is not None and (text is None or text.strip() != "auto"):
        raise ConfigError(
            "questions are given, and no weights are to be chosen",
            field="--dataroot",
            remedy="give --weights auto with it",
        )
    if text is None:
        return None
    if text.strip() == "auto":
        from ..export.compose_weights import weights_by_calibration

        if args.dataroot is not None:
            return _tried_weights(args, parts, method)

        return weights_by_calibration(parts)
    values: list[float] = []
    for word in comma_list(text, "--weights"):
        try:
            values.append(float(word))
        except ValueError:
            raise ConfigError(
                f"'{word}' is no number", field="--weights", remedy="e.g. --weights 0.5,0.5"
            ) from None
    if len(values) != len(parts):
        raise ConfigError(
            f"{len(values)} weights for {len(parts)} packs "
            f"({', '.join(part.name for part in parts)})",
            field="--weights",
            remedy="give one weight a pack, in the order of the packs",
        )
    return {part.name: value for part, value in zip(parts, values, strict=True)}


def _tried_weights(args: Namespace, parts: list[Part], method: Method) -> dict[str, float]:
    """Those of a grid with which most questions are answered right."""
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from ..export.compose import CompositionRequest, compose, write_composition
    from .progress import ProgressLine

    if method not in ("damc", "task-arithmetic"):
        raise ConfigError(
            f"weights of {method} cannot change while a pack is loaded",
            field="--weights auto",
            remedy="use damc or task-arithmetic, or leave --dataroot out",
        )
    for name in ("keyframes", "steps"):
        if getattr(args, name) < 1:
            raise ConfigError("this is too small", field=f"--{name}", remedy="give 1 or more")
    equal = compose(parts, CompositionRequest(method=method))
    from ..assembly import open_runtime
    from ..benchmarks.composition_weights import choose_weights
    from ..benchmarks.exam import set_exam
    from ..runtime.config import read_config

    with ExitStack() as stack:
        progress = stack.enter_context(ProgressLine(quiet=args.json))
        progress("reading drives and questions")
        exam = set_exam(
            args.dataroot,
            version=args.nuscenes_version,
            split=args.split,
            keyframes=args.keyframes,
        )
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tailwire-"))) / "equal"
        write_composition(folder, equal)
        config = read_config(
            None,
            pack=str(folder),
            model=args.model,
            precision=args.precision,
            threads=args.threads,
        )
        runtime = stack.enter_context(open_runtime(config, progress))
        chosen = choose_weights(runtime, exam, args.steps, progress)
    gain = f"{chosen.accuracy:.1%} right, with equal ones {chosen.accuracy_equal:.1%}"
    print(
        f"note: the best of {chosen.tried} weights on {chosen.questions} questions: {gain}",
        file=sys.stderr,
    )
    return chosen.weights


def _without(parts: list[Part], names: tuple[str, ...], packs: int) -> list[Part]:
    if packs != 1:
        raise ConfigError(
            f"parts are removed from one pack, not from {packs}",
            field="--remove",
            remedy="name one composed pack",
        )
    known = [part.name for part in parts]
    for name in names:
        if name not in known or known == [name]:
            raise ConfigError(
                f"the pack has no part '{name}' to remove",
                field="--remove",
                remedy=f"its parts are {', '.join(known)}",
            )
    kept = [part for part in parts if part.name not in names]
    if not kept:
        raise ConfigError("nothing would be left", field="--remove", remedy="keep one part")
    return kept


def _report(args: Namespace, composition: Composition, method: Method, seconds: float) -> None:
    manifest, weights = composition.manifest, composition.weights
    size = sum(file.stat().st_size for file in args.out.iterdir())
    if args.json:
        result: dict[str, Any] = {
            "pack": str(args.out),
            "method": method,
            "weights": weights,
            "folded": args.fold,
            "sensors": list(manifest.sensor_encoders),
            "licences": list(composition.licences),
            "notes": list(composition.notes),
            "bytes": size,
            "seconds": round(seconds, 3),
        }
        print(json.dumps(result, separators=(",", ":")))
        return
    for note in composition.notes:
        print(f"note: {note}", file=sys.stderr)
    print_fact("pack", f"{args.out} ({size / 1e6:.1f} MB), made in {seconds:.1f} s")
    said = ", ".join(f"{name} {weight:.4g}" for name, weight in weights.items())
    print_fact("parts", f"{said} ({method})")
    print_fact("sensors", ", ".join(manifest.sensor_encoders))
    for licence in composition.licences:
        print_fact("licence", licence)


def _report_restored(args: Namespace, part: Part, seconds: float) -> None:
    if args.json:
        result = {"pack": str(args.out), "restored": part.label, "seconds": round(seconds, 3)}
        print(json.dumps(result, separators=(",", ":")))
        return
    print_fact("pack", f"{args.out} is {part.label} again, made in {seconds:.1f} s")


COMMAND = Command(
    "compose", "make one pack of packs that know different sensors", _add_arguments, _run
)
