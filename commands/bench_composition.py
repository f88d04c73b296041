"""`tailwire bench composition`: what composing packs costs, and what decoding costs behind it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .arguments import comma_list
from .bench_composition_accuracy import add_accuracy_options, print_accuracy, run_accuracy
from .printing import print_fact, print_table
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..runtime.lora import Lora
    from ..runtime.model_config import LanguageModelConfig

_COUNTS, _ROUNDS = "2,3,4", 3
_PROMPT = "What do the camera, the radar and the microphones of this vehicle have in common?"


def add_composition(benches: Any) -> None:
    """Declare the sub-command."""
    parser: ArgumentParser = benches.add_parser(
        "composition", help="composing packs: time, memory, decoding folded and unfolded"
    )
    parser.add_argument("--model", default=None, help="registry name, GGUF file or folder")
    parser.add_argument("--precision", default="int8", choices=("fp32", "int8", "int4"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--packs", metavar="LIST", default=_COUNTS, help=f"how many are composed ({_COUNTS})"
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"counted runs ({_ROUNDS})")
    parser.add_argument("--tokens", type=int, default=48, help="decoded per round (48)")
    parser.add_argument("--tail", type=int, default=6, help="tail depth of the packs (6)")
    parser.add_argument("--lora-rank", type=int, default=8, help="of each pack (8)")
    parser.add_argument(
        "--text-rank",
        type=int,
        default=0,
        help="of changes of all projections in each pack (0, none)",
    )
    parser.add_argument(
        "--no-decode", action="store_true", help="measure composing alone; builds no engine"
    )
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    add_accuracy_options(parser)


def run_composition(args: Namespace) -> dict[str, Any]:
    """Measure costs, and with `--senses` how much trained packs get right."""
    from ..benchmarks.measure import machine_card

    found: dict[str, Any] = {"benchmark": "composition"}
    if args.senses is not None:
        found |= run_accuracy(args)
    elif args.no_costs:
        raise ConfigError(
            "nothing is left to measure", field="--no-costs", remedy="name packs with --senses"
        )
    if not args.no_costs:
        found |= _costs(args)
    return {**found, "machine": machine_card(args.threads)}


def _costs(args: Namespace) -> dict[str, Any]:
    """Time and memory of composing, and speeds of decoding."""
    from ..assembly import model_path
    from ..benchmarks.composition import PackSizes, bench_composing
    from ..export.checkpoint import open_checkpoint
    from ..runtime.model_specs import DEFAULT_LANGUAGE_MODEL

    counts = [_count(word) for word in comma_list(args.packs, "--packs")]
    for name, least in (("tail", 1), ("lora_rank", 1), ("text_rank", 0)):
        if getattr(args, name) < least:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError("this is too small", field=option, remedy=f"give {least} or more")
    model = args.model or DEFAULT_LANGUAGE_MODEL
    sizes = PackSizes(tail_blocks=args.tail, lora_rank=args.lora_rank, text_rank=args.text_rank)
    config = open_checkpoint(model_path(model)).config
    with TemporaryDirectory(prefix="tailwire-") as folder, ProgressLine() as progress:
        work = Path(folder)
        result = bench_composing(work, config, model, sizes, counts, args.rounds, progress=progress)
        if not args.no_decode:
            result["decoding"] = _decoding(args, model, work, max(counts), progress)
    settings = {
        "model": model,
        "tail_blocks": args.tail,
        "lora_rank": args.lora_rank,
        "text_rank": args.text_rank,
        "rounds": args.rounds,
    }
    return {**result, "settings": settings}


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 2:
        raise ConfigError(
            f"'{word}' packs cannot be composed", field="--packs", remedy="e.g. --packs 2,3,4"
        )
    return int(word)


def _decoding(
    args: Namespace, model: str, work: Path, count: int, progress: ProgressLine
) -> dict[str, Any]:
    """Tokens per second of the model, with the merged LoRA beside it, and with it folded in."""
    from ..assembly import load_language_model
    from ..benchmarks.decode import bench_decode, tailwire_contestant
    from ..export.compose import CompositionRequest, compose, write_composition
    from ..export.compose_parts import open_parts

    parts = open_parts([work / f"sense{number}" for number in range(count)], None)
    folded = work / "folded"
    write_composition(folded, compose(parts, CompositionRequest(fold=True)))
    beside = work / "beside"
    write_composition(beside, compose(parts, CompositionRequest()))
    with ExitStack() as stack:
        models = {}
        for name, pack in (("base", None), ("folded", folded)):
            models[name] = stack.enter_context(
                closing(
                    load_language_model(
                        model,
                        args.precision,
                        threads=args.threads,
                        depths=(args.tail,),
                        pack=pack,
                        progress=progress,
                    )
                )
            )
        lora = _lora_of(beside, models["base"].config)
        contestants = [
            tailwire_contestant(models["base"], "base"),
            tailwire_contestant(models["base"], "unfolded", lora),
            tailwire_contestant(models["folded"], "folded"),
        ]
        progress("decoding")
        prompt = models["base"].tokenizer.encode(_PROMPT).ids
        result = bench_decode(
            models["base"],
            contestants,
            prompt=prompt,
            tokens=args.tokens,
            rounds=args.rounds,
            threads=args.threads,
        )
    return {"packs": count, "tokens_per_second": result["tokens_per_second"]}


def _lora_of(folder: Path, config: LanguageModelConfig) -> Lora:
    """The LoRA of a composed pack's connection, as its parts count."""
    from ..runtime.lora import Lora
    from ..runtime.pack import load_pack

    pack = load_pack(folder)
    spec, weights = pack.manifest.connection, pack.connection_weights
    counted = spec.lora_weights
    scale = 1.0 if counted is None else counted[:, None]
    first = config.num_blocks - spec.tail_blocks
    return Lora(
        config,
        {
            first + at: (
                weights[f"lora.{at}.key.a"],
                weights[f"lora.{at}.key.b"] * scale,
                weights[f"lora.{at}.value.a"],
                weights[f"lora.{at}.value.b"] * scale,
            )
            for at in range(spec.tail_blocks)
        },
    )


def print_composition(result: dict[str, Any]) -> None:
    """Tables of right answers, of times and memory, and speeds of decoding."""
    if "accuracy" in result:
        print_accuracy(result)
    if "composing" not in result:
        return
    settings = result["settings"]
    print_fact("packs", f"{result['pack_bytes'] / 1e6:.1f} MB each, for {settings['model']}")
    rows = [("packs", "method", "seconds", "peak MB", "by largest input")]
    for count, methods in result["composing"].items():
        for method, one in methods.items():
            peak = one["peak_bytes"]
            rows.append(
                (
                    count,
                    method,
                    f"{one['seconds']:.2f}",
                    "-" if peak is None else f"{peak / 1e6:.1f}",
                    "-" if peak is None else f"{one['peak_by_largest_input']:.2f}",
                )
            )
    print_table(rows)
    if "decoding" in result:
        speeds = result["decoding"]["tokens_per_second"]
        said = ", ".join(f"{name} {speed:.1f}" for name, speed in speeds.items())
        print_fact("decoding", f"{said} tokens per second")
