"""`tailwire train senses`: packs that know one sense each, to be composed, and one that knows all.

The packs learn to say what moves in which direction, each from its own sense alone. The joint one,
which sees all senses and what they have in common, is what composing is measured against.
"""

from __future__ import annotations

import json
import zlib
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .arguments import comma_list
from .progress import ProgressLine
from .train_common import (
    add_common_arguments,
    cache_folder,
    check_torch,
    duration,
    positive,
    stopped,
    stopping,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..benchmarks.commonality_tokens import SenseData
    from ..runtime.adaptation.tail_model import TailModel
    from ..runtime.adaptation.trainer import Trainer
    from ..runtime.connection_specs import ConnectionSpec
    from ..runtime.pack import BaseModelSpec, Pack
    from ..training.sense_examples import Tokens, Views
    from ..training.sense_packs import Sense
    from ..training.sense_training import SenseTexts

_JOINT = "joint"
_SENSES = "image,point,radar,audio"
_EVERY = 3


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the sub-command."""
    add_common_arguments(parser)
    parser.add_argument(
        "--packs",
        metavar="LIST",
        default=f"{_SENSES},{_JOINT}",
        help=f"that are made ({_SENSES},{_JOINT}); those that are there are left alone",
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


@dataclass(frozen=True, eq=False)
class _Bench:
    """What all packs are made with."""

    args: Namespace
    data: SenseData
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    texts: SenseTexts
    tail: TailModel
    spec: ConnectionSpec
    base: BaseModelSpec
    detectors: Pack
    settings: dict[str, Any]


def run(args: Namespace) -> int:
    """Train and write packs, one after the other."""
    positive(args, "every", "steps", "joint_steps", "batch", "learning_rate", "tail", "hidden")
    positive(args, "lora_rank", "copies", "threads")
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
        bench = _prepare(args, names, line)
        for name in names:
            if (args.out / name).exists():
                results[name] = json.loads((args.out / f"{name}.json").read_text())["held_out"]
                continue
            results[name] = _make(bench, name, line)
    print(json.dumps({"packs": str(args.out), "held_out": results}))
    return 0


def _names(text: str) -> list[str]:
    known = [*_SENSES.split(","), _JOINT]
    names = list(comma_list(text, "--packs"))
    for name in names:
        if name not in known:
            raise ConfigError(
                f"there is no pack '{name}' to make", field="--packs", remedy=f"use {known}"
            )
    return names


def _prepare(args: Namespace, names: Sequence[str], line: ProgressLine) -> _Bench:
    import torch

    from ..assembly import load_language_model, load_pack_encoders, model_path
    from ..benchmarks.commonality_items import CONCEPTS, SENSES
    from ..benchmarks.commonality_tokens import asked_concepts, moments_of_drives, sense_data
    from ..export.checkpoint import open_checkpoint
    from ..export.tail_weights import tail_weights
    from ..runtime.config import RuntimeConfig, pack_folder
    from ..runtime.connection_specs import ConnectionSpec
    from ..runtime.pack import BaseModelSpec, load_pack
    from ..simulation.questions.generate import split_of_scenes
    from ..training.sense_packs import sense_encoders
    from ..training.sense_training import sense_texts, tail_of

    line("reading drives")
    moments = moments_of_drives(args.dataroot, every=args.every)
    splits: dict[str, str] = {}
    for data in {id(moment.data): moment.data for moment in moments}.values():
        splits |= split_of_scenes(data)
    detectors = load_pack(pack_folder(args.encoders_from))
    senses: list[Sense] = [one for one in SENSES if one in names or _JOINT in names]
    # As they will be in the packs, so that tokens are those that the packs make.
    manifest = detectors.manifest.model_copy(
        update={"encoders": sense_encoders(senses, detectors.manifest)}
    )
    encoders, identities = load_pack_encoders(
        replace(detectors, manifest=manifest), threads=args.threads, progress=line
    )
    cache = cache_folder(args)
    data = sense_data(
        moments,
        senses,
        encoders,
        identities,
        cache,
        lambda done, count: line(f"encoding {done} of {count} keyframes"),
    )
    for encoder in encoders.values():
        encoder.close()
    config = RuntimeConfig()
    name = args.model or config.model
    model = load_language_model(
        name, args.precision, threads=args.threads, depths=(args.tail,), progress=line
    )
    texts = sense_texts(model, asked_concepts(), args.tail, cache / "heads")
    base = BaseModelSpec.of(
        model.manifest.name,
        model.config,
        sha256=model.manifest.content_hash,
        tokenizer_sha256=model.tokenizer_sha256,
    )
    tail = tail_of(
        tail_weights(open_checkpoint(model_path(name)), args.tail),
        args.tail,
        torch.bfloat16,
    )
    model.close()
    by_split = {
        split: data.rows({scene for scene, one in splits.items() if one == split})
        for split in ("train", "val")
    }
    settings = {
        **{name: value for name, value in sorted(vars(args).items()) if name in _KEPT},
        "keyframes": {split: len(rows) for split, rows in by_split.items()},
        "concepts": len(CONCEPTS),
        "dataroots": [root.resolve().name for root in args.dataroot],
    }
    spec = ConnectionSpec(
        kind="plain",
        tail_blocks=args.tail,
        per_block=True,
        hidden=args.hidden,
        lora_rank=args.lora_rank,
    )
    return _Bench(
        *(args, data, by_split["train"], by_split["val"]),
        *(texts, tail, spec, base, detectors, settings),
    )


_KEPT = (
    *("batch", "copies", "every", "hidden", "joint_steps", "learning_rate", "lora_rank"),
    *("seed", "steps", "tail", "encoders_from"),
)


def _make(bench: _Bench, name: str, line: ProgressLine) -> dict[str, float]:
    """Train and write one pack; returns how often it is right on held-out views."""
    import numpy as np

    from ..benchmarks.commonality_items import KINDS, SENSES
    from ..runtime.adaptation.training_config import TrainingConfig
    from ..training.run_folder import RunFolder
    from ..training.sense_examples import views_of
    from ..training.sense_packs import SensePack, write_sense_pack
    from ..training.sense_training import sense_trainer, start_model

    args = bench.args
    senses: list[Sense] = list(SENSES) if name == _JOINT else [s for s in SENSES if s == name]
    # Packs of different people share no seed.
    seed = args.seed + zlib.crc32(name.encode()) % 10_000
    files = RunFolder(args.out, name)
    files.begin({"pack": name, **bench.settings})
    train, held_out = _examples(bench, senses, seed)
    rng = np.random.default_rng(seed)
    known: dict[Sense, Views] = {
        sense: views_of(
            *(sense, bench.data.tokens[sense], bench.data.facts[sense]),
            *(bench.train, args.copies, rng),
        )
        for sense in senses
    }
    model, places = start_model(bench.spec, bench.tail, bench.texts, known, seed)
    steps = args.joint_steps if name == _JOINT else args.steps
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
        weights=model.weights(),
        base=bench.base,
        how_made="# How this pack was made\n\n`tailwire train senses`\n\n```json\n"
        + files.record.read_text(encoding="utf-8")
        + "```\n",
    )
    write_sense_pack(args.out / name, content, bench.detectors)
    files.checkpoint.unlink(missing_ok=True)
    return found


def _examples(
    bench: _Bench, senses: Sequence[Sense], seed: int
) -> tuple[tuple[Views, NDArray[np.int32]], tuple[Views, NDArray[np.int32]]]:
    """Views and questions to learn from, and held-out ones."""
    import numpy as np

    from ..training.sense_examples import joint_examples, single_examples

    rng = np.random.default_rng(seed)
    found: list[tuple[Views, NDArray[np.int32]]] = []
    for rows, copies in ((bench.train, bench.args.copies), (bench.held_out, 1)):
        make = single_examples if len(senses) == 1 else joint_examples
        tokens: dict[Sense, Mapping[str, Tokens]] = {
            sense: bench.data.tokens[sense] for sense in senses
        }
        found.append(make(tokens, bench.data.facts, rows, copies, rng))
    return found[0], found[1]


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
