"""`tailwire bench`: measurements whose last line of standard output is one compact JSON object."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from ..runtime.errors import ConfigError
from .bench_adaptation import add_adaptation, print_adaptation, run_adaptation
from .bench_all import add_all, print_all, run_all
from .bench_common import Comparison, add_result_options, print_comparison
from .bench_composition import add_composition, print_composition, run_composition
from .bench_costs import add_costs, print_card, print_frame, run_card, run_frame
from .bench_kernels import add_kernels, print_kernels, run_kernels
from .bench_latency import add_latency, print_latency, run_latency
from .bench_llm import add_llm, print_llm, run_llm
from .bench_memory import add_memory, print_memory, run_memory
from .bench_paper import add_paper, print_paper, run_paper
from .bench_peers import add_peers, print_peers, run_peers
from .bench_recognition import add_recognition, print_recognition, run_recognition
from .bench_ros import add_ros, print_ros, run_ros
from .bench_scale import add_scale, print_scale, run_scale
from .bench_schedule import add_schedule, print_schedule, run_schedule
from .bench_variants import add_variants, print_variants, run_variants
from .command import Command

_DECODE_PROMPT = (
    "The road was empty in the early morning, and the robot had been told to wait at the corner "
    "until the bus had gone."
)


def _add_arguments(parser: ArgumentParser) -> None:
    benches = parser.add_subparsers(dest="bench", required=True, metavar="WHAT")
    add_costs(benches)
    add_llm(benches)
    add_memory(benches)
    add_scale(benches)
    add_peers(benches)
    add_paper(benches)
    add_all(benches)
    standing = benches.add_parser(
        "standing", help="standing questions: cached head against sensors at the input"
    )
    _common(standing, rounds=25)
    standing.add_argument("--questions", type=int, default=5, help="standing questions (5)")
    standing.add_argument("--tail", type=int, default=10, help="tail depth in blocks (10)")
    standing.add_argument("--text-tokens", type=int, default=24, help="tokens a question (24)")
    standing.add_argument("--sensor-tokens", type=int, default=28, help="of all sensors (28)")
    decode = benches.add_parser("decode", help="decoding speed, beside llama.cpp")
    _common(decode, rounds=5)
    decode.add_argument("--tokens", type=int, default=64, help="decoded per round (64)")
    decode.add_argument(
        "--install-peers", action="store_true", help="build llama.cpp if it is not there"
    )
    decode.add_argument("--no-peers", action="store_true", help="measure Tailwire alone")
    add_recognition(benches)
    add_adaptation(benches)
    add_composition(benches)
    add_kernels(benches)
    add_variants(benches)
    add_latency(benches)
    add_schedule(benches)
    add_ros(benches)


def _common(parser: ArgumentParser, *, rounds: int) -> None:
    parser.add_argument("--model", default=None, help="registry name, GGUF file or folder")
    parser.add_argument("--precision", default="int8", choices=("fp32", "int8", "int4"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"counted runs ({rounds})")
    add_result_options(parser)


def _run(arguments: Namespace) -> int:
    for name in (
        "questions",
        "tail",
        "text_tokens",
        "sensor_tokens",
        "rounds",
        "tokens",
        "keyframes",
        "frames",
        "threads",
    ):
        value = getattr(arguments, name, 1)
        if isinstance(value, int) and value < 1:
            option = "--" + name.replace("_", "-")
            raise ConfigError(f"{value} is too small", field=option, remedy="give at least 1")
    from ..benchmarks.result_file import stamped, write_result

    measure, show = _BENCHES[arguments.bench]
    comparison = Comparison(arguments)
    result = stamped(measure(arguments), _own_version())
    comparison.add_to(result)
    if getattr(arguments, "save", None) is not None:
        write_result(arguments.save, result)
    if not arguments.json:
        show(result)
        # A result of all parts prints theirs itself.
        if "comparison" in result and "parts" not in result["comparison"]:
            print_comparison(result["comparison"])
    print(json.dumps(result, separators=(",", ":")))
    return 0


def _own_version() -> str:
    from .. import __version__

    return __version__


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _counter(arguments: Namespace) -> Callable[[int, int], None] | None:
    if arguments.json or not sys.stderr.isatty():
        return None
    return lambda done, total: print(
        f"\rround {done} of {total}", end="\n" if done == total else "", file=sys.stderr
    )


def _model_name(arguments: Namespace) -> str:
    from ..runtime.model_specs import DEFAULT_LANGUAGE_MODEL

    return arguments.model or DEFAULT_LANGUAGE_MODEL


def _standing(arguments: Namespace) -> dict[str, Any]:
    from ..assembly import load_language_model
    from ..benchmarks.standing import bench_standing

    model = load_language_model(
        _model_name(arguments),
        arguments.precision,
        threads=arguments.threads,
        progress=_say,
    )
    try:
        return bench_standing(
            model,
            questions=arguments.questions,
            tail_blocks=arguments.tail,
            text_tokens=arguments.text_tokens,
            sensor_tokens=arguments.sensor_tokens,
            rounds=arguments.rounds,
            threads=arguments.threads,
            progress=_counter(arguments),
        )
    finally:
        model.close()


def _decode(arguments: Namespace) -> dict[str, Any]:
    from ..assembly import load_language_model
    from ..benchmarks.decode import bench_decode, llama_cpp_contestant, tailwire_contestant

    name = _model_name(arguments)
    with ExitStack() as stack:
        models = {}
        for precision in ("int8", "int4"):
            models[precision] = load_language_model(
                name, precision, threads=arguments.threads, progress=_say
            )
            stack.callback(models[precision].close)
        contestants = [tailwire_contestant(model) for model in models.values()]
        versions: dict[str, str] = {}
        missing = "not asked for"
        if not arguments.no_peers:
            peers, missing = _llama_cpp(arguments, name, stack)
            for label, peer in peers.items():
                contestants.append(llama_cpp_contestant(peer, label))
                versions["llama-cpp-python"] = peer.version
        prompt = models["int8"].tokenizer.encode(_DECODE_PROMPT).ids
        result = bench_decode(
            models["int8"],
            contestants,
            prompt=prompt,
            tokens=arguments.tokens,
            rounds=arguments.rounds,
            threads=arguments.threads,
            progress=_counter(arguments),
        )
    result["machine"]["versions"] |= versions
    speeds = result["tokens_per_second"]
    for ours, theirs in (("int8", "Q8_0"), ("int4", "Q4_1")):
        peer = speeds.get(f"llama.cpp {theirs}")
        ratio = None if peer is None else round(speeds[f"tailwire {ours}"] / peer, 3)
        result[f"{ours}_vs_llama_cpp_{theirs.lower()}"] = ratio
    if not versions:
        result["peers_missing"] = missing
    return result


def _llama_cpp(arguments: Namespace, name: str, stack: ExitStack) -> tuple[dict[str, Any], str]:
    from ..benchmarks.peers.llama_peer import LlamaCpp, install, peer_python, write_q8_0
    from ..runtime.files import cache_dir
    from ..runtime.model_registry import ModelRegistry

    if arguments.install_peers:
        install(_say)
    if not peer_python().exists():
        _say("llama.cpp is not installed; --install-peers builds it, --no-peers goes without")
        return {}, "llama.cpp is not installed (--install-peers)"
    registry = ModelRegistry()
    source = registry.path(name)
    if source.suffix != ".gguf":
        return {}, "the model is no GGUF file"
    wide = cache_dir() / "peers" / f"{registry.sha256(name)[:16]}.Q8_0.gguf"
    if not wide.exists():
        _say("writing the same weights as Q8_0 for llama.cpp")
        write_q8_0(source, wide)
    peers = {}
    for label, path in (("llama.cpp Q8_0", wide), ("llama.cpp Q4_1", source)):
        peers[label] = LlamaCpp(peer_python(), path, arguments.threads)
        stack.callback(peers[label].close)
    return peers, ""


def _print_summary(result: dict[str, Any]) -> None:
    machine, settings = result["machine"], result["settings"]
    print(f"{result['benchmark']}: {settings}")
    print(f"{machine['cpu']}, {machine['threads']} threads, {machine['versions']}")
    if result["benchmark"] == "standing":
        for name, ms in result["ms"].items():
            flops = result["flops"][name] / 1e9
            print(
                f"  {name:<13} median {ms['median']:8.2f} ms   p10 {ms['p10']:8.2f}   "
                f"p90 {ms['p90']:8.2f}   {flops:7.2f} GFLOP"
            )
        best, speedup = result["best_input_level"], result["speedup_vs_best_input_level"]
        print(f"  {speedup:.2f}x less language-model time than the better baseline ({best})")
    else:
        for name, speed in result["tokens_per_second"].items():
            print(f"  {name:<16} {speed:7.1f} tokens/s")


_BENCHES: Mapping[
    str, tuple[Callable[[Namespace], dict[str, Any]], Callable[[dict[str, Any]], None]]
] = {
    "card": (run_card, print_card),
    "frame": (run_frame, print_frame),
    "llm": (run_llm, print_llm),
    "memory": (run_memory, print_memory),
    "scale": (run_scale, print_scale),
    "peers": (run_peers, print_peers),
    "paper": (run_paper, print_paper),
    "all": (run_all, print_all),
    "standing": (_standing, _print_summary),
    "decode": (_decode, _print_summary),
    "recognition": (run_recognition, print_recognition),
    "adaptation": (run_adaptation, print_adaptation),
    "composition": (run_composition, print_composition),
    "kernels": (run_kernels, print_kernels),
    "variants": (run_variants, print_variants),
    "adaptation-latency": (run_latency, print_latency),
    "schedule": (run_schedule, print_schedule),
    "ros": (run_ros, print_ros),
}

COMMAND = Command("bench", "measure this machine", _add_arguments, _run)
