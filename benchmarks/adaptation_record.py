"""The folder of an adaptation benchmark: a finished run is a line of JSON and is not run again.

Weights of the day's training lie there too, as safetensors, since switching starts from them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ..runtime.errors import CacheError, ConfigError
from ..runtime.files import open_atomic, write_atomic

Row = dict[str, Any]
#: What tells one run from another.
KEYS = ("phase", "method", "condition", "change")


class BenchRecord:
    """Rows of finished runs.

    Attributes:
        rows: in the order in which they were finished.
        figure: where the picture goes.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin, or go on where an interrupted benchmark stopped.

        Args:
            folder: made if it is not there.
            settings: all that the rows depend on; JSON can hold it.

        Raises:
            ConfigError: the folder is of a benchmark with other settings.
            CacheError: it cannot be read or written.
        """
        self._folder, self._lines = folder, folder / "adaptation-runs.jsonl"
        self.figure = folder / "adaptation.png"
        self.rows: list[Row] = []
        known = folder / "adaptation-settings.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if known.is_file():
                self._compare(json.loads(known.read_text("utf-8")), settings)
                self._read()
            elif self._lines.exists():
                raise ConfigError(
                    "the runs in this folder have no settings",
                    field=str(folder),
                    remedy="name another folder with --out",
                )
        except (OSError, ValueError) as error:
            raise CacheError(
                f"the folder cannot be used: {error}",
                field=str(folder),
                remedy="name another folder with --out",
            ) from error
        write_atomic(known, json.dumps(settings, indent=1) + "\n")

    def find(self, **keys: str) -> Row | None:
        """A finished run."""
        wanted = {name: keys.get(name) for name in KEYS}
        for row in self.rows:
            if all(row.get(name) == value for name, value in wanted.items()):
                return row
        return None

    def add(self, row: Row) -> None:
        """Keep a finished run at once; other processes may do the same with theirs."""
        line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
        # In one write, at the end wherever that is by then.
        with self._lines.open("ab", buffering=0) as file:
            file.write(line if self._ends_whole() else b"\n" + line)
        self.rows.append(row)

    def _ends_whole(self) -> bool:
        """Whether the last line was written to its end before the machine went."""
        with self._lines.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return True
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def save_weights(self, method: str, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep what a method learned by day."""
        arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
        path = self._weights(method)
        path.parent.mkdir(exist_ok=True)
        with open_atomic(path) as file:
            file.write(save(arrays))

    def load_weights(self, method: str) -> dict[str, NDArray[np.float32]] | None:
        """What a method learned by day; None where it must be learned again.

        Raises:
            CacheError: the file is broken.
        """
        path = self._weights(method)
        if not path.is_file():
            return None
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise CacheError(
                f"the weights cannot be read: {error}",
                field=str(path),
                remedy="remove the file; they are then trained again",
            ) from error

    def _weights(self, method: str) -> Path:
        return self._folder / "weights" / f"{method}.safetensors"

    def _compare(self, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(wanted))
        for key in sorted(wanted):
            if wanted.get(key) != found.get(key):
                raise ConfigError(
                    f"the folder is of a benchmark with other settings: {key} was "
                    f"{found.get(key)!r} and is {wanted.get(key)!r}",
                    field=str(self._folder),
                    remedy="use the same settings, or name another folder with --out",
                )

    def _read(self) -> None:
        if not self._lines.is_file():
            return
        for line in self._lines.read_text("utf-8").splitlines():
            # A line that was being written when the machine went is no run.
            with contextlib.suppress(json.JSONDecodeError):
                self.rows.append(json.loads(line))
