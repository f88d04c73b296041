"""The part of `tailwire train senses` that makes packs in the form as published (input level).

Modality tokens enter the first block of the tail beside the text's head states; with `--tail` as
deep as the language model, that is its input, as in the paper.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .progress import ProgressLine
from .train_common import stopped, stopping
from .train_sense_bench import JOINT, SenseBench, examples_of

if TYPE_CHECKING:
    from ..export.input_level import InputLevelModelParts, Strategy
    from ..runtime.adaptation.tail_weights import TailWeights
    from ..training.input_level_training import InputLevelTrainer
    from ..training.sense_packs import Sense

STRATEGIES: tuple[Strategy, ...] = ("decoupled", "single")
#: Views that held-out questions are about.
_HELD_OUT_VIEWS = 160


def input_level_file(folder: Path, name: str, strategy: str) -> Path:
    """Where `tailwire train senses --form input-level` puts what it makes."""
    return folder / f"{name}-{strategy}.safetensors"


def make_input_level(
    bench: SenseBench, names: Sequence[str], strategies: Sequence[Strategy], line: ProgressLine
) -> dict[str, Any]:
    """Train and write what is not there yet; the joint one has decoupled branches alone.

    Returns:
        Right answers about held-out views, by name and strategy.
    """
    from ..assembly import model_path
    from ..export.checkpoint import open_checkpoint
    from ..export.tail_weights import tail_weights
    from ..runtime.config import RuntimeConfig

    checkpoint = open_checkpoint(model_path(bench.args.model or RuntimeConfig().model))
    weights = tail_weights(checkpoint, bench.args.tail)
    found: dict[str, Any] = {}
    for name in names:
        for strategy in strategies[:1] if name == JOINT else strategies:
            file = input_level_file(bench.args.out, name, strategy)
            title = file.stem
            if not file.exists():
                _make(bench, weights, name, strategy, line)
            found[title] = json.loads(file.with_suffix(".json").read_text())["held_out"]
    return found


def _make(
    bench: SenseBench,
    weights: TailWeights,
    name: str,
    strategy: Strategy,
    line: ProgressLine,
) -> None:
    import torch

    from ..benchmarks.commonality_items import SENSES
    from ..export.input_level import write_input_level
    from ..training.decoupled_model import DecoupledModel
    from ..training.input_level_training import InputLevelConfig, InputLevelTrainer
    from ..training.run_folder import RunFolder

    args = bench.args
    file = input_level_file(args.out, name, strategy)
    senses: list[Sense] = [one for one in SENSES if name in (one, JOINT)]
    seed = args.seed + zlib.crc32(name.encode()) % 10_000
    files = RunFolder(args.out, file.stem)
    settings = {**bench.settings, "pack": name, "strategy": strategy}
    settings |= {"views": args.views, "questions": args.questions}
    settings |= {"common_start": args.common_start}
    files.begin(settings)
    train, held_out = examples_of(bench, senses, seed)
    # Packs of different people share no start, unless it is asked for.
    start = args.seed if args.common_start else seed
    parts = _first_parts(bench, weights, senses, strategy, start)
    trainer = InputLevelTrainer(
        DecoupledModel(weights, None, parts, dtype=torch.bfloat16),
        train,
        bench.texts.states(),
        bench.texts.answers,
        InputLevelConfig(
            steps=args.joint_steps if name == JOINT else args.steps,
            views=args.views,
            questions=args.questions,
            learning_rate=args.learning_rate,
            seed=seed,
        ),
        files.checkpoint,
    )
    _train(trainer, file.stem, files.checkpoint, line)
    right = trainer.evaluate(held_out, _HELD_OUT_VIEWS)
    trained: InputLevelModelParts = trainer.model.trained_parts()
    files.save_record(
        {
            "settings": settings,
            "held_out": {"accuracy": round(float(right.mean()), 4), "questions": len(right)},
        }
    )
    write_input_level(file, trained)
    files.checkpoint.unlink(missing_ok=True)


def _first_parts(
    bench: SenseBench,
    weights: TailWeights,
    senses: Sequence[Sense],
    strategy: Strategy,
    seed: int,
) -> InputLevelModelParts:
    """What is trained, with evidence that single inputs taught."""
    import numpy as np
    import torch

    from ..kernels.direction_tokens import DIRECTIONS, PRESENCE
    from ..training.decoupled_model import DecoupledModel
    from ..training.direction_start import Evidence, learn_evidence
    from ..training.input_level_start import Questions, first_parts
    from ..training.input_level_training import margins_of
    from ..training.sense_examples import views_of

    evidence: dict[str, Evidence] = {}
    for sense in senses:
        rng = np.random.default_rng([seed, len(evidence)])
        tokens, facts = bench.data.tokens[sense], bench.data.facts[sense]
        views = views_of(sense, tokens, facts, bench.train, bench.args.copies, rng)
        evidence[sense] = learn_evidence(
            list(views.tokens.values()), views.facts, bench.args.hidden - DIRECTIONS, seed
        )
    texts, answers = bench.texts.states(), bench.texts.answers
    rows = torch.zeros(DIRECTIONS, 64)
    rows[:, PRESENCE] = 1
    rows[:, PRESENCE + 1 :] = torch.eye(DIRECTIONS)

    def ask(parts: InputLevelModelParts) -> torch.Tensor:
        model = DecoupledModel(weights, None, parts, dtype=torch.bfloat16)
        pieces = [[(name, rows)] for name in parts.modalities]
        with torch.no_grad():
            return margins_of(model, pieces, [range(len(texts))], texts, answers)

    questions = Questions(
        bench.tail,
        weights,
        torch.nn.utils.rnn.pad_sequence(texts, batch_first=True),
        torch.tensor([len(one) for one in texts]),
        [divmod(number, DIRECTIONS) for number in range(len(texts))],
        answers,
    )
    return first_parts(
        questions, str(bench.base.sha256), strategy, evidence, bench.args.lora_rank, seed, ask
    )


def _train(trainer: InputLevelTrainer, title: str, checkpoint: Path, line: ProgressLine) -> None:
    with stopping() as stop:
        trainer.run(
            lambda done: line(
                f"{title}: step {done.step} of {done.steps}, loss {done.loss:.3f}, right "
                f"{done.accuracy:.1%}, {done.step_s:.1f} s a step"
            ),
            stop,
        )
    if trainer.step < trainer.config.steps:
        line.clear()
        raise stopped(checkpoint, trainer.step, trainer.config.steps)
