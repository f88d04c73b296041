"""The results folder of a run: the configuration that was used, and answers as JSON lines.

Whatever ends a run, what was written before stays whole. Each step is one write of whole lines;
only a kill or a power cut in the middle of it leaves a last line without its end, which says that
it is not whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ..runtime.errors import CacheError, ConfigError
from ..runtime.files import write_atomic

if TYPE_CHECKING:
    from ..runtime.config import RuntimeConfig
    from ..runtime.plans import Answer


def new_folder_name(command: str) -> Path:
    """`results/<command>-<UTC time>` below the working directory."""
    return Path("results", f"{command}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}")


class Results:
    """A folder with `config.yaml` and `answers.jsonl`; use it in a `with` block."""

    def __init__(self, folder: Path, config: RuntimeConfig) -> None:
        """Make the folder and write the configuration.

        Raises:
            ConfigError: the folder cannot be written, has the answers of another run, or is one
                with a file that would be lost (a configuration) or confused (a bag).
        """
        self.folder = folder
        self.config_file = folder / "config.yaml"
        self.answers_file = folder / "answers.jsonl"
        self.written = 0
        if self.answers_file.exists() and self.answers_file.stat().st_size:
            raise ConfigError(
                "the answers of an earlier run are here",
                field=str(self.answers_file),
                remedy="name another folder with --out, or remove this file",
            )
        # A run that broke off leaves both files; a configuration alone is somebody's own.
        own = () if self.answers_file.exists() else (self.config_file,)
        for file in (*own, folder / "metadata.yaml"):
            if file.exists():
                raise ConfigError(
                    "this folder is no results folder, a file of something else is here",
                    field=str(file),
                    remedy="name another folder with --out",
                )
        try:
            text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
            write_atomic(self.config_file, text)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._answers = os.open(self.answers_file, flags, 0o666)
        except CacheError as error:
            raise _not_writable(folder, error.problem) from error
        except OSError as error:
            raise _not_writable(folder, error.strerror or str(error)) from error

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._answers)

    def add(self, answers: Sequence[Answer]) -> None:
        """Append answers, one line each.

        Raises:
            ConfigError: the disk is full; what was there before stays whole.
        """
        data = "".join(answer.model_dump_json() + "\n" for answer in answers).encode()
        end = os.fstat(self._answers).st_size
        try:
            # No buffer in between: an interrupted run leaves whole lines. A disk may be full
            # in the middle, though.
            left = memoryview(data)
            while left:
                left = left[os.write(self._answers, left) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._answers, end)
            raise _not_writable(self.folder, error.strerror or str(error)) from error
        self.written += len(answers)


def _not_writable(folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"the results cannot be written: {reason.removeprefix('cannot be written: ')}",
        field=str(folder),
        remedy="name a folder that can be written with --out DIR",
    )
