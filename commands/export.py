"""`tailwire export`: a pack and its language model as graphs that other engines take."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError
from .arguments import comma_list
from .command import Command
from .keyframes import spread_moments

if TYPE_CHECKING:
    from ..export.portable.manifest import ExportManifest
    from ..runtime.config import RuntimeConfig

_FRAMES = 48


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--pack", metavar="DIR|NAME", help="folder or name (default: `driving`)")
    parser.add_argument("--model", metavar="NAME|PATH", help="registry name, GGUF file or folder")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="made by this")
    parser.add_argument(
        "--target",
        choices=("onnx", "tensorrt"),
        default="onnx",
        help="tensorrt multiplies small weights in float16, and has 4 bits in blocks of 64",
    )
    parser.add_argument(
        "--precision",
        metavar="LIST",
        default="fp16",
        help="fp32, fp16, int8 or int4, then parts that differ: encoders=, connection=, head=, "
        "tail=; e.g. fp16,encoders=int8 (default: fp16)",
    )
    sizes = parser.add_argument_group("sizes that engines are built for")
    sizes.add_argument("--questions", metavar="N", type=int, default=8, help="in a pass (8)")
    sizes.add_argument(
        "--question-tokens", metavar="N", type=int, default=64, help="with its answer (64)"
    )
    sizes.add_argument("--depths", metavar="LIST", help="tail depths, e.g. 4,6 (those of the pack)")
    sizes.add_argument(
        "--lora-rank", metavar="N", type=int, help="room for a LoRA of the tail (of the pack)"
    )
    calibration = parser.add_argument_group("calibration of 8-bit encoders")
    calibration.add_argument(
        "--calibrate",
        metavar="DIR",
        type=Path,
        help="dataroot of a nuScenes data set (default: the clip that ships with Tailwire)",
    )
    calibration.add_argument(
        "--keyframes", metavar="N", type=int, default=_FRAMES, help=f"that are used ({_FRAMES})"
    )
    parser.add_argument("--threads", metavar="N", type=int, default=2)


def _run(arguments: Namespace) -> int:
    for name in ("questions", "question_tokens", "keyframes", "threads"):
        if getattr(arguments, name) < 1:
            option = "--" + name.replace("_", "-")
            raise ConfigError("the number is too small", field=option, remedy="give at least 1")
    from ..export.portable.exporter import ExportOptions
    from ..export.portable.precisions import read_precisions
    from ..export.portable.profiles import SizeLimits
    from ..exporting import export
    from ..runtime.config import read_config

    config = read_config(None, pack=arguments.pack, model=arguments.model)
    rank = arguments.lora_rank
    manifest = export(
        config.model_copy(update={"threads": arguments.threads}),
        arguments.out,
        ExportOptions(
            target=arguments.target,
            precisions=read_precisions(arguments.precision),
            limits=SizeLimits(
                questions=arguments.questions, question_tokens=arguments.question_tokens
            ),
            depths=_depths(arguments.depths),
            lora_rank=rank,
            threads=arguments.threads,
        ),
        moments=lambda: spread_moments(arguments.calibrate, arguments.keyframes, _say),
        progress=_say,
    )
    status = _show(manifest, arguments.out)
    _tell_accuracy(config, arguments.target, arguments.precision)
    return status


def _tell_accuracy(config: RuntimeConfig, target: str, precision: str) -> None:
    """Print what the pack gets right at these precisions, where that was measured."""
    from ..export.portable.precisions import read_precisions
    from ..runtime.calibration_table import read_calibration
    from ..runtime.config import CONDITIONED_STARTER_PACK, STARTER_PACK, pack_folder
    from ..runtime.errors import PackError
    from ..runtime.files import inside
    from ..runtime.pack import read_manifest

    if config.pack in (STARTER_PACK, CONDITIONED_STARTER_PACK):
        return
    folder = pack_folder(config.pack)
    name = read_manifest(folder).calibration
    known = () if name is None else read_calibration(inside(folder, name, error=PackError)).variants
    wanted = read_precisions(precision)
    for one in known:
        of, _, words = one.variant.rpartition(":")
        if of == "cpu" or (of or "onnx") != target or read_precisions(words) != wanted:
            continue
        print(f"measured at these precisions, in ONNX Runtime on the CPU: {one.told()}")
        return
    print("what the pack gets right at these precisions was not measured: tailwire bench variants")


def _depths(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(word) for word in comma_list(text, "--depths"))
    except ValueError as error:
        raise ConfigError(
            f"'{text}' is no list of numbers", field="--depths", remedy="give e.g. 4,6"
        ) from error


def _show(manifest: ExportManifest, out: Path) -> int:
    from ..export.portable.readiness import problems_of
    from ..runtime.files import readable_bytes

    bad = 0
    for graph in manifest.graphs:
        stem = graph.file.rsplit(".", 1)[0]
        size = sum(
            record.size_bytes
            for name, record in manifest.files.items()
            if name.rsplit(".", 1)[0] == stem
        )
        problems = problems_of(out / graph.file, graph)
        bad += bool(problems)
        state = "" if problems == [] else f"   for TensorRT: {problems[0]}"
        print(f"{graph.role:<16} {graph.precision:<10} {readable_bytes(size):>9}{state}")
    ready = "all graphs are" if not bad else f"{bad} of {len(manifest.graphs)} graphs are not"
    print(
        f"{out}: {ready} within what TensorRT 10.3 documents (operators, types and shapes were "
        "checked; no engine was built, nothing ran on a GPU)"
    )
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


COMMAND = Command("export", "write a pack as ONNX graphs for other engines", _add_arguments, _run)
