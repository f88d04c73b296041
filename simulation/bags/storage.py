"""The files of a bag, whatever wrote it: which ones there are, and their messages undecoded.

Damage is counted and the rest is read; what the messages mean is not known here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol

import yaml

from ...runtime.errors import DataError

Wanted = Callable[["Channel"], "int | None"]
"""How many bytes of a message of a channel are needed: None all, 0 none but that it is there."""

MCAP_MAGIC = b"\x89MCAP0\r\n"
_SQLITE_MAGIC = b"SQLite format 3\0"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_METADATA = "metadata.yaml"
_METADATA_BYTES = 16 << 20
_REMEDY = "give the folder of a rosbag2 bag, or its .mcap or .db3 file"


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic with a type, as the bag declares it.

    Attributes:
        topic: its name.
        type: e.g. `sensor_msgs/msg/Image`.
        encoding: of the messages; only `cdr` is decoded.
        definition: text of the type, empty where the bag has none.
        qos: YAML of the offered profiles, perhaps empty.
        type_hash: RIHS01, perhaps empty.
    """

    topic: str
    type: str
    encoding: str = "cdr"
    definition: str = ""
    qos: str = ""
    type_hash: str = ""


@dataclass(frozen=True, slots=True)
class RawMessage:
    """One message.

    Attributes:
        channel: its topic.
        log_time_ns: when it was recorded.
        data: as many of its first bytes as were wanted.
    """

    channel: Channel
    log_time_ns: int
    data: bytes


class Damage:
    """What was wrong with the files: kinds of damage, how often, and where first."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def note(self, kind: str, where: str) -> None:
        """Count one."""
        self._counts[kind] += 1
        self._first.setdefault(kind, where)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line a kind."""
        return tuple(
            f"{self._first[kind]}: {kind}" + (f" ({count} times)" if count > 1 else "")
            for kind, count in self._counts.items()
        )


class StorageFile(Protocol):
    """One file with messages."""

    def channels(self) -> Iterator[Channel]:
        """Those declared up to where reading has come."""
        ...

    def messages(self, wanted: Wanted, damage: Damage) -> Iterator[RawMessage]:
        """Its messages in the order of the file; twice gives the same, damage included."""
        ...


class BagFiles:
    """The files of one bag, in order."""

    def __init__(
        self, path: Path, files: list[StorageFile], metadata: dict[str, Any], damage: Damage
    ) -> None:
        """Hold what `open_files` has found.

        Args:
            path: folder or file.
            files: one or more.
            metadata: of `metadata.yaml`, empty where there is none.
            damage: found with the names already.
        """
        self.path, self.metadata, self.damage = path, metadata, damage
        self._files = files
        self._each_compressed = metadata.get("compression_mode") == "message"

    def channels(self) -> tuple[Channel, ...]:
        """Those of the bag, once all messages have been gone through."""
        return tuple(dict.fromkeys(c for file in self._files for c in file.channels()))

    def messages(self, wanted: Wanted, damage: Damage | None = None) -> Iterator[RawMessage]:
        """All messages, file after file.

        Args:
            wanted: how much of each.
            damage: where it is told; None where it was told before.
        """
        damage = damage or Damage()
        for file in self._files:
            if self._each_compressed:
                yield from _decompressed(file, wanted, damage)
            else:
                yield from file.messages(wanted, damage)


def _decompressed(file: StorageFile, wanted: Wanted, damage: Damage) -> Iterator[RawMessage]:
    from .compression import decompress

    def all_or_none(channel: Channel) -> int | None:
        return 0 if wanted(channel) == 0 else None

    for message in file.messages(all_or_none, damage):
        size = wanted(message.channel)
        data = message.data
        if size != 0:
            try:
                data = decompress("zstd", data, None)[:size]
            except ValueError as error:
                damage.note(f"a message cannot be decompressed: {error}", message.channel.topic)
                # As an empty message it is still counted and dropped by whoever decodes it.
                data = b""
        yield RawMessage(message.channel, message.log_time_ns, data)


def is_bag_folder(path: Path) -> bool:
    """Whether a folder holds a bag itself."""
    return path.is_dir() and ((path / _METADATA).is_file() or bool(_found(path)))


def open_files(path: Path) -> BagFiles:
    """Find the files of a bag and check what they are; no message is read.

    Args:
        path: the folder of a rosbag2 bag, a `.mcap` or a `.db3` file.

    Raises:
        DataError: there is no bag, or none of its files can be one.
    """
    damage = Damage()
    if path.is_file():
        return BagFiles(path, [_open_file(path)], {}, damage)
    if not path.is_dir():
        raise DataError("there is no such file or folder", field=str(path), remedy=_REMEDY)
    metadata = read_metadata(path)
    names = _names(metadata, path)
    if not names:
        if metadata:
            damage.note(f"{_METADATA} names no file, so all bag files here are read", path.name)
        else:
            damage.note(f"there is no {_METADATA}, so all bag files here are read", path.name)
        names = [file.name for file in _found(path)]
    files: list[StorageFile] = []
    problems: list[DataError] = []
    for name in names:
        try:
            files.append(_open_file(path / name))
        except DataError as error:
            problems.append(error)
            damage.note(error.problem, name)
    if not files:
        if problems:
            raise problems[0]
        raise DataError("there is no bag in this folder", field=str(path), remedy=_REMEDY)
    return BagFiles(path, files, metadata, damage)


def read_metadata(folder: Path) -> dict[str, Any]:
    """What `metadata.yaml` says; empty where it is missing.

    Raises:
        DataError: it is there and broken.
    """
    path = folder / _METADATA
    if not path.is_file():
        return {}
    remedy = "remove it, then the bag files are read without it, or run: ros2 bag reindex"
    try:
        if path.stat().st_size > _METADATA_BYTES:
            raise DataError("this is no metadata of a bag", field=str(path), remedy=remedy)
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError("this is no YAML file", field=str(path), remedy=remedy) from error
    except OSError as error:
        raise DataError(
            f"the file cannot be read: {error.strerror}", field=str(path), remedy=remedy
        ) from error
    information = content.get("rosbag2_bagfile_information") if isinstance(content, dict) else None
    if not isinstance(information, dict):
        raise DataError(
            "there is no rosbag2_bagfile_information in it", field=str(path), remedy=remedy
        )
    return information


def _names(metadata: dict[str, Any], folder: Path) -> list[str]:
    names = metadata.get("relative_file_paths") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(
            "relative_file_paths is no list of names",
            field=str(folder / _METADATA),
            remedy="run: ros2 bag reindex",
        )
    for name in names:
        # Names of old bags begin with that of the folder; names that lead elsewhere are refused.
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts or "\0" in name:
            raise DataError(
                f"{name!r} is no path inside the bag",
                field=str(folder / _METADATA),
                remedy="run: ros2 bag reindex",
            )
    return [name if (folder / name).exists() else PurePath(name).name for name in names]


def _found(folder: Path) -> list[Path]:
    # `bag_10.mcap` comes after `bag_9.mcap`.
    def order(path: Path) -> list[tuple[int, str]]:
        return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", path.name)]

    kinds = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
    return sorted((path for path in folder.iterdir() if path.name.endswith(kinds)), key=order)


def _open_file(path: Path) -> StorageFile:
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise DataError(
            f"the file cannot be read: {error.strerror}", field=str(path), remedy=_REMEDY
        ) from error
    if start.startswith(MCAP_MAGIC):
        from .mcap_file import McapFile

        return McapFile(path)
    if start.startswith(_SQLITE_MAGIC):
        from .sqlite_file import SqliteFile

        return SqliteFile(path)
    problem, remedy = "this is neither an MCAP nor an SQLite bag", _REMEDY
    if not start:
        problem = "the file is empty"
    elif start.startswith(b"#ROSBAG"):
        problem = "this is a ROS 1 bag"
        remedy = "convert it: rosbags-convert --src FILE.bag --dst FOLDER"
    elif start.startswith(_ZSTD_MAGIC):
        problem = "the file is compressed as a whole"
        remedy = "decompress it with `zstd -d` and give the file that comes out"
    raise DataError(problem, field=str(path), remedy=remedy)
