"""Drives made up here, written as nuScenes data sets: rendered cameras, ray-cast LiDAR, boxes.

Scenes are made by processes of their own into `<out>.partial`, each finished scene whole on the
disk; the same call goes on where an earlier one was cut off. At the end their tables are joined
and the folder takes its name.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..runtime.errors import ConfigError, DataError
from .drive_parameters import PARAMETERS_FILE, DriveParameters, RendererName, check_same
from .made_scene import make_scene
from .nuscenes.disk import cannot_write, sync_folder, write_synced
from .nuscenes.scene_writer import SCENE_TABLES_FOLDER
from .nuscenes.writer import check_version, name_dataset, write_dataset
from .scene_pool import SceneProgress, make_scenes
from .scene_worker import peak_rss_bytes
from .world.condition import ConditionName

PEAK_MEMORY_METHOD = "process peak RSS (VmHWM of /proc/self/status)"
MAX_WORKERS = 64


@dataclass(frozen=True)
class DriveProgress:
    """How far a drive is.

    Attributes:
        stage: `scenes`, `tables`, `questions`.
        scenes_done: finished, those of an earlier call too.
        scenes: of the whole drive.
        keyframes_done: those of an earlier call too.
        keyframes: of the whole drive.
        keyframes_per_s: of this call; 0 before the first.
    """

    stage: Literal["scenes", "tables", "questions"]
    scenes_done: int
    scenes: int
    keyframes_done: int
    keyframes: int
    keyframes_per_s: float


@dataclass(frozen=True)
class MadeDrive:
    """A finished drive.

    Attributes:
        out: its dataroot.
        scenes: it has.
        keyframes: it has.
        frames: sensor files, sweeps too.
        annotations: boxes.
        num_bytes: of its sensor files.
        questions: written with it.
        keyframes_made: by this call; the others were there from an earlier one.
        scene_seconds: wall time that this call took to make scenes.
        peak_rss_bytes: of this process.
        worker_peak_rss_bytes: of the largest worker; 0 without workers.
    """

    out: Path
    scenes: int
    keyframes: int
    frames: int
    annotations: int
    num_bytes: int
    questions: int
    keyframes_made: int
    scene_seconds: float
    peak_rss_bytes: int
    worker_peak_rss_bytes: int


def make_drive(
    out: Path,
    scenes: int,
    seconds: float,
    seed: int,
    conditions: Sequence[ConditionName],
    *,
    layouts: Path | None = None,
    image_width: int = 800,
    camera_hz: int = 12,
    lidar_hz: int = 20,
    renderer: RendererName = "auto",
    meshes: Path | None = None,
    workers: int = 2,
    version: str = "v1.0-trainval",
    questions: bool = True,
    on_progress: Callable[[DriveProgress], None] = lambda _: None,
) -> MadeDrive:
    """Make a drive, or go on with one that was cut off.

    Args:
        out: the dataroot to make; must not exist. Until all is done the drive is in
            `<out>.partial`.
        scenes: how many.
        seconds: length of each; two keyframes a second.
        seed: of everything; the same parameters give the same bytes.
        conditions: of light and weather; scene after scene takes the next, and begins again.
        layouts: file of real street layouts, taken in turn; None makes streets up.
        image_width: pixels; images are 16 : 9.
        camera_hz: 12, 6, 4 or 2.
        lidar_hz: 20, 10, 4 or 2.
        renderer: `gl`, `ray`, or `auto` for the first that works here.
        meshes: folder of glTF or OBJ meshes that stand in for our own.
        workers: processes that make scenes at once; 0 makes them in this process.
        version: name of the folder of tables.
        questions: also write questions with their answers.
        on_progress: told of every keyframe.

    Raises:
        ConfigError: a parameter makes no drive.
        EngineError: the renderer or the ray caster is not to be had here.
        DataError: `out` is there already, what is in `<out>.partial` was begun with other
            parameters, another process is at work there, or a worker died.
    """
    out = Path(out)
    parameters = DriveParameters(
        scenes,
        seconds,
        seed,
        tuple(conditions),
        image_width,
        camera_hz,
        lidar_hz,
        renderer,
        layouts,
        meshes,
        version,
    )
    parameters.check()
    check_version(version)
    if not 0 <= workers <= MAX_WORKERS:
        raise ConfigError(
            f"{workers} is out of range", field="workers", remedy=f"take 1 to {MAX_WORKERS}"
        )
    if out.exists():
        raise DataError(
            "this is there already", field=str(out), remedy="remove it, or write elsewhere"
        )
    partial = out.with_name(f"{out.name}.partial")
    with _begun(partial, parameters):
        tally = _Tally(parameters, partial, on_progress)
        began = time.perf_counter()
        _make_missing(partial, parameters, workers, tally)
        scene_seconds = time.perf_counter() - began

        tally.tell("tables")
        finished = [_tables_of(partial, parameters, index) for index in range(scenes)]
        keyframes, frames, annotations = (
            sum(_count_records(tables / f"{table}.json") for tables in finished)
            for table in ("sample", "sample_data", "sample_annotation")
        )
        write_dataset(partial, finished, version)
        asked = 0
        if questions:
            tally.tell("questions")
            asked = _write_questions(partial, seed)
        name_dataset(partial, out)
    return MadeDrive(
        out=out,
        scenes=scenes,
        keyframes=keyframes,
        frames=frames,
        annotations=annotations,
        num_bytes=sum(_num_bytes(out / folder) for folder in ("samples", "sweeps")),
        questions=asked,
        keyframes_made=tally.made,
        scene_seconds=scene_seconds,
        peak_rss_bytes=peak_rss_bytes(),
        worker_peak_rss_bytes=tally.worker_peak_rss_bytes,
    )


class _Tally:
    """Counts what is done and tells of it."""

    def __init__(
        self,
        parameters: DriveParameters,
        partial: Path,
        on_progress: Callable[[DriveProgress], None],
    ) -> None:
        self._parameters, self._on_progress = parameters, on_progress
        self._began = time.perf_counter()
        per_scene = parameters.keyframes_per_scene
        self.missing = [
            index
            for index in range(parameters.scenes)
            if not _tables_of(partial, parameters, index).is_dir()
        ]
        self._before = (parameters.scenes - len(self.missing)) * per_scene
        self._done_of: dict[int, int] = {}
        self._finished = parameters.scenes - len(self.missing)
        self.worker_peak_rss_bytes = 0

    @property
    def made(self) -> int:
        """Keyframes made by this call."""
        return sum(self._done_of.values())

    def count(self, progress: SceneProgress) -> None:
        """Take in what a worker told."""
        self._done_of[progress.index] = progress.keyframes
        self._finished += progress.finished
        self.worker_peak_rss_bytes = max(self.worker_peak_rss_bytes, progress.peak_rss_bytes)
        self.tell("scenes")

    def tell(self, stage: Literal["scenes", "tables", "questions"]) -> None:
        """Tell how far all is."""
        self._on_progress(
            DriveProgress(
                stage,
                self._finished,
                self._parameters.scenes,
                self._before + self.made,
                self._parameters.scenes * self._parameters.keyframes_per_scene,
                self.made / max(time.perf_counter() - self._began, 1e-9),
            )
        )


def _make_missing(partial: Path, parameters: DriveParameters, workers: int, tally: _Tally) -> None:
    if not tally.missing:
        return
    if workers:
        make_scenes(partial, parameters, tally.missing, workers, tally.count)
        return
    for index in tally.missing:
        done = 0

        def count(keyframes: int, index: int = index) -> None:
            nonlocal done
            done = keyframes
            tally.count(SceneProgress(index, keyframes, finished=False))

        make_scene(partial, parameters, index, count)
        tally.count(SceneProgress(index, done, finished=True))


@contextmanager
def _begun(partial: Path, parameters: DriveParameters) -> Iterator[None]:
    """The folder to write into, this process alone at work in it."""
    recorded = partial / PARAMETERS_FILE
    try:
        _record(partial, recorded, parameters)
    except OSError as error:
        raise cannot_write(error, partial) from error
    with recorded.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                "another process is at work here",
                field=str(partial),
                remedy="wait for it, or write elsewhere",
            ) from error
        check_same(recorded, parameters)
        try:
            yield
        finally:
            # Where no scene was finished there is nothing to go on from.
            if partial.is_dir() and not any((partial / SCENE_TABLES_FOLDER).glob("[!.]*")):
                shutil.rmtree(partial, ignore_errors=True)


def _record(partial: Path, recorded: Path, parameters: DriveParameters) -> None:
    """Write the parameters of a drive that is begun now."""
    partial.mkdir(parents=True, exist_ok=True)
    if recorded.exists():
        return
    if any(path.name != f".{PARAMETERS_FILE}.writing" for path in partial.iterdir()):
        raise DataError(
            "something else stands here",
            field=str(partial),
            remedy="remove it, or write elsewhere",
        )
    content = json.dumps(parameters.record(), indent=1) + "\n"
    write_synced(recorded, content.encode())
    sync_folder(partial)


def _tables_of(partial: Path, parameters: DriveParameters, index: int) -> Path:
    return partial / SCENE_TABLES_FOLDER / parameters.scene_name(index)


def _count_records(table: Path) -> int:
    with table.open(encoding="utf-8") as stream:
        return sum(line.startswith("{") for line in stream)


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_questions(dataroot: Path, seed: int) -> int:
    from .questions.files import write_questions

    return sum(write_questions(dataroot, seed=seed).splits.values())
