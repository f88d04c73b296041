"""Options of `tailwire train connections`, and their checks that need no data."""

from __future__ import annotations

import hashlib
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError, SensorError
from .arguments import comma_list
from .train_common import add_common_arguments, positive

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import BaseModel

    from ..runtime.adaptation.training_config import TrainingConfig
    from ..runtime.connections import ConnectionSpec
    from ..runtime.model_config import LanguageModelConfig
    from ..training.question_split import QuestionSplit

_SENSORS = "cam_*,lidar_top,objects"
_SUBSETS = "objects;lidar_top;cam_*;cam_*,lidar_top"
#: What prepared data have already, by option.
_CHOSEN_BEFORE = {
    "conditions": "conditions",
    "held_out": "held-out scenes",
    "learn_per_keyframe": "questions",
    "ask_per_keyframe": "questions",
}
#: Options whose name is not that of the field they set.
_OPTION_OF = {"tail_blocks": "tail"}


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the sub-command."""
    add_common_arguments(parser, needs_drives=False)
    number, real = {"metavar": "N", "type": int}, {"metavar": "X", "type": float}
    parser.add_argument(
        "--encoders-from",
        metavar="WORKDIR",
        type=Path,
        help="folder of `train encoders`; not needed for the sensor objects alone",
    )
    parser.add_argument(
        "--prepare-only",
        action="store_true",
        help="write WORKDIR/prepared.npz, which --prepared takes on another machine, and stop",
    )
    parser.add_argument(
        "--prepared", metavar="FILE", type=Path, help="what to learn from, instead of --dataroot"
    )
    parser.add_argument(
        "--held-out",
        metavar="K/M",
        help="hold out so many scenes of so many, of each condition (as the questions' files say: "
        "1/5)",
    )
    parser.add_argument(
        "--learn-per-keyframe",
        metavar="N",
        type=int,
        help="questions of a keyframe to learn from (all)",
    )
    parser.add_argument(
        "--ask-per-keyframe", metavar="N", type=int, help="of one that is held out (all)"
    )
    parser.add_argument(
        "--device", metavar="cpu|cuda", default="cpu", help="that trains, of torch (cpu)"
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
        "--mirror",
        action="store_true",
        help="every other batch with left and right exchanged, in scenes and words",
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
    parser.add_argument(
        "--finish",
        **number,
        help="train no further: look at so many held-out questions with the weights of the "
        "checkpoint, and write weights and record",
    )
    parser.add_argument("--model", metavar="NAME|PATH", help="language model (the default one)")
    parser.add_argument("--precision", metavar="fp32|int8|int4", help="of its head (int8)")


def check_source(args: Namespace) -> None:
    """Refuse too many or too few sources of data.

    Raises:
        ConfigError: naming the option.
    """
    if (args.dataroot is None) == (args.prepared is None):
        raise ConfigError(
            "there must be drives or prepared data, and not both",
            field="--dataroot",
            remedy="give --dataroot DIR or --prepared FILE",
        )
    if args.prepared is not None and args.prepare_only:
        raise ConfigError(
            "the data are prepared already", field="--prepare-only", remedy="leave it out"
        )
    for name, what in _CHOSEN_BEFORE.items():
        if args.prepared is not None and getattr(args, name) is not None:
            raise ConfigError(
                f"prepared data have their {what}",
                field=f"--{name.replace('_', '-')}",
                remedy="give it where the data are prepared",
            )


def question_split(args: Namespace) -> QuestionSplit:
    """Which scenes are held out, and how many questions a keyframe has.

    Raises:
        ConfigError: naming the option.
    """
    from ..training.question_split import QuestionSplit

    positive(args, "learn_per_keyframe", "ask_per_keyframe")
    share = None
    if args.held_out is not None:
        some, slash, of = args.held_out.partition("/")
        if not (slash and some.isdecimal() and of.isdecimal() and 0 < int(some) < int(of)):
            raise ConfigError(
                f"'{args.held_out}' is no share", field="--held-out", remedy="give e.g. 2/5"
            )
        share = int(some), int(of)
    return QuestionSplit(share, args.learn_per_keyframe, args.ask_per_keyframe)


def check_prepared(
    args: Namespace, origin: Mapping[str, Any], sensors: Mapping[str, str], model: str
) -> None:
    """Refuse prepared data that do not fit.

    Raises:
        SensorError: a sensor is not in them, or went through another encoder.
        ConfigError: they lack mirrored questions, or are of another language model.
    """
    for sensor, encoder in sensors.items():
        if origin["sensors"].get(sensor) != encoder:
            raise SensorError(
                f"the prepared data have no sensor '{sensor}' of the encoder '{encoder}'",
                field="--sensors",
                remedy=f"use some of {', '.join(origin['sensors'])}",
            )
    if args.mirror and not origin["mirrored"]:
        raise ConfigError(
            "the data were prepared without mirrored questions",
            field="--mirror",
            remedy="prepare them again with --mirror, or leave it out",
        )
    check_language_model(origin, model)


def check_language_model(origin: Mapping[str, Any], model: str) -> None:
    """Refuse data that were prepared for another language model.

    Raises:
        ConfigError: they were.
    """
    if origin["language_model"] != model:
        raise ConfigError(
            f"the data were prepared for {origin['language_model']}, not {model}",
            field="--model",
            remedy="name that language model, or prepare the data again",
        )


def check_device(name: str) -> None:
    """Refuse a device that torch does not have.

    Raises:
        ConfigError: naming the option.
    """
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"torch cannot use '{name}': {str(error).splitlines()[0]}",
            field="--device",
            remedy="give cpu, or install torch for this device",
        ) from error


def chosen_sensors(
    args: Namespace, known: Mapping[str, str]
) -> tuple[dict[str, str], tuple[tuple[str, ...], ...]]:
    """Encoder by sensor, in the pack's order, and the sets of sensors, one per time drawn."""
    chosen = fitting_sensors(comma_list(args.sensors, "--sensors"), list(known), "--sensors")
    sensors = {name: known[name] for name in known if name in chosen}
    if args.subsets is None:
        listed = list(known)
        sets = (fitting_sensors(t.split(","), listed, "--subsets") for t in _SUBSETS.split(";"))
        wanted = [tuple(name for name in one if name in sensors) for one in sets]
        return sensors, tuple(dict.fromkeys(one for one in wanted if one))
    subsets: list[tuple[str, ...]] = []
    for text in args.subsets.split(";"):
        times = re.match(r"\s*(\d{1,3}):", text)
        patterns = comma_list(text[times.end() :] if times else text, "--subsets")
        found = fitting_sensors(patterns, list(sensors), "--subsets")
        subsets += [found] * (int(times[1]) if times else 1)
    if not subsets:
        raise ConfigError("no set counts", field="--subsets", remedy="give counts above 0")
    return sensors, tuple(subsets)


def fitting_sensors(patterns: Sequence[str], known: Sequence[str], option: str) -> tuple[str, ...]:
    """Sensors that fit names and patterns, in the order of the known ones.

    Raises:
        SensorError: one fits none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise SensorError(
                f"there is no sensor '{pattern}'",
                field=option,
                remedy=f"use some of {', '.join(known)}, or a pattern such as cam_*",
            )
    return tuple(name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns))


def checked(kind: type[BaseModel], values: Mapping[str, Any]) -> Any:
    """A model made of options.

    Raises:
        ConfigError: naming the first option that is wrong.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "width"
        option = "--" + _OPTION_OF.get(name, name).replace("_", "-")
        problem = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(problem, field=option, remedy="correct this option") from error


def sha256(text: str) -> str:
    """Its beginning, for records."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def hash_of(weights: Mapping[str, Any]) -> str:
    """Of names and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].tobytes())
    return digest.hexdigest()[:24]


def first_weights(
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
