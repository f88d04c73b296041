"""`tailwire bench llm`: the language model alone, at several precisions in one run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

from ..runtime.errors import ConfigError
from .bench_common import add_result_options, counter, print_machine, print_rows, say

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from ..runtime.language_model import LanguageModel
    from ..runtime.model_config import Precision

_PRECISIONS = ("fp32", "int8", "int4")


def add_llm(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser("llm", help="prefill, decode, time to first token, MFU and MBU")
    parser.add_argument("--model", default=None, help="registry name, GGUF file or folder")
    parser.add_argument(
        "--precision", metavar="LIST", default="int8,int4", help="comma-separated (int8,int4)"
    )
    parser.add_argument("--threads", type=int, default=2, help="of engines (2)")
    parser.add_argument("--rounds", type=int, default=7, help="counted runs (7)")
    parser.add_argument(
        "--prompts", metavar="LIST", default="24,96,192", help="prompt lengths (24,96,192)"
    )
    parser.add_argument("--tokens", type=int, default=32, help="decoded per round (32)")
    parser.add_argument("--tail", metavar="BLOCKS", type=int, default=6, help="tail depth (6)")
    parser.add_argument(
        "--sensor-tokens", type=int, default=28, help="rows of a standing question's prefix (28)"
    )
    parser.add_argument(
        "--fidelity", action="store_true", help="also top-1 agreement with fp32 (loads fp32 too)"
    )
    parser.add_argument("--no-probes", action="store_true", help="without MFU and MBU")
    add_result_options(parser)


def run_llm(arguments: Namespace) -> dict[str, Any]:
    """Load and measure.

    Raises:
        TailwireError: an option is wrong, or a model cannot be loaded.
    """
    precisions = _precisions(arguments.precision)
    prompts = _lengths(arguments.prompts)
    from ..assembly import load_language_model
    from ..benchmarks.llm_speed import bench_llm
    from ..benchmarks.machine_probes import probe_machine
    from ..runtime.model_specs import DEFAULT_LANGUAGE_MODEL

    name = arguments.model or DEFAULT_LANGUAGE_MODEL

    def load(precision: Precision) -> LanguageModel:
        return load_language_model(
            name, precision, threads=arguments.threads, depths=(arguments.tail,), progress=say
        )

    with ExitStack() as stack:
        models: dict[Precision, LanguageModel] = {}
        for precision in precisions:
            models[precision] = load(precision)
            stack.callback(models[precision].close)
        limit = min(model.manifest.max_text_tokens for model in models.values())
        if max(prompts) + arguments.tokens > limit:
            raise ConfigError(
                f"a prompt of {max(prompts)} tokens and {arguments.tokens} decoded ones are more "
                f"than the engines' {limit}",
                field="--prompts",
                remedy="give shorter ones",
            )
        fidelity = {} if not arguments.fidelity else _fidelity(models, load, stack)
        peaks = None
        if not arguments.no_probes:
            say("measuring this machine's peaks")
            peaks = probe_machine(arguments.threads)
        return bench_llm(
            models,
            peaks,
            prompts=prompts,
            decode_tokens=arguments.tokens,
            tail_blocks=arguments.tail,
            sensor_tokens=arguments.sensor_tokens,
            rounds=arguments.rounds,
            threads=arguments.threads,
            fidelity=fidelity,
            progress=counter(arguments, "round"),
        )


def _fidelity(models: dict[Precision, LanguageModel], load: Any, stack: ExitStack) -> Any:
    """Top-1 agreement of each model with fp32."""
    from ..benchmarks.fidelity import agreement, likeliest, ordinary_ids

    say("measuring agreement with fp32")
    reference = models.get("fp32")
    if reference is None:
        reference = load("fp32")
        stack.callback(reference.close)
    ids = ordinary_ids(reference)
    right = likeliest(reference, ids)
    return {name: agreement(likeliest(model, ids), right) for name, model in models.items()}


def _precisions(text: str) -> list[Precision]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in _PRECISIONS:
            raise ConfigError(
                f"there is no precision '{name}'",
                field="--precision",
                remedy=f"use some of {', '.join(_PRECISIONS)}",
            )
    if not names:
        raise ConfigError("no precision is named", field="--precision", remedy="write int8,int4")
    return cast("list[Precision]", list(dict.fromkeys(names)))


def _lengths(text: str) -> list[int]:
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 2:
        raise ConfigError(
            f"'{text}' is no list of lengths",
            field="--prompts",
            remedy="write e.g. 24,96, each at least 2",
        )
    return found


def print_llm(result: dict[str, Any]) -> None:
    """Print the table."""
    print_machine(result)
    rows: list[tuple[str, ...]] = [("", "ms p50", "ms p99", "tokens/s", "GFLOP", "MFU", "MBU")]
    for precision, found in result["by_precision"].items():
        for length, one in found["prefill"].items():
            rows.append(_row(f"{precision} prefill {length}", one, one["tokens_per_s"]))
        rows.append(_row(f"{precision} standing question", found["standing"], None))
        decode = found["decode"]
        rows.append(
            (
                f"{precision} decode",
                f"{decode['ms']['median']:.2f}",
                f"{decode['ms']['p99']:.2f}",
                f"{decode['tokens_per_s']:.1f}",
                f"{decode['flops_per_token'] / 1e9:.2f}",
                "",
                _share(decode["mbu"]),
            )
        )
    print_rows(rows)
    for precision, found in result["by_precision"].items():
        agree = found["top1_agreement_with_fp32"]
        told = "not measured (--fidelity)" if agree is None else f"{agree:.1%}"
        print(
            f"  {precision}: top-1 agreement with fp32 {told}; decoder {found['decode']['decoder']}"
        )


def _row(name: str, one: dict[str, Any], speed: float | None) -> tuple[str, ...]:
    return (
        name,
        f"{one['ms']['median']:.2f}",
        f"{one['ms']['p99']:.2f}",
        "" if speed is None else f"{speed:.1f}",
        f"{one['flops'] / 1e9:.2f}",
        _share(one["mfu"]),
        "",
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
