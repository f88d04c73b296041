"""`tailwire train senses`: packs that know one sense each, to be composed, and one that knows all.

The packs learn to say what moves in which direction, each from its own sense alone. The joint one,
which sees all senses and what they have in common, is what composing is measured against.
"""

from __future__ import annotations

import json
import zlib
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .arguments import comma_list
from .progress import ProgressLine, duration
from .train_common import (
    add_common_arguments,
    check_torch,
    positive,
    stopped,
    stopping,
)
from .train_input_level import STRATEGIES, make_input_level
from .train_sense_bench import JOINT, SenseBench, examples_of, prepare_senses

if TYPE_CHECKING:
    from ..export.input_level import Strategy
    from ..runtime.adaptation.trainer import Trainer
    from ..training.sense_examples import Views
    from ..training.sense_packs import Sense

_SENSES = "image,point,radar,audio"
_EVERY = 3


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the sub-command."""
    add_common_arguments(parser)
    parser.add_argument(
        "--packs",
        metavar="LIST",
        default=f"{_SENSES},{JOINT}",
        help=f"that are made ({_SENSES},{JOINT}); those that are there are left alone",
    )
    parser.add_argument(
        "--encoders-from",
        metavar="PACK",
        default="driving",
        help="pack whose detectors cameras and LiDAR are seen through (driving)",
    )
    parser.add_argument("--model", help="registry name, GGUF file or folder")
    parser.add_argument("--precision", default="int8", choices=("fp32", "int8", "int4"))
    parser.add_argument("--every", metavar="N", type=int, default=_EVERY, help="keyframes (3)")
    parser.add_argument("--steps", metavar="N", type=int, default=450, help="a pack (450)")
    parser.add_argument("--joint-steps", metavar="N", type=int, default=1000, help="(1000)")
    parser.add_argument("--batch", metavar="N", type=int, default=64, help="questions a step (64)")
    parser.add_argument("--learning-rate", metavar="RATE", type=float, default=2e-3)
    parser.add_argument("--tail", metavar="N", type=int, default=6, help="blocks (6)")
    parser.add_argument("--hidden", metavar="N", type=int, default=128, help="of aligners (128)")
    parser.add_argument("--lora-rank", metavar="N", type=int, default=8, help="(8)")
    parser.add_argument("--copies", metavar="N", type=int, default=4, help="turned ones too (4)")
    parser.add_argument(
        "--form",
        default="prefix",
        choices=("prefix", "input-level"),
        help="packs that run, or the form as published, to be compared (prefix)",
    )
    part = parser.add_argument_group("with --form input-level")
    part.add_argument(
        "--strategies", metavar="LIST", default=",".join(STRATEGIES), help="branches (both)"
    )
    part.add_argument(
        "--common-start",
        action="store_true",
        help="all packs begin in the same directions of the stream (each draws its own)",
    )
    part.add_argument("--views", metavar="N", type=int, default=8, help="a step (8)")
    part.add_argument("--questions", metavar="N", type=int, default=8, help="about a view (8)")


def run(args: Namespace) -> int:
    """Train and write packs, one after the other."""
    positive(args, "every", "steps", "joint_steps", "batch", "learning_rate", "tail", "hidden")
    positive(args, "lora_rank", "copies", "threads", "views", "questions")
    # Here, for it loads numpy, which the overview of commands does without.
    from ..kernels.direction_tokens import DIRECTIONS

    if args.hidden < 2 * DIRECTIONS:
        raise ConfigError(
            "the directions alone take up these aligners",
            field="--hidden",
            remedy=f"give {2 * DIRECTIONS} or more",
        )
    names = _names(args.packs)
    check_torch()
    import torch

    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {}
    with ProgressLine(args.quiet) as line:
        bench = prepare_senses(args, names, line)
        if args.form == "input-level":
            results = make_input_level(bench, names, _strategies(args.strategies), line)
            names = []
        for name in names:
            if (args.out / name).exists():
                results[name] = json.loads((args.out / f"{name}.json").read_text())["held_out"]
                continue
            results[name] = _make(bench, name, line)
    print(json.dumps({"packs": str(args.out), "held_out": results}))
    return 0


def _names(text: str) -> list[str]:
    known = [*_SENSES.split(","), JOINT]
    names = list(comma_list(text, "--packs"))
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there is no pack '{name}' to make", field="--packs", remedy=f"use {known}"
            )
    return names


def _strategies(text: str) -> list[Strategy]:
    names = comma_list(text, "--strategies")
    for name in names:
        if name not in STRATEGIES:
            raise ConfigError(
                f"there are no branches of the kind '{name}'",
                field="--strategies",
                remedy=f"use {', '.join(STRATEGIES)}",
            )
    return [one for one in STRATEGIES if one in names]


def _make(bench: SenseBench, name: str, line: ProgressLine) -> dict[str, float]:
    """Train and write one pack; returns how often it is right on held-out views."""
    import numpy as np

    from ..benchmarks.commonality_items import KINDS, SENSES
    from ..runtime.adaptation.training_config import TrainingConfig
    from ..training.run_folder import RunFolder
    from ..training.sense_examples import views_of
    from ..training.sense_packs import SensePack, write_sense_pack
    from ..training.sense_training import pack_weights, sense_trainer, start_model

    args = bench.args
    senses: list[Sense] = list(SENSES) if name == JOINT else [s for s in SENSES if s == name]
    # Packs of different people share no seed.
    seed = args.seed + zlib.crc32(name.encode()) % 10_000
    files = RunFolder(args.out, name)
    files.begin({"pack": name, **bench.settings})
    train, held_out = examples_of(bench, senses, seed)
    rng = np.random.default_rng(seed)
    known: dict[Sense, Views] = {
        sense: views_of(
            *(sense, bench.data.tokens[sense], bench.data.facts[sense]),
            *(bench.train, args.copies, rng),
        )
        for sense in senses
    }
    model, places = start_model(bench.spec, bench.tail, bench.texts, known, seed)
    steps = args.joint_steps if name == JOINT else args.steps
    config = TrainingConfig(
        steps=steps,
        batch=args.batch,
        learning_rate=args.learning_rate,
        warmup=min(20, max(1, steps // 10)),
        summary_weight=0,
        row_weight=0,
        seed=seed,
        evaluate_every=max(1, steps // 10),
        evaluate_on=600,
    )
    trainer = sense_trainer(
        *(model, bench.tail, bench.texts, train, held_out, config, list(KINDS), files.checkpoint)
    )
    _train(trainer, name, files.checkpoint, line)
    right = trainer.evaluate(trainer.data.held_out)
    found = {"accuracy": round(float(right.mean()), 4), "questions": len(right)}
    record = {
        "settings": {"pack": name, **bench.settings},
        "held_out": found,
        "key_places": [one.__dict__ for one in places],
        "history": trainer.history.__dict__,
    }
    files.save_record(record)
    content = SensePack(
        name=name,
        senses=senses,
        connection=bench.spec,
        weights=pack_weights(model),
        base=bench.base,
        how_made="# How this pack was made\n\n`tailwire train senses`\n\n```json\n"
        + files.record.read_text(encoding="utf-8")
        + "```\n",
    )
    write_sense_pack(args.out / name, content, bench.detectors)
    files.checkpoint.unlink(missing_ok=True)
    return found


def _train(trainer: Trainer, name: str, checkpoint: Path, line: ProgressLine) -> None:
    with stopping() as stop:
        trainer.run(
            lambda done: line(
                f"{name}: step {done.step} of {done.steps}, loss {done.loss:.3f}, right "
                f"{done.accuracy:.1%}"
                + ("" if done.held_out is None else f", held out {done.held_out:.1%}")
                + f", {done.samples_per_s:.0f} questions/s, {duration(done.left_s)} left"
            ),
            stop,
        )
    if trainer.step < trainer.config.steps:
        line.clear()
        raise stopped(checkpoint, trainer.step, trainer.config.steps)
