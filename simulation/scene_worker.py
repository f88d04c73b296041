"""A process that makes scenes, one after another, as another process tells it to.

It reads a line of JSON for each scene and writes lines of JSON about how it goes; nothing else is
shared with the process that started it (`scene_pool.py`), so that a crash of a graphics driver
costs one scene and no more.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, TextIO

from ..runtime.errors import TailwireError
from .drive_parameters import DriveParameters
from .made_scene import make_scene


def main() -> None:
    """Serve until the input ends."""
    with _private_stdout() as answers:

        def tell(**message: Any) -> None:
            answers.write(json.dumps(message) + "\n")
            answers.flush()

        try:
            _serve(tell)
        except TailwireError as error:
            tell(
                error=type(error).__name__,
                problem=error.problem,
                field=error.field,
                remedy=error.remedy,
            )
        except BrokenPipeError:
            # Nobody is there any more who wants a scene.
            os.dup2(os.open(os.devnull, os.O_WRONLY), answers.fileno())


def peak_rss_bytes() -> int:
    """The most memory that this process has had: `VmHWM` of proc(5), else `ru_maxrss`.

    The second also counts what the process that forked this one had, so it is second choice.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _serve(tell: Any) -> None:
    task = json.loads(sys.stdin.readline() or "null")
    if task is None:
        return
    root, parameters = Path(task["root"]), DriveParameters.from_json(task["parameters"])
    for line in sys.stdin:
        index = json.loads(line)
        make_scene(root, parameters, index, lambda done: tell(keyframes=done))
        tell(done=index, peak_rss_bytes=peak_rss_bytes())


def _private_stdout() -> TextIO:
    """A stream to the real stdout; what libraries print there goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
