"""Makes scenes in several processes at once, and notices when one of them dies."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..runtime import errors
from ..runtime.errors import DataError, TailwireError
from .drive_parameters import DriveParameters

_MODULE = f"{__package__}.scene_worker"
_STOP_WAIT_S = 5.0
_AGAIN = "give the same command again: it goes on behind the scenes that are finished"


@dataclass(frozen=True)
class SceneProgress:
    """What one worker has done.

    Attributes:
        index: of its scene.
        keyframes: done of that scene.
        finished: the scene is on the disk.
        peak_rss_bytes: of the worker, known when a scene is finished.
    """

    index: int
    keyframes: int
    finished: bool
    peak_rss_bytes: int = 0


def make_scenes(
    root: Path,
    parameters: DriveParameters,
    indices: Sequence[int],
    workers: int,
    on_progress: Callable[[SceneProgress], None],
) -> None:
    """Make scenes below a data set's folder, as `made_scene.make_scene` does.

    Args:
        root: the data set's folder, while it is written.
        parameters: of the drive.
        indices: of the scenes to make.
        workers: processes at once; none are left when this returns or raises.
        on_progress: told of each keyframe and each finished scene, by the calling thread.

    Raises:
        TailwireError: what a worker met.
        DataError: a worker died.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in indices:
        todo.put(index)
    events: queue.SimpleQueue[SceneProgress | BaseException] = queue.SimpleQueue()
    size = min(workers, len(indices))
    crew = [_Worker(root, parameters, size) for _ in range(size)]
    threads = [
        threading.Thread(target=_keep_busy, args=(worker, todo, events), daemon=True)
        for worker in crew
    ]
    try:
        for worker in crew:
            worker.start()
        for thread in threads:
            thread.start()
        missing = len(indices)
        while missing:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            on_progress(event)
            missing -= event.finished
    finally:
        for worker in crew:
            worker.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        for worker in crew:
            worker.close()


def _keep_busy(
    worker: _Worker,
    todo: queue.SimpleQueue[int],
    events: queue.SimpleQueue[SceneProgress | BaseException],
) -> None:
    try:
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            for progress in worker.make(index):
                events.put(progress)
    # A thread has nobody above it: whatever it meets is told to the one who waits.
    except Exception as error:  # noqa: BLE001
        events.put(error)


class _Worker:
    """One process that makes scenes."""

    def __init__(self, root: Path, parameters: DriveParameters, crew_size: int) -> None:
        self._task = {"root": str(root.absolute()), "parameters": parameters.to_json()}
        self._parameters, self._crew_size = parameters, crew_size
        self._process: subprocess.Popen[str] | None = None
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            encoding="utf-8",
            env=_environment(self._crew_size),
            # Ctrl-C is for the parent, which then stops its workers in order.
            start_new_session=True,
        )
        with suppress(BrokenPipeError):
            self._tell(self._task)

    def make(self, index: int) -> Iterator[SceneProgress]:
        """Have a scene made; how it goes."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        keyframes = 0
        with suppress(BrokenPipeError):  # Its death is told below, with its reason.
            self._tell(index)
        for line in process.stdout:
            message: dict[str, Any] = json.loads(line)
            if "error" in message:
                raise _error(message)
            if "done" in message:
                yield SceneProgress(index, keyframes, True, message["peak_rss_bytes"])
                return
            keyframes = message["keyframes"]
            yield SceneProgress(index, keyframes, False)
        raise DataError(
            f"the process that made this scene {_ending(process.wait())}{self._last_words()}",
            field=self._parameters.scene_name(index),
            remedy=_AGAIN,
        )

    def stop(self) -> None:
        """End the process; what it was at is made again another time."""
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """Close what led to the process, once nobody reads from it any more."""
        self._complaints.close()
        process = self._process
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _tell(self, message: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return f"; its last words: {lines[-1]}" if lines else ""


def _environment(crew_size: int) -> dict[str, str]:
    """Of a worker: threads shared fairly, and the modules of this process found again."""
    threads = str(max(1, (os.cpu_count() or 1) // crew_size))
    paths = os.pathsep.join(path for path in sys.path if path)
    return {
        **os.environ,
        "LP_NUM_THREADS": threads,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": paths,
        # No module of the working directory may stand in for one of ours.
        "PYTHONSAFEPATH": "1",
    }


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    hint = ", as happens when memory runs out" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"


def _error(message: dict[str, Any]) -> TailwireError:
    kind = getattr(errors, message["error"], TailwireError)
    return kind(message["problem"], field=message["field"], remedy=message["remedy"])
