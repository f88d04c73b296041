"""Message types of ROS 2, from `rosbags`; nothing of ROS has to be installed."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...runtime.errors import DataError
from .contract import (
    ANSWER,
    ANSWER_DEFINITION,
    OBJECT_VELOCITIES,
    OBJECT_VELOCITIES_DEFINITION,
    VISION_DEFINITIONS,
)

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore


class UnknownLayoutError(DataError):
    """A bag defines a type otherwise than ROS 2 does, or not readably."""


def missing_rosbags(error: ImportError) -> DataError:
    """The error for a missing `rosbags` or one of its parts."""
    return DataError(
        f"bags need the package 'rosbags' ({error})",
        field="rosbags",
        remedy="run: pip install 'tailwire[sim]'",
    )


@lru_cache(maxsize=1)
def ros_types() -> Typestore:
    """The types of ROS 2 Jazzy, of vision_msgs and of `tailwire_msgs`; not to be added to.

    Those that bags are read with have had the same layout since Foxy, `vision_msgs` since Humble.

    Raises:
        DataError: `rosbags` is not installed.
    """
    try:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError as error:
        raise missing_rosbags(error) from error
    types = get_typestore(Stores.ROS2_JAZZY)
    own = {ANSWER: ANSWER_DEFINITION, OBJECT_VELOCITIES: OBJECT_VELOCITIES_DEFINITION}
    for name, definition in {**VISION_DEFINITIONS, **own}.items():
        types.register(get_types_from_msg(definition, name))
    return types


def message_class(name: str) -> Any:
    """The class of a message type, e.g. `std_msgs/msg/String`."""
    return ros_types().types[name]


def serialize(message: object, name: str) -> bytes:
    """A message as little-endian CDR."""
    return bytes(ros_types().serialize_cdr(message, name))


def deserialize(data: bytes, name: str) -> Any:
    """A message from CDR.

    Raises:
        ValueError: the bytes are no such message, or too few or too many.
    """
    from rosbags.serde import SerdeError

    # Older versions let through what their generated code runs into.
    errors = (SerdeError, struct.error, ValueError, IndexError, KeyError, TypeError)
    try:
        return ros_types().deserialize_cdr(data, name)
    except (*errors, AssertionError, MemoryError, OverflowError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{len(data)} bytes are no whole {name}: {reason}") from error


def check_definition(name: str, definition: str) -> None:
    """Compare the definition that a bag carries with the layout that is read.

    Args:
        name: the type.
        definition: text of a `.msg` file with those it uses; empty or IDL is not checked.

    Raises:
        UnknownLayoutError: the fields differ, or the text cannot be parsed.
    """
    if not definition.strip() or definition.startswith("=" * 80 + "\nIDL: "):
        return
    from rosbags.typesys import get_types_from_msg
    from rosbags.typesys.base import TypesysError

    try:
        carried = get_types_from_msg(definition, name)
    except (TypesysError, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise UnknownLayoutError(
            f"the definition of {name} cannot be parsed", remedy="record the bag again"
        ) from error
    known = ros_types().fielddefs
    for carried_name, (_, fields) in carried.items():
        if carried_name in known and _layout(fields) != _layout(known[carried_name][1]):
            raise UnknownLayoutError(
                f"{carried_name} is defined otherwise than in ROS 2",
                remedy="convert the bag, e.g. with rosbags-convert",
            )


def _layout(fields: Any) -> list[tuple[str, Any]]:
    return [(name, description) for name, description in fields]


@lru_cache(maxsize=64)
def type_hash(name: str, definition: str) -> str:
    """The RIHS01 hash of a type; that of zeros where it cannot be computed."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    from rosbags.typesys.base import TypesysError

    try:
        if not definition:
            return ros_types().hash_rihs01(name)
        types = get_typestore(Stores.EMPTY)
        types.register(get_types_from_msg(definition, name))
        return types.hash_rihs01(name)
    except (TypesysError, ValueError, KeyError, IndexError, TypeError, RecursionError):
        return "RIHS01_" + 64 * "0"
