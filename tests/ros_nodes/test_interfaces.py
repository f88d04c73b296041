# pyright: reportMissingImports=false
"""The interfaces as the real generators make them, beside `rosbags` as an independent reader."""

from __future__ import annotations

import array
import json
import os
import random
import re
import sys
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailwire.simulation.bags.contract import ANSWER_DEFINITION, OBJECT_VELOCITIES_DEFINITION

SOURCE = Path(__file__).resolve().parents[2] / "ros_nodes" / "tailwire_msgs"
FILES = sorted(path for folder in ("msg", "srv", "action") for path in (SOURCE / folder).iterdir())
#: Parts of a file that `---` separates, as ROS names them.
PARTS = {
    ".msg": ("",),
    ".srv": ("_Request", "_Response"),
    ".action": ("_Goal", "_Result", "_Feedback"),
}
TYPES = [
    f"tailwire_msgs/{path.parent.name}/{path.stem}{part}"
    for path in FILES
    for part in PARTS[path.suffix]
]


@lru_cache(maxsize=1)
def definitions() -> dict[str, str]:
    """The text of each message, by type."""
    return {
        f"tailwire_msgs/{path.parent.name}/{path.stem}{part}": text
        for path in FILES
        for part, text in zip(
            PARTS[path.suffix], re.split(r"^---$", path.read_text(), flags=re.M), strict=True
        )
    }


@lru_cache(maxsize=1)
def independent_types() -> Any:
    """The same types as `rosbags` reads them from the files."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    types = get_typestore(Stores.ROS2_JAZZY)
    for name, text in definitions().items():
        # The generators give a message without fields one byte, as IDL wants.
        fields = text if re.search(r"^[a-z]", text, flags=re.M) else "uint8 nothing\n"
        read = get_types_from_msg(fields, name)
        types.register({key.replace("/srv/msg/", "/srv/"): value for key, value in read.items()})
    return types


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_field_is_documented(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ") or lines[0] == "---"
    for number, line in enumerate(lines):
        if not line.strip() or line.startswith(("#", "---", " ")) or line.startswith("std_msgs"):
            continue
        assert "#" in line, f"{path.name}:{number + 1}: {line}"


def test_bags_hold_the_same_messages() -> None:
    assert (SOURCE / "msg" / "Answer.msg").read_text() == ANSWER_DEFINITION
    assert (SOURCE / "msg" / "ObjectVelocities.msg").read_text() == OBJECT_VELOCITIES_DEFINITION


def test_all_files_are_generated() -> None:
    listed = re.findall(r'"((?:msg|srv|action)/\w+\.\w+)"', (SOURCE / "CMakeLists.txt").read_text())
    assert sorted(listed) == [f"{path.parent.name}/{path.name}" for path in FILES]


def generated_class(name: str) -> Any:
    """The class of a message, or of a part of a service or action, that rclpy uses."""
    package, kind, message = name.split("/")
    module = import_module(f"{package}.{kind}")
    whole, _, part = message.partition("_")
    return getattr(getattr(module, whole), part) if part else getattr(module, whole)


def filled(message: Any, rng: random.Random) -> Any:
    """A message with something else than the default in every field."""
    for name, kind in message.get_fields_and_field_types().items():
        setattr(message, name, value_of(kind, rng))
    return message


def value_of(kind: str, rng: random.Random) -> Any:
    inner = re.fullmatch(r"sequence<(.+)>", kind)
    if inner:
        values = [value_of(inner[1], rng) for _ in range(rng.randint(1, 3))]
        codes = {"float": "f", "double": "d"}
        return array.array(codes[inner[1]], values) if inner[1] in codes else values
    if kind == "boolean":
        return True
    if kind == "string":
        return f"ä{rng.random()}"
    if kind in ("float", "double"):
        return float(np.float32(rng.uniform(-1e6, 1e6)))
    if kind.startswith(("uint", "int")):
        return rng.randint(1, 2**31 - 1 if kind.endswith(("32", "64")) else 100)
    package, message = kind.split("/")
    return filled(getattr(import_module(f"{package}.msg"), message)(), rng)


def plain(value: Any) -> Any:
    """A message of either library as dictionaries and lists."""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: plain(getattr(value, name)) for name in value.get_fields_and_field_types()}
    if hasattr(value, "__msgtype__"):
        fields = (name for name in value.__dataclass_fields__ if not name.startswith("__"))
        return {name: plain(getattr(value, name)) for name in fields if name != "nothing"}
    if isinstance(value, (list, tuple, array.array, np.ndarray)):
        return [plain(one) for one in value]
    return value


@pytest.mark.parametrize("name", TYPES)
def test_messages_go_through_both_libraries(name: str, ros: None) -> None:
    from rclpy.serialization import deserialize_message, serialize_message

    message = filled(generated_class(name)(), random.Random(name))
    data = serialize_message(message)
    read = independent_types().deserialize_cdr(data, name)
    assert plain(read) == plain(message)
    back = deserialize_message(bytes(independent_types().serialize_cdr(read, name)), type(message))
    assert back == message


@pytest.mark.parametrize("path", [f for f in FILES if f.suffix == ".msg"], ids=lambda f: f.name)
def test_type_hashes_are_those_of_bags(path: Path, ros: None) -> None:
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":")), sys.prefix]
    shares = (Path(prefix) / "share" / "tailwire_msgs" / "msg" for prefix in prefixes)
    share = next(folder for folder in shares if folder.is_dir())
    described = json.loads((share / f"{path.stem}.json").read_text())
    hashes = {one["type_name"]: one["hash_string"] for one in described["type_hashes"]}
    name = f"tailwire_msgs/msg/{path.stem}"
    assert hashes[name] == independent_types().hash_rihs01(name)
