"""Tables as files: written one record a line, and the tables of many scenes joined line by line.

A table of any length is joined in the memory of its shared records alone: what several scenes have
in common (sensors, categories, logs) is written once, everything else is copied through.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from ...runtime.errors import DataError
from .disk import write_synced
from .schema import TABLES

Row = dict[str, Any]

#: Records that several scenes may hold; in all other tables every record belongs to one scene.
SHARED_TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "log",
    "map",
    "sensor",
    "visibility",
)
_FIRST_LINE, _BETWEEN, _LAST_LINE = "[\n", ",\n", "\n]\n"


def token_of(*names: str) -> str:
    """The token of a record: the md5 sum of what names it, so that it is the same every time."""
    return hashlib.md5("/".join(names).encode(), usedforsecurity=False).hexdigest()


def write_tables(folder: Path, tables: dict[str, dict[str, Row]]) -> None:
    """Write all thirteen tables, each synced.

    Args:
        folder: to write into.
        tables: table to token to record.

    Raises:
        DataError: a number is not finite.
    """
    for table in TABLES:
        rows = tables.get(table, {}).values()
        lines = _BETWEEN.join(_line(table, row) for row in rows)
        write_synced(folder / f"{table}.json", f"{_FIRST_LINE}{lines}{_LAST_LINE}".encode())


def join_tables(folders: Sequence[Path], out: Path, more: dict[str, list[Row]]) -> None:
    """Join tables that `write_tables` wrote into one table of each name, synced.

    Args:
        folders: of tables, in the order of their records.
        out: folder for the joined tables; must not exist.
        more: records to put behind those of the folders, by table.

    Raises:
        DataError: two folders hold the same record of a table that is not shared.
    """
    out.mkdir()
    for table in TABLES:
        with ExitStack() as stack:
            stream = stack.enter_context((out / f"{table}.json").open("w", encoding="utf-8"))
            _join(table, _lines(table, folders, more), stream)
            stream.flush()
            os.fsync(stream.fileno())


def _lines(table: str, folders: Sequence[Path], more: dict[str, list[Row]]) -> Iterable[str]:
    for folder in folders:
        with (folder / f"{table}.json").open(encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("{"):
                    yield line.rstrip(",\n")
    for row in more.get(table, []):
        yield _line(table, row)


def _join(table: str, lines: Iterable[str], stream: TextIO) -> None:
    shared = table in SHARED_TABLES
    seen: set[str] = set()
    # A scene's first record tells it apart: two folders of one scene would double it.
    stream.write(_FIRST_LINE)
    begun = False
    for line in lines:
        if shared or table == "scene":
            token = json.loads(line)["token"]
            if token in seen:
                if shared:
                    continue
                raise DataError(
                    "two scenes have the same name",
                    field=table,
                    remedy="give each scene its own name",
                )
            seen.add(token)
        stream.write((_BETWEEN if begun else "") + line)
        begun = True
    stream.write(_LAST_LINE)


def _line(table: str, row: Row) -> str:
    try:
        return json.dumps(row, allow_nan=False)
    except ValueError as error:
        raise DataError(
            "a number is not finite", field=table, remedy="check poses, sizes and calibration"
        ) from error
