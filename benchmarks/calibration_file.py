"""The working file of a calibration: plans in its first line, counts of a keyframe in each other.

A run that was interrupted goes on from it, and scenes can be held out with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ..runtime.calibration_table import MeasuredPlan
from ..runtime.errors import ConfigError, DataError
from .calibration import KeyframeCounts


class WorkHeader(BaseModel):
    """What a working file belongs to.

    Attributes:
        pack: name and version of the pack.
        connection: sha256 of its connection's weights.
        model: name of the language model.
        exam: what is asked, in a hash.
        plans: that cells name by number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pack: str
    connection: str
    model: str
    exam: str
    plans: tuple[MeasuredPlan, ...]


def read_work(path: Path) -> tuple[WorkHeader, list[KeyframeCounts]]:
    """Header and keyframes; a last line without its end is left out.

    Raises:
        DataError: the file cannot be read or is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        header = WorkHeader.model_validate_json(lines[0] if lines else "")
        return header, [KeyframeCounts.model_validate_json(line) for line in lines[1:]]
    except (OSError, ValueError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise DataError(
            f"no working file of a calibration: {first}",
            field=str(path),
            remedy="name another file, or remove it",
        ) from error


class WorkFile:
    """Takes the counts of keyframes as they come; use it in a `with` block."""

    def __init__(self, path: Path, header: WorkHeader) -> None:
        """Begin the file, or go on with it.

        Raises:
            ConfigError: the file belongs to another measurement, or cannot be written.
            DataError: the file is something else.
        """
        self._path = path
        self.done: Sequence[KeyframeCounts] = ()
        begun = path.exists() and path.stat().st_size > 0
        if begun:
            found, self.done = read_work(path)
            if found != header:
                raise ConfigError(
                    "another pack, other plans or other questions were measured into this file",
                    field=str(path),
                    remedy="repeat the options of that run, or name another file with --work",
                )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("r+b" if begun else "wb")
            if begun:
                # Behind the last whole line: a kill may have left a part of one.
                self._file.truncate(path.read_bytes().rfind(b"\n") + 1)
                self._file.seek(0, os.SEEK_END)
            else:
                self._write(header.model_dump_json())
        except OSError as error:
            raise _not_writable(path, error) from error

    def __enter__(self) -> WorkFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, counts: KeyframeCounts) -> None:
        """Append a keyframe.

        Raises:
            ConfigError: the disk is full; what was there before stays.
        """
        try:
            self._write(json.dumps(counts.model_dump(mode="json"), separators=(",", ":")))
        except OSError as error:
            raise _not_writable(self._path, error) from error

    def _write(self, line: str) -> None:
        self._file.write(line.encode() + b"\n")
        self._file.flush()


def _not_writable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"the file cannot be written: {error.strerror or error}",
        field=str(path),
        remedy="name a file that can be written with --work",
    )
