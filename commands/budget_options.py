"""Options that say what frames may cost and what chooses their plans, in units as people write.

Light to import: argparse only.
"""

from __future__ import annotations

import math
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping

from ..runtime.errors import ConfigError

_AMOUNT = re.compile(r"\s*([-+]?(?:[0-9.]+(?:e[-+]?[0-9]+)?|nan|inf))\s*([a-z]*)\s*", re.IGNORECASE)
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_FLOPS = _COUNTS | {f"{unit}flop{end}": f for unit, f in _COUNTS.items() for end in ("", "s")}
_BYTES = {
    **{f"{unit}{end}": factor for unit, factor in _COUNTS.items() for end in ("", "b")},
    **{f"{unit}ib": 1024.0**power for power, unit in enumerate(("k", "m", "g", "t"), 1)},
}
#: Field of `Budget`, units, example.
_LIMITS: Mapping[str, tuple[str, Mapping[str, float], str]] = {
    "flops": ("flops", _FLOPS, "8G"),
    "latency": ("latency_ms", {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3}, "40ms"),
    "memory": ("memory_bytes", _BYTES, "500MB"),
    "energy": ("energy_mj", {"": 1.0, "mj": 1.0, "j": 1e3}, "300mJ"),
}


def add_budget_arguments(parser: ArgumentParser, *, policy: str = "fixed") -> None:
    """Options for what a frame may cost, in a group of their own.

    Args:
        parser: of the sub-command.
        policy: the default, for the help.
    """
    group = parser.add_argument_group("what a frame may cost")
    group.add_argument(
        "--policy",
        metavar="fixed|round_robin|greedy|optimal",
        help=f"what chooses encoders and depth of each frame ({policy})",
    )
    group.add_argument(
        "--precisions",
        metavar="LIST",
        help="of the language model, whose tails a policy may choose besides --precision, "
        "e.g. int8,int4; each is loaded whole",
    )
    for name, what in (
        ("flops", "operations of a frame, e.g. 8G"),
        ("latency", "milliseconds of a frame, e.g. 40; what would be late is cut short"),
        ("memory", "memory of the process, e.g. 500MB; encoders are unloaded to fit"),
        ("energy", "millijoules of a frame, where the machine measures them"),
    ):
        group.add_argument(f"--budget-{name}", metavar="LIMIT", help=what)


def read_budget(args: Namespace) -> dict[str, float] | None:
    """The limits that were given, by field of `Budget`; None without any.

    Raises:
        ConfigError: a limit is no amount above 0.
    """
    found: dict[str, float] = {}
    for name, (field, units, example) in _LIMITS.items():
        typed = getattr(args, f"budget_{name}", None)
        if typed is not None:
            amount = read_amount(typed, f"--budget-{name}", units, example)
            found[field] = round(amount) if field in ("flops", "memory_bytes") else amount
    return found or None


def read_amount(typed: str, option: str, units: Mapping[str, float], example: str) -> float:
    """A number above 0 with its unit.

    Args:
        typed: as typed.
        option: named in the error.
        units: factors by unit, in lower case; "" is none.
        example: named in the error.

    Raises:
        ConfigError: it is none.
    """
    match = _AMOUNT.fullmatch(typed)
    try:
        amount = float(match[1]) * units[match[2].lower()] if match else math.nan
    except (ValueError, KeyError):
        amount = math.nan
    if not (math.isfinite(amount) and amount > 0) or (amount < 1 and option == "--budget-flops"):
        raise ConfigError(
            f"'{typed}' is no limit", field=option, remedy=f"give an amount above 0, e.g. {example}"
        )
    return amount
