"""Which precision each part of a pack is exported at."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from ...runtime.errors import ConfigError
from .layers import PortablePrecision

EncoderPrecision = Literal["fp32", "fp16", "int8"]
ConnectionPrecision = Literal["fp32", "fp16"]

#: What a part takes that has no such small weights.
_ENCODERS: dict[str, EncoderPrecision] = {"int4": "int8"}
_CONNECTION: dict[str, ConnectionPrecision] = {"int8": "fp16", "int4": "fp16"}


class PartPrecisions(BaseModel):
    """Of encoders, connection, and the language model's head and tail (embed, logits with them)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoders: EncoderPrecision
    connection: ConnectionPrecision
    head: PortablePrecision
    tail: PortablePrecision


def read_precisions(text: str) -> PartPrecisions:
    """Read e.g. `fp16`, or `fp16,encoders=int8,head=int4`.

    The first word is for all parts; a part that has no such weights takes the next larger ones (no
    4-bit encoders, and connections, whose weights are inputs, are fp32 or fp16).

    Raises:
        ConfigError: a word is no precision, or names no part.
    """
    first, *rest = [word.strip() for word in text.split(",")]
    if first not in get_args(PortablePrecision):
        raise ConfigError(
            f"'{first}' is no precision",
            field="--precision",
            remedy=f"begin with one of {', '.join(get_args(PortablePrecision))}",
        )
    parts = {
        "encoders": _ENCODERS.get(first, first),
        "connection": _CONNECTION.get(first, first),
        "head": first,
        "tail": first,
    }
    allowed = {
        "encoders": get_args(EncoderPrecision),
        "connection": get_args(ConnectionPrecision),
        "head": get_args(PortablePrecision),
        "tail": get_args(PortablePrecision),
    }
    for word in rest:
        part, _, precision = word.partition("=")
        if precision not in allowed.get(part, ()):
            raise ConfigError(
                f"'{word}' gives no precision to a part",
                field="--precision",
                remedy="; ".join(f"{name}={'|'.join(kinds)}" for name, kinds in allowed.items()),
            )
        parts[part] = precision
    return PartPrecisions.model_validate(parts)
