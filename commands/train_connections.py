"""`tailwire train connections`: from tokens to answers; encoders and language model are frozen."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError, SensorError
from .arguments import comma_list
from .progress import ProgressLine
from .train_common import (
    add_common_arguments,
    cache_folder,
    check_torch,
    chosen_conditions,
    draw,
    duration,
    not_negative,
    positive,
    stopped,
    stopping,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import BaseModel

    from ..runtime.adaptation.samples import TrainingData
    from ..runtime.adaptation.training_config import Progress, TrainingConfig
    from ..runtime.connections import ConnectionSpec
    from ..runtime.model_config import LanguageModelConfig
    from ..training.connection_data import HeldOut
    from ..training.connection_start import ConnectionTrainer
    from ..training.run_folder import RunFolder

_SENSORS = "cam_*,lidar_top,objects"
_SUBSETS = "objects;lidar_top;cam_*;cam_*,lidar_top"
#: Options whose name is not that of the field they set.
_OPTION_OF = {"tail_blocks": "tail"}


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the sub-command."""
    add_common_arguments(parser)
    number, real = {"metavar": "N", "type": int}, {"metavar": "X", "type": float}
    parser.add_argument(
        "--encoders-from",
        metavar="WORKDIR",
        type=Path,
        help="folder of `train encoders`; not needed for the sensor objects alone",
    )
    parser.add_argument(
        "--sensors", metavar="LIST", default=_SENSORS, help=f"names and patterns ({_SENSORS})"
    )
    parser.add_argument(
        "--subsets",
        metavar="LISTS",
        help="sets of sensors that batches are made with, drawn evenly; '3:cam_*' counts three "
        f"times ({_SUBSETS}, as far as the sensors are there)",
    )
    parser.add_argument("--tail", **number, default=6, help="blocks behind the sensors (6)")
    parser.add_argument(
        "--kind", metavar="conditioned|plain", default="conditioned", help="of connection"
    )
    parser.add_argument(
        "--per-block", action="store_true", help="plain kind: keys and values for each block"
    )
    parser.add_argument("--width", **number, default=160, help="of the small transformer (160)")
    parser.add_argument("--layers", **number, default=4, help="of the small transformer (4)")
    parser.add_argument("--heads", **number, default=4, help="of the small transformer (4)")
    parser.add_argument("--hidden", **number, default=1280, help="of plain aligners (1280)")
    parser.add_argument("--lora-rank", **number, default=0, help="on the tail's k and v (0)")
    parser.add_argument("--steps", **number, default=6000, help="of the optimiser (6000)")
    parser.add_argument("--batch", **number, default=64, help="questions of a step (64)")
    parser.add_argument("--learning-rate", **real, default=1e-3, help="its peak (0.001)")
    parser.add_argument("--warmup", **number, default=100, help="steps up to the peak (100)")
    parser.add_argument(
        "--summary-steps", **number, default=0, help="first steps without the tail, cheap (0)"
    )
    parser.add_argument(
        "--readout-steps",
        **number,
        default=0,
        help="steps behind these in which keys, values and gates alone are trained (0)",
    )
    parser.add_argument(
        "--readout-rate", **real, default=1e-3, help="their peak learning rate (0.001)"
    )
    parser.add_argument(
        "--row-weight", **real, default=1.0, help="of the loss on which objects are meant (1)"
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="DIR",
        type=Path,
        help="start with the weights of this working folder or pack",
    )
    parser.add_argument(
        "--train-only", metavar="NAMES", help="beginnings of the names of weights to train (all)"
    )
    parser.add_argument("--evaluate-every", **number, default=500, help="steps between looks (500)")
    parser.add_argument(
        "--evaluate-on", **number, default=2000, help="held-out questions of a look (2000)"
    )
    parser.add_argument("--model", metavar="NAME|PATH", help="language model (the default one)")
    parser.add_argument("--precision", metavar="fp32|int8|int4", help="of its head (int8)")


def run(args: Namespace) -> int:
    """Train, write weights and record, and print one JSON line."""
    positive(args, "threads", "evaluate_every", "evaluate_on", "steps", "batch", "learning_rate")
    not_negative(args, "seed")
    conditions = chosen_conditions(args)
    check_torch()
    import torch

    from ..assembly import load_language_model, load_trained_encoders, model_path
    from ..export.checkpoint import open_checkpoint
    from ..export.tail_weights import tail_weights
    from ..runtime.adaptation.connection_model import ConnectionModel
    from ..runtime.adaptation.tail_model import TailModel
    from ..runtime.adaptation.training_config import TrainingConfig
    from ..runtime.config import read_config
    from ..runtime.connections import ConnectionSpec
    from ..training.connection_data import connection_data, read_drive_questions
    from ..training.connection_start import ConnectionTrainer, read_start
    from ..training.moments import identity_of, moments_of
    from ..training.pack_writer import PROMPT, encoder_specs, sensor_specs
    from ..training.run_folder import RunFolder

    torch.set_num_threads(args.threads)
    sensors, subsets = _sensors(args, {one.name: one.encoder for one in sensor_specs()})
    names = {
        "kind": args.kind,
        "tail_blocks": args.tail,
        "per_block": args.per_block,
        "lora_rank": args.lora_rank,
    }
    shape = {name: getattr(args, name) for name in ("hidden", "width", "layers", "heads")}
    spec = _checked(ConnectionSpec, {**names, **shape})
    trained = None if args.train_only is None else comma_list(args.train_only, "--train-only")
    config = _checked(
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
    if args.encoders_from is None and any(one.file for one in specs.values()):
        raise ConfigError(
            "the sensors need trained encoders",
            field="--encoders-from",
            remedy="name the folder of `train encoders`, or give --sensors objects",
        )
    runtime = read_config(None, model=args.model, precision=args.precision, threads=args.threads)
    with ProgressLine(args.quiet) as line:
        line("reading drives and questions")
        moments = moments_of(args.dataroot, conditions)
        items = read_drive_questions(args.dataroot)
        checkpoint = open_checkpoint(model_path(runtime.model))
        start = None if args.start is None else read_start(args.start)
        sizes = {name: (one.tokens, one.width) for name, one in specs.items()}
        weights = _weights(spec, config, checkpoint.config, sizes, sensors, start)
        encoders, identity = load_trained_encoders(
            specs, args.encoders_from or Path(), threads=args.threads, progress=line
        )
        files = RunFolder(args.out, "connections")
        settings = {
            "connection": spec.model_dump(),
            "training": config.model_dump(mode="json"),
            "sensors": sensors,
            "language_model": runtime.model,
            "precision": runtime.precision,
            "conditions": sorted({moment.condition for moment in moments}),
            "keyframes": len(moments),
            "scenes": len({(id(moment.data), moment.scene) for moment in moments}),
            "drives": identity_of(moments),
            "dataroots": [root.resolve().name for root in args.dataroot],
            "encoders": _sha256(identity),
            "from": None if start is None else _hash_of(start),
        }
        files.begin(settings)
        model = load_language_model(
            runtime.model,
            runtime.precision,
            threads=args.threads,
            depths=(spec.tail_blocks,),
            progress=line,
        )
        try:
            data, known = connection_data(
                moments,
                items,
                sensors,
                encoders,
                identity,
                model,
                PROMPT,
                spec.tail_blocks,
                cache_folder(args),
                lambda what, done, count: line(f"{what}: {done} of {count}"),
            )
        finally:
            model.close()
            for encoder in encoders.values():
                encoder.close()
        _check_enough(data, config.batch)
        trainer = ConnectionTrainer(
            ConnectionModel(spec, checkpoint.config, sizes, sensors, weights, specs),
            TailModel(tail_weights(checkpoint, spec.tail_blocks)),
            data,
            config,
            checkpoint=files.checkpoint,
            look_with=_look_with(config.subsets),
        )
        if args.start is not None and not trainer.step:
            earlier = args.start / files.checkpoint.name
            if earlier.is_file():
                trainer.take_layers(earlier)
        _train(trainer, files, line)
        _finish(trainer, files, settings, known, args, line)
    return 0


def _sensors(
    args: Namespace, known: Mapping[str, str]
) -> tuple[dict[str, str], tuple[tuple[str, ...], ...]]:
    """Encoder by sensor, in the pack's order, and the sets of sensors, one per time drawn."""
    chosen = _fitting(comma_list(args.sensors, "--sensors"), list(known), "--sensors")
    sensors = {name: known[name] for name in known if name in chosen}
    if args.subsets is None:
        wanted = [
            tuple(name for name in one if name in sensors)
            for one in (
                _fitting(text.split(","), list(known), "--subsets") for text in _SUBSETS.split(";")
            )
        ]
        return sensors, tuple(dict.fromkeys(one for one in wanted if one))
    subsets: list[tuple[str, ...]] = []
    for text in args.subsets.split(";"):
        times = re.match(r"\s*(\d{1,3}):", text)
        patterns = comma_list(text[times.end() :] if times else text, "--subsets")
        found = _fitting(patterns, list(sensors), "--subsets")
        subsets += [found] * (int(times[1]) if times else 1)
    if not subsets:
        raise ConfigError("no set counts", field="--subsets", remedy="give counts above 0")
    return sensors, tuple(subsets)


def _fitting(patterns: Sequence[str], known: Sequence[str], option: str) -> tuple[str, ...]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise SensorError(
                f"there is no sensor '{pattern}'",
                field=option,
                remedy=f"use some of {', '.join(known)}, or a pattern such as cam_*",
            )
    return tuple(name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns))


def _checked(kind: type[BaseModel], values: Mapping[str, Any]) -> Any:
    from pydantic import ValidationError

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "width"
        option = "--" + _OPTION_OF.get(name, name).replace("_", "-")
        problem = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(problem, field=option, remedy="correct this option") from error


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _hash_of(weights: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].tobytes())
    return digest.hexdigest()[:24]


def _weights(
    spec: ConnectionSpec,
    config: TrainingConfig,
    model: LanguageModelConfig,
    sizes: Mapping[str, tuple[int, int]],
    sensors: Mapping[str, str],
    start: Mapping[str, NDArray[np.float32]] | None,
) -> dict[str, NDArray[np.float32]]:
    """Where training starts, after checks that need no data."""
    from ..runtime.connections import weight_shapes
    from ..training.connection_start import start_weights

    if spec.tail_blocks > model.num_blocks:
        raise ConfigError(
            f"a tail of {spec.tail_blocks} blocks does not fit {model.num_blocks}",
            field="--tail",
            remedy=f"give 1 to {model.num_blocks}",
        )
    shapes = weight_shapes(spec, model, sizes, sensors)
    for name in config.trained or ():
        if not any(one.startswith(name) for one in shapes):
            raise ConfigError(
                f"no weight's name begins with '{name}'",
                field="--train-only",
                remedy=f"use beginnings of {', '.join(list(shapes)[:12])}, ...",
            )
    # The tokens of all our encoders are objects.
    return start_weights(shapes, sizes, config.seed, start)


def _check_enough(data: TrainingData, batch: int) -> None:
    if len(data.train) < batch:
        raise ConfigError(
            f"there are {len(data.train)} decisions to learn, fewer than a batch of {batch}",
            field="--dataroot",
            remedy="give more drives or a smaller --batch",
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
    scores = held_out_scores(
        trainer.evaluate, trainer.data.held_out, known, sets, args.evaluate_on, args.seed
    )
    history = trainer.history
    files.save_record(
        {
            "connection": settings["connection"],
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
