"""`tailwire demo`: standing questions on a drive, while sensors are switched off and on.

What happens to the sensors is in `demo_script.py`, what is drawn in `demo_view.py`.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError
from .arguments import add_drive_arguments, add_runtime_arguments, read_arguments
from .command import Command
from .progress import ProgressLine, process_age_s

if TYPE_CHECKING:
    from ..runtime.runtime import Runtime
    from .drives import Playback
    from .results import Results

_STEPS = 25


def _add_arguments(parser: ArgumentParser) -> None:
    add_drive_arguments(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="results folder (results/demo-<UTC time>)"
    )
    parser.add_argument(
        "--steps", metavar="N", type=int, default=_STEPS, help=f"how many frames ({_STEPS})"
    )
    parser.add_argument("--no-live", action="store_true", help="one line per step, no live table")
    parser.add_argument(
        "--capture", metavar="FILE.svg", type=Path, help="save the last table as a picture"
    )
    add_runtime_arguments(parser)


def _run(args: Namespace) -> int:
    config = read_arguments(args)
    _check(args)
    # What is heavy is imported from here on, so that a typing error is answered at once.
    from .drives import Playback, open_drive
    from .results import Results, new_folder_name

    progress = ProgressLine()
    with progress:
        playback = Playback(open_drive(args.nuscenes, args.version, progress))
    # Made before models are, which may take minutes: a folder that cannot be written shows now.
    with Results(args.out or new_folder_name("demo"), config) as results:
        with progress:
            from ..assembly import open_runtime

            runtime = open_runtime(config, progress)
        with runtime:
            _Demo(runtime, playback, results, args).play()
    return 0


def _check(args: Namespace) -> None:
    if args.steps < 1:
        raise ConfigError(
            f"{args.steps} steps are no demo", field="--steps", remedy="give at least 1"
        )
    if args.capture is not None and not args.capture.absolute().parent.is_dir():
        raise ConfigError(
            "the folder of the picture does not exist",
            field=str(args.capture),
            remedy="make it, or name another file with --capture",
        )


class _Demo:
    """One run of the demo with everything loaded."""

    def __init__(
        self, runtime: Runtime, playback: Playback, results: Results, args: Namespace
    ) -> None:
        from .demo_record import DemoRecord, SensorRecord
        from .demo_script import Script
        from .demo_view import DemoTitle

        pack, manifest = runtime.pack, runtime.model.manifest
        self._runtime = runtime
        self._playback = playback
        self._results = results
        self._steps: int = args.steps
        self._capture: Path | None = args.capture
        self._may_redraw: bool = not args.no_live
        self._script = Script(
            {name: pack.encoders[pack.sensor_encoders[name]].modality for name in runtime.sensors},
            args.steps,
        )
        self._record = DemoRecord({name: SensorRecord() for name in runtime.sensors})
        self._title = DemoTitle(
            model=manifest.name,
            precision=manifest.precision,
            num_blocks=manifest.config.num_blocks,
            pack=f"{pack.name} {pack.version}",
            pack_trained=pack.trained,
            drive=playback.title,
            steps=args.steps,
        )

    def play(self) -> None:
        """Ask the standing questions, take all steps, and say where the answers are.

        Raises:
            ConfigError: the pack has no standing questions, or results cannot be written.
            KeyboardInterrupt: the user has seen enough; the summary was printed all the same.
        """
        from .demo_view import WIDTH, Display, save_picture

        questions = self._runtime.pack.questions
        if not questions:
            raise ConfigError(
                "the pack suggests no standing questions",
                field=f"{self._title.pack}: questions",
                remedy="add some to its pack.yaml",
            )
        for question in questions:
            self._runtime.watch(question.text, question.answers)
        display = Display(self._title, self._script, self._record, redraw=self._may_redraw)
        try:
            with display:
                begun = time.monotonic()
                for step in range(self._steps):
                    self._take(step)
                    display.show()
                    if display.redraws:
                        # To be watched, so no faster than it was driven.
                        due = begun + (step + 1) * self._playback.gap_ns / 1e9
                        time.sleep(max(0.0, due - time.monotonic()))
        finally:
            self._print_summary()
        if self._capture is not None:
            save_picture(self._capture, display.picture(WIDTH))

    def _take(self, step: int) -> None:
        from .demo_script import damaged

        phase = self._script.phases[self._script.place(step)]
        self._runtime.switch_sensors(phase.sensors)
        seen = self._playback.read(step, phase.sensors)
        frames = [
            damaged(frame) if name == phase.broken else frame for name, frame in seen.frames.items()
        ]
        answers = [
            answer.model_copy(update={"dropped": {**answer.dropped, **seen.dropped}})
            for answer in self._runtime.step(frames)
        ]
        self._results.add(answers)
        self._record.add(phase.sensors, answers, self._runtime.late_frames)
        if self._record.first_answer_s is None:
            self._record.first_answer_s = process_age_s()

    def _print_summary(self) -> None:
        from ..runtime.files import readable_bytes
        from ..runtime.metrics import PEAK_MEMORY_METHOD, peak_memory_bytes

        record = self._record
        print(f"answers      {self._results.answers_file} ({self._results.written} lines)")
        print(f"settings     {self._results.config_file}")
        if record.first_answer_s is not None:
            print(f"memory       {readable_bytes(peak_memory_bytes())}, {PEAK_MEMORY_METHOD}")
            print(f"speed        {record.median_ms:.0f} ms a frame (p50 of {record.steps})")
            print(f"start        first answer after {record.first_answer_s:.1f} s")
        sys.stdout.flush()


COMMAND = Command(
    "demo", "answer standing questions on a drive while sensors come and go", _add_arguments, _run
)
