"""A peer in a process of its own, asked over standard input and output; see `worker_loop.py`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...runtime.errors import EngineError

_ENDS_WITHIN_S = 30


def worker_script(name: str) -> Path:
    """A worker of this folder."""
    return Path(__file__).with_name(name)


class PeerProcess:
    """A worker that has loaded its model."""

    def __init__(self, name: str, python: Path, script: Path, arguments: Sequence[str]) -> None:
        """Start it and wait until it is ready.

        Args:
            name: for messages.
            python: of its environment.
            script: of the worker; those of this folder are named by `worker_script`.
            arguments: of the worker.

        Raises:
            EngineError: it cannot load its model.
        """
        self.name = name
        try:
            self._process = subprocess.Popen(
                [str(python), str(script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except OSError as error:
            raise self._failed(str(error)) from error
        try:
            self.about = self._read()
        except EngineError:
            self.close()
            raise

    def ask(self, task: str, **values: Any) -> dict[str, Any]:
        """Have a task done.

        Raises:
            EngineError: the peer cannot do it, or has ended.
        """
        if self._process.stdin is None:
            raise self._failed("it has no input")
        try:
            self._process.stdin.write(json.dumps({"task": task, **values}) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._failed(f"it has ended: {error}") from error
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise self._failed(f"it ended with code {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise self._failed(str(reply["error"]))
        return reply

    def _failed(self, problem: str) -> EngineError:
        return EngineError(
            f"{self.name} fails: {problem}",
            field=self.name,
            remedy="leave it out with --peers, or install it anew with --install-peers",
        )

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(timeout=_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
