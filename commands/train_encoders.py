"""`tailwire train encoders`: the detectors behind object tokens, trained on drives."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .progress import ProgressLine, duration
from .train_common import (
    add_common_arguments,
    cache_folder,
    check_torch,
    chosen_conditions,
    draw,
    not_negative,
    positive,
    stopped,
    stopping,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from ..training.encoder_training import EncoderProgress, EncoderTrainer, Examples
    from ..training.moments import TrainingMoment
    from ..training.run_folder import RunFolder

#: Epochs, batch and held-out examples per look, by modality.
_DEFAULTS = {"lidar": (6, 8, 400), "camera": (4, 32, 960)}


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the sub-command."""
    parser.add_argument("--modality", metavar="lidar|camera", required=True, help="which encoder")
    add_common_arguments(parser)
    parser.add_argument(
        "--epochs", metavar="N", type=int, help="passes (6 for the LiDAR, 4 for cameras)"
    )
    parser.add_argument(
        "--batch", metavar="N", type=int, help="sweeps or pictures of a step (8 and 32)"
    )
    parser.add_argument(
        "--learning-rate", metavar="X", type=float, default=2e-3, help="its peak (0.002)"
    )


def run(args: Namespace) -> int:
    """Train, write weights and record, and print one JSON line."""
    if args.modality not in _DEFAULTS:
        raise ConfigError(
            f"there is no encoder of '{args.modality}' to train",
            field="--modality",
            remedy=f"use {' or '.join(_DEFAULTS)}; objects need no training",
        )
    positive(args, "epochs", "batch", "learning_rate", "threads")
    not_negative(args, "seed")
    conditions = chosen_conditions(args)
    check_torch()
    import torch

    from ..training.encoder_data import check_enough
    from ..training.encoder_training import EncoderTrainer, EncoderTrainingConfig
    from ..training.moments import moments_of
    from ..training.run_folder import RunFolder

    epochs, batch, looks = _DEFAULTS[args.modality]
    config = EncoderTrainingConfig(
        epochs=args.epochs or epochs,
        batch=args.batch or batch,
        learning_rate=args.learning_rate,
        seed=args.seed,
        evaluate_on=looks,
    )
    torch.set_num_threads(args.threads)
    files = RunFolder(args.out, args.modality)
    with ProgressLine(args.quiet) as line:
        line("reading drives")
        moments = moments_of(args.dataroot, conditions)
        settings = _settings(args, config.__dict__, moments)
        files.begin(settings)
        train, held_out = _examples(args, moments, line)
        check_enough(train, held_out, config.batch)
        # Before the model is made: its first weights follow from the seed.
        torch.manual_seed(args.seed)
        trainer = EncoderTrainer(
            _detector(args.modality), train, held_out, config, files.checkpoint
        )
        _train(trainer, files, line)
    _finish(trainer, files, settings)
    return 0


def _settings(
    args: Namespace, config: dict[str, Any], moments: Sequence[TrainingMoment]
) -> dict[str, Any]:
    from ..training.moments import identity_of

    return {
        "modality": args.modality,
        **config,
        "conditions": sorted({moment.condition for moment in moments}),
        "keyframes": len(moments),
        "scenes": len({(id(moment.data), moment.scene) for moment in moments}),
        "drives": identity_of(moments),
        "dataroots": [root.resolve().name for root in args.dataroot],
    }


def _detector(modality: str) -> nn.Module:
    from ..training.detectors import BevDetector, CameraDetector
    from ..training.pack_writer import CAMERA_INPUT

    if modality == "lidar":
        return BevDetector()
    return CameraDetector(-(-CAMERA_INPUT.height // 8), -(-CAMERA_INPUT.width // 8))


def _examples(
    args: Namespace, moments: Sequence[TrainingMoment], line: ProgressLine
) -> tuple[Examples, Examples]:
    from ..training.encoder_data import camera_examples, lidar_examples

    if args.modality == "lidar":
        return lidar_examples(
            moments, lambda done, count: line(f"reading sweeps: {done} of {count}")
        )
    from ..assembly import load_camera_features
    from ..training.pack_writer import CAMERA_INPUT

    engine, identity = load_camera_features(CAMERA_INPUT, threads=args.threads, progress=line)
    try:
        return camera_examples(
            moments,
            engine,
            CAMERA_INPUT,
            cache_folder(args),
            identity,
            lambda done, count: line(f"features of the backbone: {done} of {count} pictures"),
        )
    finally:
        engine.close()


def _train(trainer: EncoderTrainer, files: RunFolder, line: ProgressLine) -> None:
    from ..runtime.adaptation.training_config import TrainingError
    from ..training.run_folder import read_checkpoint, state_arrays

    with stopping() as stop:
        try:
            trainer.run(lambda progress: line(_progress_text(progress)), stop)
        except TrainingError:
            # The step that went wrong has touched the running means of norms already.
            if files.checkpoint.is_file():
                kept = files.save_weights(state_arrays(read_checkpoint(files.checkpoint)["model"]))
                line.clear()
                print(f"the weights of the last checkpoint are in {kept}", file=sys.stderr)
            raise
    if trainer.step < trainer.steps:
        line.clear()
        raise stopped(files.checkpoint, trainer.step, trainer.steps)


def _progress_text(done: EncoderProgress) -> str:
    losses = " ".join(f"{name} {value:.3f}" for name, value in done.losses.items())
    held_out = sum(done.held_out.values())
    return (
        f"step {done.step} of {done.steps}, loss {sum(done.losses.values()):.3f} ({losses})"
        + (f", held out {held_out:.3f}" if done.held_out else "")
        + f", {done.examples_per_s:.1f} samples/s, {duration(done.left_s)} left"
    )


def _finish(trainer: EncoderTrainer, files: RunFolder, settings: dict[str, Any]) -> None:
    from ..training.curves import draw_encoder_curve
    from ..training.run_folder import state_arrays

    weights = files.save_weights(state_arrays(trainer.model.state_dict()))
    history = trainer.history
    files.save_record({"settings": settings, "history": history.__dict__})
    title = f"{files.name} encoder"
    curve = draw(files.curve, lambda: draw_encoder_curve(files.curve, history, title))
    summary = {
        "weights": str(weights),
        "record": str(files.record),
        "curve": curve,
        "steps": trainer.step,
        "loss": history.loss[-1] if history.loss else None,
        "held_out": history.held_out[-1] if history.held_out else None,
    }
    print(json.dumps(summary))
