"""`tailwire bench peers`: standing questions and decoding beside other engines, same weights."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError, EngineError
from .bench_common import add_result_options, print_machine, print_rows, say

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from ..benchmarks.peers.catalogue import PeerSpec
    from ..runtime.language_model import LanguageModel
    from ..runtime.model_config import Precision

_PROMPTS, _PROMPT_TOKENS = 64, 24


def add_peers(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser("peers", help="beside llama.cpp, OpenVINO, ONNX Runtime, the paper")
    parser.add_argument("--model", default=None, help="registry name or GGUF file")
    parser.add_argument("--threads", type=int, default=2, help="of every engine (2)")
    parser.add_argument("--rounds", type=int, default=9, help="counted ones (9)")
    parser.add_argument("--questions", type=int, default=5, help="standing questions (5)")
    parser.add_argument("--tail", metavar="BLOCKS", type=int, default=10, help="tail depth (10)")
    parser.add_argument("--text-tokens", type=int, default=24, help="tokens a question (24)")
    parser.add_argument("--sensor-tokens", type=int, default=28, help="of all sensors (28)")
    parser.add_argument("--tokens", type=int, default=32, help="decoded per round (32)")
    parser.add_argument(
        "--peers", metavar="LIST", help="parts of names, comma-separated (all that are installed)"
    )
    parser.add_argument(
        "--install-peers",
        action="store_true",
        help="make the environments of those named (or of all) first",
    )
    parser.add_argument("--no-fidelity", action="store_true", help="without agreement with fp32")
    add_result_options(parser)


def run_peers(arguments: Namespace) -> dict[str, Any]:
    """Load everyone, and race.

    Raises:
        TailwireError: an option is wrong, or Tailwire's own model cannot be loaded. What peers
            fail at is part of the result.
    """
    from ..assembly import load_language_model
    from ..benchmarks.fidelity import ordinary_ids, windows
    from ..benchmarks.peer_race import (
        PeerContestant,
        Race,
        RaceSettings,
        TailwireContestant,
        race_result,
    )
    from ..benchmarks.peers.catalogue import PEERS
    from ..runtime.model_registry import ModelRegistry
    from ..runtime.model_specs import DEFAULT_LANGUAGE_MODEL

    chosen = _chosen(arguments.peers, PEERS)
    name = arguments.model or DEFAULT_LANGUAGE_MODEL
    settings = RaceSettings(
        questions=arguments.questions,
        text_tokens=arguments.text_tokens,
        sensor_tokens=arguments.sensor_tokens,
        fewer_tokens=max(arguments.sensor_tokens - 4, 1),
        tail_blocks=arguments.tail,
        decode_tokens=arguments.tokens,
        rounds=arguments.rounds,
    )

    def load(precision: Precision) -> LanguageModel:
        return load_language_model(
            name, precision, threads=arguments.threads, depths=(arguments.tail,), progress=say
        )

    with ExitStack() as stack:
        contestants: dict[str, Any] = {}
        about: dict[str, dict[str, Any]] = {}
        precisions: tuple[Precision, ...] = ("int8", "int4")
        models: dict[str, LanguageModel] = {}
        for precision in precisions:
            models[precision] = load(precision)
            stack.callback(models[precision].close)
            label = f"tailwire {precision}"
            contestants[label] = TailwireContestant(models[precision], arguments.tail)
            about[label] = {"weights": "those of the file", "cannot": []}
        ids = ordinary_ids(models["int8"], _PROMPTS * _PROMPT_TOKENS)
        prompts = [part for part in windows(ids, _PROMPT_TOKENS) if len(part) == _PROMPT_TOKENS]
        reference = None
        if not arguments.no_fidelity:
            say("next tokens of fp32")
            exact = load("fp32")
            reference = TailwireContestant(exact, arguments.tail).following(prompts)
            exact.close()
        registry = ModelRegistry()
        gguf, sha256 = registry.path(name), registry.sha256(name)
        missing: dict[str, str] = {}
        for spec in chosen:
            if gguf.suffix != ".gguf":
                missing[spec.name] = "the model is no GGUF file"
                continue
            try:
                if arguments.install_peers:
                    spec.environment.install(say)
                if not spec.environment.is_complete():
                    missing[spec.name] = "not installed (--install-peers)"
                    continue
                say(f"starting {spec.name}")
                process = spec.start(gguf, sha256, arguments.threads, arguments.tail, say)
            except EngineError as error:
                missing[spec.name] = error.problem
                continue
            stack.callback(process.close)
            contestants[spec.name] = PeerContestant(process)
            about[spec.name] = {
                "version": process.about.get("version"),
                "weights": spec.weights,
                "cannot": list(spec.cannot),
            }
        for peer, why in missing.items():
            say(f"{peer}: {why}")
        race = Race(contestants, settings, models["int8"].config.vocab_size, say)
        rows = race.run(prompts, reference)
        return race_result(
            rows,
            [f"tailwire {precision}" for precision in precisions],
            settings,
            about=about,
            missing=missing | race.failed,
            model=name,
            threads=arguments.threads,
        )


def _chosen(text: str | None, known: tuple[PeerSpec, ...]) -> list[PeerSpec]:
    if text is None:
        return list(known)
    wanted = [part.strip().lower() for part in text.split(",") if part.strip()]
    for part in wanted:
        if not any(part in spec.name.lower() for spec in known):
            raise ConfigError(
                f"there is no peer '{part}'",
                field="--peers",
                remedy=f"use parts of {', '.join(spec.name for spec in known)}",
            )
    return [spec for spec in known if any(part in spec.name.lower() for part in wanted)]


def print_peers(result: dict[str, Any]) -> None:
    """Print the table, and what each cannot do."""
    print_machine(result)
    count = result["settings"]["questions"]
    rows: list[tuple[str, ...]] = [
        ("", "1 question ms", f"{count} questions ms", "order", "switch ms", "tokens/s", "fp32")
    ]
    for name, one in result["peers"].items():
        rows.append(
            (
                name,
                _number(one.get("one_question_ms")),
                _number(one.get("five_questions_ms")),
                str(one.get("five_questions_order", "-")),
                _number(one.get("switch_ms")),
                _number(one.get("decode_tokens_per_s")),
                _share(one.get("agreement_with_fp32")),
            )
        )
    print_rows(rows)
    ratio = result["llm_time_ratio_vs_best_peer"]
    if ratio is None:
        print("  no peer took part, so there is no ratio")
    else:
        print(f"  {ratio:.2f}x less language-model time than the best peer ({result['best_peer']})")
        faithful = result["llm_time_ratio_vs_as_faithful"]
        if faithful is not None and result["best_as_faithful"] != result["best_peer"]:
            print(
                f"  {faithful:.2f}x less than the best peer that agrees with fp32 about as well "
                f"({result['best_as_faithful']})"
            )
    for name, kinds in result["decode_vs_best_peer"].items():
        told = [
            f"{one['ratio']:.2f}x the fastest {text} ({one['peer']})"
            for text, one in (("peer", kinds["any"]), ("as faithful", kinds["as_faithful"]))
            if one["ratio"] is not None
        ]
        print(f"  {name} decodes at {', '.join(told) or 'a speed that nobody is there to match'}")
    for name, one in result["peers"].items():
        if one["cannot"]:
            print(f"  {name} cannot: {'; '.join(one['cannot'])}")
    for name, why in result["missing"].items():
        print(f"  {name} is missing: {why}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
