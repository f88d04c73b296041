"""What a scheduling benchmark has computed so far, in one file: tokens, contexts, replies.

All of it can be computed again; it is kept so that a run may be stopped and go on, and so that no
policy pays for what another one has asked before.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.answering import Reply
from ..runtime.errors import CacheError, ConfigError

_FILE = "schedule-world.sqlite"
_WRITES_TOGETHER = 200
_REMEDY = "name another folder with --out, or remove the file"
_TABLES = """
create table if not exists settings (value text);
create table if not exists tokens (key text primary key, rows integer, data blob);
create table if not exists contexts (key text primary key, condition text, unusable text);
create table if not exists replies (
    key text primary key, answer text, confidence real, passes integer, full integer, row integer
);
"""


class ScheduleStore:
    """Keys to what was computed; one process at a time."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin, or go on where an interrupted benchmark stopped.

        Args:
            folder: made if it is not there.
            settings: all that the values depend on and keys do not name; JSON can hold it.

        Raises:
            ConfigError: the file is of a benchmark with other settings.
            CacheError: it cannot be read or written.
        """
        self._path = folder / _FILE
        self._waiting = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self._path)
            self._base.executescript(_TABLES)
            known = self._base.execute("select value from settings").fetchone()
            text = json.dumps(settings, sort_keys=True)
            if known is None:
                self._base.execute("insert into settings values (?)", (text,))
                self._base.commit()
            elif known[0] != text:
                self._refuse(json.loads(known[0]), json.loads(text))
        except (OSError, sqlite3.Error, ValueError) as error:
            raise CacheError(
                f"the file cannot be used: {error}", field=str(self._path), remedy=_REMEDY
            ) from error

    def _refuse(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        name = next(key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key))
        raise ConfigError(
            f"the folder is of a benchmark with other settings: {name} was {found.get(name)!r} "
            f"and is {wanted.get(name)!r}",
            field=str(self._path.parent),
            remedy="use the same settings, or name another folder with --out",
        )

    def tokens(self, key: str) -> NDArray[np.float32] | None:
        """Tokens `[tokens, width]` of a frame."""
        row = self._find("select rows, data from tokens where key = ?", key)
        return None if row is None else np.frombuffer(row[1], np.float32).reshape(row[0], -1)

    def keep_tokens(self, key: str, tokens: NDArray[np.float32]) -> None:
        """Keep the tokens of a frame."""
        self._keep(
            "insert or replace into tokens values (?, ?, ?)", key, len(tokens), tokens.tobytes()
        )

    def context(self, key: str) -> tuple[str, frozenset[str]] | None:
        """The condition of a moment, and sensors whose newest frame is not worth encoding."""
        row = self._find("select condition, unusable from contexts where key = ?", key)
        return None if row is None else (row[0], frozenset(json.loads(row[1])))

    def keep_context(self, key: str, condition: str, unusable: Collection[str]) -> None:
        """Keep what `context` gives."""
        statement = "insert or replace into contexts values (?, ?, ?)"
        self._keep(statement, key, condition, json.dumps(sorted(unusable)))

    def reply(self, key: str) -> Reply | None:
        """The reply to a question."""
        row = self._find(
            "select answer, confidence, passes, full, row from replies where key = ?", key
        )
        return None if row is None else Reply(*row)

    def keep_reply(self, key: str, reply: Reply) -> None:
        """Keep the reply to a question."""
        self._keep(
            "insert or replace into replies values (?, ?, ?, ?, ?, ?)",
            key,
            reply.text,
            reply.confidence,
            reply.passes,
            reply.scored_full,
            reply.scored_rows,
        )

    def flush(self) -> None:
        """Have everything on the disk."""
        self._base.commit()
        self._waiting = 0

    def close(self) -> None:
        """Flush, and let go of the file."""
        self.flush()
        self._base.close()

    def _find(self, query: str, key: str) -> Any:
        return self._base.execute(query, (key,)).fetchone()

    def _keep(self, statement: str, *values: object) -> None:
        try:
            self._base.execute(statement, values)
            self._waiting += 1
            if self._waiting >= _WRITES_TOGETHER:
                self.flush()
        except sqlite3.Error as error:
            raise CacheError(
                f"the file cannot be written: {error}", field=str(self._path), remedy=_REMEDY
            ) from error
