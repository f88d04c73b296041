"""The SQLite files (`.db3`) of rosbag2, read in the order they were written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ...runtime.errors import DataError
from .storage import Channel, Damage, RawMessage, Wanted

_CUT = (
    "the file is broken or cut off; it is read up to there (`ros2 bag reindex` or "
    "`sqlite3 FILE .recover` may save more)"
)


class SqliteFile:
    """One SQLite file of a bag."""

    def __init__(self, path: Path) -> None:
        """Remember where it is."""
        self._path = path
        self._channels: dict[int, Channel] = {}

    def channels(self) -> Iterator[Channel]:
        """Those of the file, once messages have been asked for."""
        return iter(self._channels.values())

    def messages(self, wanted: Wanted, damage: Damage) -> Iterator[RawMessage]:
        """Its messages in the order of the file.

        Args:
            wanted: how much of each.
            damage: told where the file is broken; what can be read is read.

        Raises:
            DataError: the file is no bag, or cannot be opened.
        """
        try:
            # mode=ro: a bag is never changed, not even by the journal of a recorder that died.
            address = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True)) as database:
                self._channels = _channels(database)
                yield from self._rows(database, wanted, damage)
        except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
            if not self._channels:
                raise DataError(
                    f"this is no whole bag: {error}",
                    field=str(self._path),
                    remedy="run: ros2 bag reindex, or record it again",
                ) from error
            damage.note(_CUT, self._path.name)

    def _rows(
        self, database: sqlite3.Connection, wanted: Wanted, damage: Damage
    ) -> Iterator[RawMessage]:
        # One row by one, each as far as it is wanted: what is wanted may change on the way.
        rows = database.cursor().execute("SELECT id, topic_id, timestamp FROM messages ORDER BY id")
        content = database.cursor()
        for row, topic, log_time_ns in rows:
            channel = self._channels.get(topic)
            if channel is None or not isinstance(log_time_ns, int) or log_time_ns < 0:
                damage.note("a message has no topic or no time", self._path.name)
                continue
            size = wanted(channel)
            data = b""
            if size != 0:
                column = "data" if size is None else f"substr(data, 1, {int(size)})"
                found = content.execute(f"SELECT {column} FROM messages WHERE id = ?", (row,))
                (data,) = found.fetchone() or (None,)
            if not isinstance(data, bytes):
                damage.note("a message is no bytes", self._path.name)
                continue
            yield RawMessage(channel, log_time_ns, data)


def _channels(database: sqlite3.Connection) -> dict[int, Channel]:
    columns = {row[1] for row in database.execute("PRAGMA table_info(topics)")}
    if not {"id", "name", "type", "serialization_format"} <= columns:
        raise sqlite3.DatabaseError("there is no table of topics in it")
    # Columns that came later: QoS with Eloquent, hashes with Jazzy.
    qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
    type_hash = "type_description_hash" if "type_description_hash" in columns else "''"
    definitions = _definitions(database)
    rows = database.execute(
        f"SELECT id, name, type, serialization_format, {qos}, {type_hash} FROM topics"
    )
    return {
        row[0]: Channel(
            topic=str(row[1]),
            type=str(row[2]),
            encoding=str(row[3]),
            definition=definitions.get(str(row[2]), ""),
            qos=str(row[4] or ""),
            type_hash=str(row[5] or ""),
        )
        for row in rows
        if isinstance(row[0], int)
    }


def _definitions(database: sqlite3.Connection) -> dict[str, str]:
    """Definition texts by type, which bags have since Iron."""
    columns = {row[1] for row in database.execute("PRAGMA table_info(message_definitions)")}
    if not {"topic_type", "encoded_message_definition"} <= columns:
        return {}
    rows: Any = database.execute(
        "SELECT topic_type, encoded_message_definition FROM message_definitions"
    )
    return {str(name): str(text or "") for name, text in rows}
