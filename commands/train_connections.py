"""`tailwire train connections`: from tokens to answers; encoders and language model are frozen."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .arguments import comma_list
from .progress import ProgressLine, duration
from .train_common import (
    cache_folder,
    check_torch,
    chosen_conditions,
    draw,
    not_negative,
    positive,
    stopped,
    stopping,
)
from .train_connections_options import (
    add_arguments,
    check_device,
    check_prepared,
    check_source,
    checked,
    chosen_sensors,
    first_weights,
    hash_of,
    question_split,
    sha256,
)

if TYPE_CHECKING:
    from ..export.checkpoint import Checkpoint
    from ..runtime.adaptation.samples import HeadTexts, TrainingData
    from ..runtime.adaptation.training_config import Progress
    from ..runtime.config import RuntimeConfig
    from ..runtime.encoder_specs import EncoderSpec
    from ..training.connection_start import ConnectionTrainer
    from ..training.prepared_data import HeldOut, PreparedData
    from ..training.run_folder import RunFolder

__all__ = ["add_arguments", "run"]


def run(args: Namespace) -> int:
    """Train, write weights and record, and print one JSON line."""
    positive(args, "threads", "evaluate_every", "evaluate_on", "steps", "batch", "learning_rate")
    positive(args, "finish")
    not_negative(args, "seed")
    conditions = chosen_conditions(args)
    check_source(args)
    check_torch()
    check_device(args.device)
    import torch

    from ..assembly import model_path
    from ..export.checkpoint import open_checkpoint
    from ..export.tail_weights import tail_weights
    from ..runtime.adaptation.connection_model import ConnectionModel
    from ..runtime.adaptation.tail_model import TailModel
    from ..runtime.adaptation.training_config import TrainingConfig
    from ..runtime.config import read_config
    from ..runtime.connections import ConnectionSpec
    from ..training.connection_start import ConnectionTrainer, read_start
    from ..training.pack_writer import encoder_specs, sensor_specs
    from ..training.prepared_data import held_out_part, read_prepared, write_prepared
    from ..training.run_folder import RunFolder

    torch.set_num_threads(args.threads)
    sensors, subsets = chosen_sensors(args, {one.name: one.encoder for one in sensor_specs()})
    names = {
        "kind": args.kind,
        "tail_blocks": args.tail,
        "per_block": args.per_block,
        "lora_rank": args.lora_rank,
    }
    shape = {name: getattr(args, name) for name in ("hidden", "width", "layers", "heads")}
    spec = checked(ConnectionSpec, {**names, **shape})
    trained = None if args.train_only is None else comma_list(args.train_only, "--train-only")
    config = checked(
        TrainingConfig,
        {
            "subsets": subsets,
            "trained": trained,
            **{
                name: getattr(args, name)
                for name in TrainingConfig.model_fields
                if name not in ("subsets", "trained") and hasattr(args, name)
            },
        },
    )
    specs = {name: one for name, one in encoder_specs().items() if name in sensors.values()}
    if not args.prepared and args.encoders_from is None and any(o.file for o in specs.values()):
        raise ConfigError(
            "the sensors need trained encoders",
            field="--encoders-from",
            remedy="name the folder of `train encoders`, or give --sensors objects",
        )
    runtime = read_config(None, model=args.model, precision=args.precision, threads=args.threads)
    with ProgressLine(args.quiet) as line:
        checkpoint = open_checkpoint(model_path(runtime.model))
        start = None if args.start is None else read_start(args.start)
        sizes = {name: (one.tokens, one.width) for name, one in specs.items()}
        weights = first_weights(spec, config, checkpoint.config, sizes, sensors, start)
        if args.prepared is None:
            prepared = _prepare(args, conditions, sensors, specs, runtime.model, checkpoint, line)
        else:
            line("reading what was prepared")
            prepared = read_prepared(args.prepared)
            check_prepared(args, prepared.origin, sensors, runtime.model)
        if args.prepare_only:
            path = args.out / "prepared.npz"
            write_prepared(path, prepared)
            line.clear()
            counts = {"train": len(prepared.train), "held_out": len(prepared.held_out)}
            print(json.dumps({"prepared": str(path), "bytes": path.stat().st_size, **counts}))
            return 0
        files = RunFolder(args.out, "connections")
        settings = {
            "connection": spec.model_dump(),
            "training": config.model_dump(mode="json"),
            **prepared.origin,
            "sensors": sensors,
            "precision": runtime.precision if args.device == "cpu" else "float32",
            "from": None if start is None else hash_of(start),
        }
        files.begin(settings)
        if args.finish is not None:
            _check_checkpoint(files)
            prepared = held_out_part(prepared, args.finish, args.seed)
        data = prepared.with_heads(
            _heads(args, runtime, checkpoint, prepared, spec.tail_blocks, line),
            sensors.__contains__,
        )
        if args.finish is None:
            _check_enough(data, config.batch)
        trainer = ConnectionTrainer(
            ConnectionModel(spec, checkpoint.config, sizes, sensors, weights, specs),
            TailModel(tail_weights(checkpoint, spec.tail_blocks), device=args.device),
            data,
            config,
            checkpoint=files.checkpoint,
            look_with=_look_with(config.subsets),
        )
        if args.start is not None and not trainer.step:
            earlier = args.start / files.checkpoint.name
            if earlier.is_file():
                trainer.take_layers(earlier)
        if args.finish is None:
            _train(trainer, files, line)
        _finish(trainer, files, settings, prepared.known, args, line)
    return 0


def _prepare(
    args: Namespace,
    conditions: Sequence[str],
    sensors: Mapping[str, str],
    specs: Mapping[str, EncoderSpec],
    language_model: str,
    checkpoint: Checkpoint,
    line: ProgressLine,
) -> PreparedData:
    """Read drives and questions, and encode all keyframes."""
    from ..assembly import load_trained_encoders
    from ..training.connection_data import prepared_data, read_drive_questions
    from ..training.moments import identity_of, moments_of
    from ..training.pack_writer import PROMPT
    from ..training.question_split import split_anew

    line("reading drives and questions")
    moments = moments_of(args.dataroot, conditions)
    split = question_split(args)
    items = split_anew(moments, read_drive_questions(args.dataroot), split, args.seed)
    encoders, identity = load_trained_encoders(
        specs, args.encoders_from or args.out, threads=args.threads, progress=line
    )
    origin = {
        "sensors": dict(sensors),
        "language_model": language_model,
        "conditions": sorted({moment.condition for moment in moments}),
        "keyframes": len(moments),
        "scenes": len({(id(moment.data), moment.scene) for moment in moments}),
        "drives": identity_of(moments),
        "dataroots": [root.resolve().name for root in args.dataroot],
        "encoders": sha256(identity),
        "mirrored": args.mirror,
        **split.as_json(),
    }
    try:
        return prepared_data(
            moments,
            items,
            sensors,
            encoders,
            identity,
            checkpoint,
            PROMPT,
            cache_folder(args),
            origin,
            args.mirror,
            lambda what, done, count: line(f"{what}: {done} of {count}"),
        )
    finally:
        for encoder in encoders.values():
            encoder.close()


def _heads(
    args: Namespace,
    runtime: RuntimeConfig,
    checkpoint: Checkpoint,
    prepared: PreparedData,
    tail_blocks: int,
    line: ProgressLine,
) -> HeadTexts:
    """Head states of the questions: of the engines that will run, or computed on the device."""
    if args.device != "cpu":
        from ..training.device_heads import device_head_texts

        found = device_head_texts(
            *(checkpoint, prepared.texts, (tail_blocks,), args.device),
            lambda done, count: line(f"head states: {done} of {count}"),
        )
        return found[tail_blocks]
    from ..assembly import load_language_model
    from ..training.head_states import head_texts

    model = load_language_model(
        runtime.model,
        runtime.precision,
        threads=args.threads,
        depths=(tail_blocks,),
        progress=line,
    )
    try:
        return head_texts(
            model,
            prepared.texts,
            tail_blocks,
            cache_folder(args) / "heads",
            lambda done, count: line(f"head states: {done} of {count}"),
        )
    finally:
        model.close()


def _check_enough(data: TrainingData, batch: int) -> None:
    if len(data.train) < batch:
        raise ConfigError(
            f"there are {len(data.train)} decisions to learn, fewer than a batch of {batch}",
            field="--dataroot",
            remedy="give more drives or a smaller --batch",
        )


def _check_checkpoint(files: RunFolder) -> None:
    if not files.checkpoint.is_file():
        raise ConfigError(
            "there is no checkpoint to finish with",
            field="--finish",
            remedy="name the folder of a training with --out, or leave it out",
        )


def _look_with(subsets: Sequence[Sequence[str]]) -> Sequence[str]:
    """The largest set without ground truth, the largest of all where there is none."""
    sensed = [one for one in subsets if "objects" not in one]
    return max(sensed or subsets, key=len)


def _train(trainer: ConnectionTrainer, files: RunFolder, line: ProgressLine) -> None:
    from ..runtime.adaptation.training_config import TrainingError

    with stopping() as stop:
        try:
            trainer.run(lambda progress: line(_progress_text(progress)), stop)
        except TrainingError:
            kept = files.save_weights(trainer.model.weights(), "connection")
            line.clear()
            print(f"the weights of the last good step are in {kept}", file=sys.stderr)
            raise
    if trainer.step < trainer.config.steps:
        line.clear()
        raise stopped(files.checkpoint, trainer.step, trainer.config.steps)


def _progress_text(done: Progress) -> str:
    held_out = "" if done.held_out is None else f", held out {done.held_out:.1%}"
    return (
        f"step {done.step} of {done.steps}, loss {done.loss:.3f}, {done.accuracy:.1%} right"
        f"{held_out}, {done.samples_per_s:.1f} samples/s, {duration(done.left_s)} left"
    )


def _finish(
    trainer: ConnectionTrainer,
    files: RunFolder,
    settings: Mapping[str, Any],
    known: HeldOut,
    args: Namespace,
    line: ProgressLine,
) -> None:
    from ..training.connection_scores import held_out_scores
    from ..training.curves import draw_connection_curve

    weights = files.save_weights(trainer.model.weights(), "connection")
    line("looking at held-out questions")
    sets = list(dict.fromkeys(trainer.config.subsets))
    most = args.evaluate_on if args.finish is None else args.finish
    scores = held_out_scores(trainer.evaluate, trainer.data.held_out, known, sets, most, args.seed)
    history = trainer.history
    files.save_record(
        {
            "connection": settings["connection"],
            "step": trainer.step,
            "settings": settings,
            "history": history.__dict__,
            "held_out": scores,
        }
    )
    line.clear()
    blind = scores["blind"]["accuracy"]
    curve = draw(files.curve, lambda: draw_connection_curve(files.curve, history, blind))
    summary = {
        "weights": str(weights),
        "record": str(files.record),
        "curve": curve,
        "steps": trainer.step,
        "loss": history.loss[-1] if history.loss else None,
        "blind_accuracy": blind,
        "majority_accuracy": scores["majority"]["accuracy"],
        "accuracy": {",".join(one["sensors"]): one["accuracy"] for one in scores["sensor_sets"]},
    }
    print(json.dumps(summary))
