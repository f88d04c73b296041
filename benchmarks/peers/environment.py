"""Environments of peers: each has its own, made on demand, so that none can break another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...runtime.errors import EngineError
from ...runtime.files import cache_dir


@dataclass(frozen=True)
class PeerEnvironment:
    """A virtual environment below the cache.

    Attributes:
        name: of its folder.
        requirements: for pip.
        module: whose import tells that it is complete.
    """

    name: str
    requirements: Sequence[str]
    module: str

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return cache_dir() / "peers" / self.name / "bin" / "python"

    def is_complete(self) -> bool:
        """Whether the peer can be imported there."""
        if not self.python.exists():
            return False
        words = [self.python, "-c", f"import {self.module}"]
        try:
            return not subprocess.run(words, capture_output=True, check=False).returncode
        except OSError:
            return False

    def install(self, progress: Callable[[str], None]) -> None:
        """Make the environment if it is not complete.

        Raises:
            EngineError: it cannot be made.
        """
        if self.is_complete():
            return
        folder = self.python.parent.parent
        progress(f"installing {', '.join(self.requirements)} into {folder} (minutes)")
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run(
                [self.python, "-m", "pip", "install", "--quiet", *self.requirements],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise EngineError(
                f"{self.name} cannot be installed: {error}",
                field=str(self.python),
                remedy=f"run '{self.python} -m pip install {' '.join(self.requirements)}' by hand "
                "and read its output",
            ) from error
