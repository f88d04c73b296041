"""The parameters of the runtime node: declared with ranges and descriptions, checked, read.

One table says what there is; a value that does not fit is refused with the parameter's name. What
only the runtime can judge (a model that does not exist) is judged where it is loaded.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailwire.runtime.config import RuntimeConfig
from tailwire.runtime.errors import ConfigError
from tailwire.runtime.plans import Budget
from tailwire.runtime.policies import POLICY_NAMES
from tailwire.runtime.questions import Question

from .conversion import DEFAULT_KIND, DEFAULT_TOPIC, KINDS, budget_of

Value = bool | int | float | str | list[str]


@dataclass(frozen=True)
class Setting:
    """A parameter.

    Attributes:
        default: also tells the type; an int is taken for a float.
        about: for `ros2 param describe`.
        low: smallest value of a number.
        high: largest value of a number.
        choices: of a text; empty for any.
        live: whether it may change while the node is configured.
    """

    default: Value
    about: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    live: bool = False


SETTINGS: Mapping[str, Setting] = {
    "model": Setting("", "language model: name in the registry, GGUF file or folder; '' default"),
    "precision": Setting("int8", "of the language model", choices=("fp32", "int8", "int4")),
    "pack": Setting("", "name or folder of the pack; '' the one that comes with Tailwire"),
    "pack_folders": Setting([""], "folders whose packs ListPacks also lists"),
    "backend": Setting(
        "", "what executes engines; '' that of $TAILWIRE_BACKEND, else onnxruntime-cpu"
    ),
    "engines": Setting(
        "", "folder that `tailwire export` wrote, for other back ends; '' that of $TAILWIRE_ENGINES"
    ),
    "tail_engines": Setting(
        [""], "further ones whose tails a policy may choose, e.g. int4=/exports/int4"
    ),
    "threads": Setting(2, "threads of one engine", 1, 256),
    "tail_blocks": Setting(0, "depth of the tail; 0 takes the pack's own", 0, 1000),
    "policy": Setting(
        "fixed", "who decides which encoders run in a frame", choices=POLICY_NAMES, live=True
    ),
    "budget.flops": Setting(0.0, "operations of a frame; 0 no limit", 0, 1e18, live=True),
    "budget.memory_bytes": Setting(0.0, "memory, bytes; 0 no limit", 0, 1e15, live=True),
    "budget.latency_ms": Setting(0.0, "time of a frame, ms; 0 no limit", 0, 1e6, live=True),
    "budget.energy_mj": Setting(0.0, "energy of a frame, mJ; 0 no limit", 0, 1e9, live=True),
    "max_age_ms": Setting(
        1000.0, "frames older than this, against the newest, are not used, ms", 1, 3.6e6, live=True
    ),
    "future_ms": Setting(
        200.0, "frames stamped further ahead of the clock are dropped, ms", 0, 3.6e6, live=True
    ),
    "base_frame": Setting("base_link", "frame of the vehicle"),
    "sensors": Setting([""], "sensors that are switched on; '' all of the pack", live=True),
    "trigger": Setting(
        "", "sensor whose frames start answering; '' frames of any sensor", live=True
    ),
    "max_rate_hz": Setting(
        0.0, "most answers a second to each standing question; 0 no limit", 0, 1000, live=True
    ),
    "questions": Setting(
        ["pack"], "names of standing questions, see question.<name>.text; pack: those it suggests"
    ),
    "diagnostics_period_s": Setting(1.0, "seconds between diagnostics", 0.05, 60),
    "give_back_s": Setting(
        60.0, "freed memory is given back to the system this often, s; 0 never", 0, 86400
    ),
    "silence_s": Setting(
        5.0, "no answer for longer is an error in the diagnostics, s", 0.1, 3600, live=True
    ),
    "core_waits": Setting(
        False, "diagnostics of rounds in which no thread waited for a core; costs about 1 ms each"
    ),
    "autostart": Setting(True, "configure and activate at the start"),
}

QUESTION_SETTINGS: Mapping[str, Setting] = {
    "text": Setting("", "the question"),
    "answers": Setting([""], "allowed answers; '' free text"),
    "max_new_tokens": Setting(48, "longest free text, tokens", 1, 4096),
}

SENSOR_SETTINGS: Mapping[str, Setting] = {
    "topic": Setting("", "of its messages; '' none, the sensor is not subscribed to"),
    "kind": Setting("", "of its messages", choices=tuple(KINDS)),
    "camera_info": Setting("", "topic of a camera's calibration; '' none"),
}


@dataclass(frozen=True)
class SensorTopic:
    """Where the frames of a sensor come from.

    Attributes:
        sensor: its name in the pack.
        topic: of its messages; empty: none.
        kind: of its messages, see `conversion.KINDS`.
        camera_info: topic of its calibration; empty: none.
    """

    sensor: str
    topic: str
    kind: str
    camera_info: str


def sensor_settings(sensor: str, modality: str, kind: object) -> Mapping[str, Setting]:
    """The parameters of a sensor, with the topics of Tailwire's bags as defaults.

    Args:
        sensor: its name in the pack.
        modality: of its encoder.
        kind: of its messages as far as it is given, for it decides the default topic.
    """
    if kind is None and modality not in DEFAULT_KIND:
        raise ConfigError(
            f"there is no message for the modality {modality}",
            field=f"sensor.{sensor}.kind",
            remedy="use a pack without this sensor, or hand its frames over in Python",
        )
    kind = DEFAULT_KIND[modality] if kind is None else str(kind)
    defaults = {
        "topic": DEFAULT_TOPIC.get(kind, "{}").format(sensor),
        "kind": kind,
        "camera_info": f"{sensor}/camera_info" if modality == "camera" else "",
    }
    return {
        short: Setting(defaults[short], one.about, choices=one.choices)
        for short, one in SENSOR_SETTINGS.items()
    }


def problem(name: str, setting: Setting, value: Any) -> str:
    """Why a value does not fit a parameter; empty where it does."""
    default = setting.default
    if isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, (int, float)):
        whole = not isinstance(default, float)
        fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        fits = fits and setting.low <= value <= setting.high
        kind = "whole number" if whole else "number"
        wanted = f"a {kind} from {setting.low:g} to {setting.high:g}"
    elif isinstance(default, str):
        fits = isinstance(value, str) and (not setting.choices or value in setting.choices)
        wanted = f"one of {', '.join(setting.choices)}" if setting.choices else "a text"
    else:
        fits = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
        wanted = "a list of texts"
    return "" if fits else f"parameter '{name}' is {value!r}, give {wanted}: {setting.about}"


def texts(values: Iterable[str]) -> tuple[str, ...]:
    """A list of texts; `['']` stands for the empty list, which parameter files cannot hold."""
    return tuple(value for value in values if value)


def runtime_config(values: Mapping[str, Any]) -> RuntimeConfig:
    """What to load.

    Raises:
        ConfigError: a value does not fit; names the parameter.
    """
    # An image that has built engines says so to nodes whose parameters do not.
    backend = values["backend"] or os.environ.get("TAILWIRE_BACKEND")
    engines = values["engines"] or os.environ.get("TAILWIRE_ENGINES")
    return _checked(
        {
            "precision": values["precision"],
            "tail_engines": _by_precision(texts(values["tail_engines"])),
            **({"backend": backend} if backend else {}),
            **({"engines": engines} if engines else {}),
            "threads": values["threads"],
            "max_age_ms": values["max_age_ms"],
            "policy": values["policy"],
            "budget": budget_from(values),
            **({"model": values["model"]} if values["model"] else {}),
            **({"pack": values["pack"]} if values["pack"] else {}),
            **({"tail_blocks": values["tail_blocks"]} if values["tail_blocks"] else {}),
            **({"sensors": texts(values["sensors"])} if texts(values["sensors"]) else {}),
        }
    )


def _by_precision(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        precision, is_pair, folder = pair.partition("=")
        if not is_pair or not folder:
            raise ConfigError(
                f"'{pair}' names no precision and folder",
                field="tail_engines",
                remedy="write e.g. int4=/exports/int4",
            )
        found[precision] = folder
    return found


def _checked(data: Mapping[str, Any]) -> RuntimeConfig:
    from pydantic import ValidationError

    try:
        return RuntimeConfig.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{first['msg']} (got {first['input']!r})", field=where, remedy="correct the parameter"
        ) from error


def budget_from(values: Mapping[str, Any]) -> Budget:
    """Limits of a frame.

    Raises:
        ConfigError: a limit is negative or no number.
    """
    try:
        return budget_of(
            values["budget.flops"],
            values["budget.memory_bytes"],
            values["budget.latency_ms"],
            values["budget.energy_mj"],
        )
    except ValueError as error:
        raise ConfigError(str(error), field="budget", remedy="give 0 for no limit") from error


def question_of(name: str, values: Mapping[str, Any]) -> Question:
    """A standing question from its parameters.

    Raises:
        ConfigError: its text is empty or its answers repeat.
    """
    try:
        return Question(
            values["text"],
            texts(values["answers"]) or None,
            max_new_tokens=values["max_new_tokens"],
        )
    except ConfigError as error:
        raise ConfigError(
            error.problem, field=f"question.{name}.{error.field}", remedy=error.remedy
        ) from error
