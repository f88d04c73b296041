"""nuScenes tables in memory: read block by block, checked, and kept as columns.

A table of millions of records is held as one array or list per field instead of one dict per
record, and its links as row numbers. What the columns mean for a drive is the reader's matter.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...runtime.errors import DataError
from .schema import REPLAY_TABLES, TABLES, Field

_BLOCK_CHARS = 1 << 24
_UNIT_TOLERANCE = 1e-3
_UNPACK = "unpack the metadata archive of this version again"
_MEND = f"mend the record, or {_UNPACK}"
_DANGLING = -2
_NO_LINK = -1

Records = list[dict[str, Any]]


@dataclass(slots=True)
class Table:
    """One table as columns; which attribute holds a field follows from its kind.

    Attributes:
        name: e.g. `sample_data`.
        file: how messages name its file, e.g. `v1.0-mini/sample_data.json`.
        tokens: one a record.
        row_of: token to row.
        texts: `text` fields.
        numbers: `whole` int64 `[n]`, `flag` bool `[n]`, `vector` float64 `[n, 3]`,
            `quaternion` float64 `[n, 4]`.
        intrinsics: `intrinsic` fields: float64 `[3, 3]` or None.
        rows: `link` fields: int64 `[n]` row numbers, -1 where there is no link.
        row_lists: `links` fields: tuples of row numbers.
    """

    name: str
    file: str
    tokens: list[str] = field(default_factory=list)
    row_of: dict[str, int] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, NDArray[Any]] = field(default_factory=dict)
    intrinsics: dict[str, list[NDArray[np.float64] | None]] = field(default_factory=dict)
    rows: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    row_lists: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def fail(self, row: int, field_name: str, problem: str, remedy: str = _MEND) -> NoReturn:
        """Raise the `DataError` for one field of one record."""
        raise _record_error(self.file, self.tokens[row], field_name, problem, remedy)


class Tables:
    """The tables of one version folder, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Point at `folder`, e.g. `<dataroot>/v1.0-mini`; nothing is read yet."""
        self._folder = folder
        self._loaded: dict[str, Table] = {}

    def __getitem__(self, name: str) -> Table:
        return self._loaded[name]

    def load(self, names: Iterable[str]) -> None:
        """Read, check and link the named tables, those already read excepted.

        A link is followed into the tables of this call and of calls before it, so the caller
        loads together what links together.

        Raises:
            DataError: a replay table is missing or empty; a file is no valid JSON; a field is
                missing or of the wrong type; a token is doubled or leads nowhere.
        """
        # Every token stands in several places; one string object for all of them keeps the
        # tables of trainval within a robot's memory.
        pool: dict[Any, Any] = {}
        fresh = {name: self._read(name, pool) for name in names if name not in self._loaded}
        tables = self._loaded | {name: table for name, (table, _) in fresh.items()}
        for table, links in fresh.values():
            for field_name, spec in TABLES[table.name].items():
                if spec.kind == "link":
                    _follow(table, field_name, spec, links[field_name], tables)
                elif spec.kind == "links":
                    _follow_lists(table, field_name, spec, links[field_name], tables)
        self._loaded = tables

    def _read(self, name: str, pool: dict[Any, Any]) -> tuple[Table, dict[str, list[Any]]]:
        path = self._folder / f"{name}.json"
        table = Table(name, f"{self._folder.name}/{name}.json")
        specs = TABLES[name]
        columns: dict[str, list[Any]] = {field_name: [] for field_name in specs}
        if not path.is_file():
            if name in REPLAY_TABLES:
                raise DataError("the table is missing", field=str(path), remedy=_UNPACK)
        else:
            for records in _record_blocks(path, table.file):
                _add_block(table, columns, records, pool)
        if name in REPLAY_TABLES and not table.tokens:
            raise DataError("the table holds no record", field=str(path), remedy=_UNPACK)

        table.row_of = {token: row for row, token in enumerate(table.tokens)}
        if len(table.row_of) != len(table.tokens):
            seen: set[str] = set()
            for row, token in enumerate(table.tokens):
                if token in seen:
                    table.fail(row, "token", "two records have this token")
                seen.add(token)
        links: dict[str, list[Any]] = {}
        for field_name, spec in specs.items():
            column = columns[field_name]
            if spec.kind in ("link", "links"):
                links[field_name] = column
            elif spec.kind == "text":
                table.texts[field_name] = column
            elif spec.kind == "intrinsic":
                table.intrinsics[field_name] = column
            else:
                table.numbers[field_name] = np.concatenate(column) if column else np.empty(0)
        return table, links


def _record_error(file: str, token: object, name: str, problem: str, remedy: str) -> DataError:
    where = f"{file}, record {token}, field {name}"
    return DataError(problem, field=where, remedy=remedy)


def _record_blocks(path: Path, file: str) -> Iterator[Records]:
    """The records of a JSON file, some megabytes of text at a time.

    A block is cut after a closing brace. Where that brace does not end a record (it stands in a
    string, or the file is broken) the block is no valid JSON and grows until it is, or until
    the file ends and the error is the file's own.
    """
    opening, text, lines_done = "", "", 0
    try:
        with path.open(encoding="utf-8") as stream:
            while chunk := stream.read(_BLOCK_CHARS):
                text += chunk
                cut = text.rfind("}") + 1
                if not cut or (len(chunk) < _BLOCK_CHARS):
                    continue
                try:
                    block = json.loads(f"{opening}{text[:cut]}]")
                except json.JSONDecodeError:
                    continue
                yield _checked_block(block, opening, file)
                lines_done += text.count("\n", 0, cut)
                # What follows must be a comma or the closing bracket; the null stands for the
                # records before it, so the parser checks that too.
                opening, text = "[null", text[cut:]
        yield _checked_block(json.loads(opening + text), opening, file)
    except json.JSONDecodeError as error:
        raise DataError(
            f"the table is no valid JSON: {error.msg} in line {lines_done + error.lineno}",
            field=str(path),
            remedy=_UNPACK,
        ) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"the table cannot be read: {error}", field=str(path), remedy=_UNPACK
        ) from error


def _checked_block(block: object, opening: str, file: str) -> Records:
    if not isinstance(block, list):
        raise DataError("the table is no list of records", field=file, remedy=_UNPACK)
    records: list[Any] = block[1:] if opening else block
    if set(map(type, records)) - {dict}:
        wrong = next(record for record in records if type(record) is not dict)
        raise DataError(f"{_short(wrong)} stands where a record should", field=file, remedy=_UNPACK)
    return records


def _add_block(
    table: Table, columns: dict[str, list[Any]], records: Records, pool: dict[Any, Any]
) -> None:
    """Check the fields of some records and append them to the columns."""
    first_row = len(table.tokens)
    tokens = _column(table, records, "token", {str}, "text")
    if "" in tokens:
        raise DataError(
            f"record number {first_row + tokens.index('')} has an empty token",
            field=f"{table.file}, field token",
            remedy=_MEND,
        )
    table.tokens += [pool.setdefault(token, token) for token in tokens]
    for name, spec in TABLES[table.name].items():
        if spec.kind == "text":
            columns[name] += _column(table, records, name, {str}, "text")
        elif spec.kind == "flag":
            flags = _column(table, records, name, {bool}, "true or false")
            columns[name].append(np.array(flags, dtype=np.bool_))
        elif spec.kind == "whole":
            columns[name].append(_wholes(table, records, name, spec))
        elif spec.kind == "vector":
            columns[name].append(_vectors(table, records, name, 3))
        elif spec.kind == "quaternion":
            columns[name].append(_quaternions(table, records, name))
        elif spec.kind == "intrinsic":
            values = _column(table, records, name, {list}, "a list")
            columns[name] += [
                _intrinsic(table, name, record, value)
                for record, value in zip(records, values, strict=True)
            ]
        elif spec.kind == "link":
            values = _column(table, records, name, {str}, "a token")
            columns[name] += [pool.setdefault(value, value) for value in values]
        else:
            values = _column(table, records, name, {list}, "a list of tokens")
            if set(map(type, chain.from_iterable(values))) - {str}:
                _blame(
                    table,
                    records,
                    name,
                    "a list of tokens",
                    lambda v: all(type(t) is str for t in v),
                )
            columns[name] += [pool.setdefault(key, key) for key in map(tuple, values)]


def _column(table: Table, records: Records, name: str, types: set[type], wanted: str) -> list[Any]:
    try:
        column = [record[name] for record in records]
    except KeyError:
        row, record = next((r, rec) for r, rec in enumerate(records) if name not in rec)
        token = record.get("token", f"number {len(table.tokens) + row}")
        raise _record_error(table.file, token, name, "the field is missing", _MEND) from None
    if set(map(type, column)) - types:
        _blame(table, records, name, wanted, lambda value: type(value) in types)
    return column


def _blame(
    table: Table, records: Records, name: str, wanted: str, right: Callable[[Any], bool]
) -> NoReturn:
    """Raise for the first record whose value is not right; a column check found there is one."""
    record = next(record for record in records if not right(record[name]))
    problem = f"{_short(record[name])} stands where {wanted} should"
    raise _record_error(table.file, record.get("token", "?"), name, problem, _MEND)


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _wholes(table: Table, records: Records, name: str, spec: Field) -> NDArray[np.int64]:
    column = _column(table, records, name, {int}, "a whole number")
    low = -(2**63) if spec.minimum is None else spec.minimum
    if column and not (low <= min(column) and max(column) < 2**63):
        wanted = "a whole number of 64 bits" + (f" from {low}" if spec.minimum is not None else "")
        _blame(table, records, name, wanted, lambda value: low <= value < 2**63)
    return np.array(column, dtype=np.int64)


def _vectors(table: Table, records: Records, name: str, length: int) -> NDArray[np.float64]:
    column = _column(table, records, name, {list}, f"{length} numbers")

    def right(value: Sequence[object]) -> bool:
        return len(value) == length and all(_is_finite_number(number) for number in value)

    if set(map(len, column)) - {length} or set(map(type, chain.from_iterable(column))) - {
        int,
        float,
    }:
        _blame(table, records, name, f"{length} finite numbers", right)
    try:
        vectors = np.array(column, dtype=np.float64).reshape(-1, length)
    except OverflowError:
        _blame(table, records, name, f"{length} finite numbers", right)
    if not np.isfinite(vectors).all():
        _blame(table, records, name, f"{length} finite numbers", right)
    return vectors


def _is_finite_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max


def _quaternions(table: Table, records: Records, name: str) -> NDArray[np.float64]:
    quaternions = _vectors(table, records, name, 4)
    off = np.abs(np.linalg.norm(quaternions, axis=1) - 1) > _UNIT_TOLERANCE
    if off.any():
        row = int(np.flatnonzero(off)[0])
        length = np.linalg.norm(quaternions[row])
        problem = f"the quaternion's length is {length:.6g} and should be 1"
        raise _record_error(table.file, records[row]["token"], name, problem, _MEND)
    return quaternions


def _intrinsic(
    table: Table, name: str, record: dict[str, Any], value: list[Any]
) -> NDArray[np.float64] | None:
    if not value:
        return None
    is_square = len(value) == 3 and all(type(row) is list and len(row) == 3 for row in value)
    if not is_square or not all(_is_finite_number(number) for row in value for number in row):
        problem = f"{_short(value)} is no 3x3 matrix of finite numbers"
        raise _record_error(table.file, record["token"], name, problem, _MEND)
    matrix = np.array(value, dtype=np.float64)
    focal = matrix[0, 0], matrix[1, 1]
    last_row_is_unit = np.array_equal(matrix[2], [0, 0, 1])
    if min(focal) <= 0 or not last_row_is_unit or abs(np.linalg.det(matrix)) < 1e-9:
        problem = (
            f"{_short(value)} is no camera matrix: the focal lengths must be positive, the last "
            "row 0 0 1, and the matrix invertible"
        )
        raise _record_error(table.file, record["token"], name, problem, _MEND)
    matrix.flags.writeable = False
    return matrix


def _follow(
    table: Table, name: str, spec: Field, links: list[str], tables: dict[str, Table]
) -> None:
    """Turn a column of tokens into rows of the table they lead to."""
    target = tables.get(spec.table)
    if spec.table_may_be_absent and not target:
        table.rows[name] = np.full(len(links), _NO_LINK)
        return
    index = target.row_of if target else {}
    rows = np.fromiter(map(index.get, links, repeat(_DANGLING)), np.int64, len(links))
    for row in np.flatnonzero(rows == _DANGLING).tolist():
        if links[row] or not spec.may_be_empty:
            table.fail(row, name, f"the table {spec.table} has no record {links[row]!r}")
    rows[rows == _DANGLING] = _NO_LINK
    table.rows[name] = rows


def _follow_lists(
    table: Table,
    name: str,
    spec: Field,
    links: list[tuple[str, ...]],
    tables: dict[str, Table],
) -> None:
    target = tables.get(spec.table)
    if spec.table_may_be_absent and not target:
        table.row_lists[name] = [()] * len(links)
        return
    index = target.row_of if target else {}
    known: dict[tuple[str, ...], tuple[int, ...]] = {}
    for row, tokens in enumerate(links):
        if tokens in known:
            continue
        for token in tokens:
            if token not in index:
                table.fail(row, name, f"the table {spec.table} has no record {token!r}")
        known[tokens] = tuple(index[token] for token in tokens)
    table.row_lists[name] = [known[tokens] for tokens in links]
