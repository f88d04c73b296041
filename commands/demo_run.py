"""One run of the demo: a loop of script, sensors, answers, results and display.

What happens to the sensors is in `demo_script.py`, what is drawn in `demo_view.py`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ..runtime.files import readable_bytes
from ..runtime.metrics import PEAK_MEMORY_METHOD, peak_memory_bytes
from ..runtime.runtime import Runtime
from ..simulation.questions.standing import STANDING_QUESTIONS
from ..simulation.questions.truth import GroundTruth
from .demo_record import DemoRecord, JudgedAnswer, SensorRecord, Tally
from .demo_script import Script, damaged
from .demo_view import DemoTitle, Display, save_picture
from .drives import Playback, perceiving
from .progress import process_age_s
from .results import Results


class Demo:
    """One run of the demo with everything loaded."""

    def __init__(self, runtime: Runtime, playback: Playback, results: Results, steps: int) -> None:
        """Put standing questions to the runtime: those of the pack, if it is trained for some.

        Args:
            runtime: with its sensors switched on that take part.
            playback: what they see.
            results: where answers go.
            steps: length of the demo.

        Raises:
            DataError: a table of annotations is wrong.
        """
        pack, manifest = runtime.pack, runtime.model.manifest
        self._runtime = runtime
        self._playback = playback
        self._results = results
        sensors = perceiving(runtime)
        self._script = Script(
            {name: pack.encoders[pack.sensor_encoders[name]].modality for name in sensors}, steps
        )
        self._title = DemoTitle(
            model=manifest.name,
            precision=manifest.precision,
            num_blocks=manifest.config.num_blocks,
            pack=f"{pack.name} {pack.version}",
            pack_trained=pack.trained,
            drive=playback.title,
            steps=steps,
        )
        # What an untrained pack answers means nothing: then at least it is shown what is right.
        own = [(one.text, one.answers) for one in pack.questions] if pack.trained else []
        questions = own or STANDING_QUESTIONS
        for text, allowed in questions:
            runtime.watch(text, allowed)
        self._truth = GroundTruth(playback.data, [text for text, _ in questions])
        self._record = DemoRecord(
            {name: SensorRecord() for name in sensors},
            [Tally(answer) for answer in self._truth.majority(playback.sample_tokens)],
        )

    def play(self, *, redraw: bool) -> None:
        """Take all steps and say where the answers are, also when the user has seen enough.

        Args:
            redraw: False prints lines even on a terminal.

        Raises:
            ConfigError: results cannot be written.
        """
        display = Display(self._title, self._script, self._record, redraw=redraw)
        try:
            with display:
                begun = time.monotonic()
                for step in range(self._title.steps):
                    self._take(step)
                    display.show()
                    if display.redraws:
                        # To be watched, so no faster than it was driven.
                        due = begun + (step + 1) * self._playback.gap_ns / 1e9
                        time.sleep(max(0.0, due - time.monotonic()))
        finally:
            self._print_summary()

    def save_picture(self, path: Path) -> None:
        """Save the table after the newest step as an SVG.

        Raises:
            ConfigError: the file cannot be written.
        """
        save_picture(path, self._title, self._script, self._record)

    def _take(self, step: int) -> None:
        phase = self._script.phases[self._script.place(step)]
        self._runtime.switch_sensors(phase.sensors)
        moment = self._playback.read(step, phase.sensors)
        if moment.begins:
            self._runtime.forget_frames()
        seen = moment.snapshot
        frames = [
            damaged(frame) if name == phase.broken else frame for name, frame in seen.frames.items()
        ]
        expected = self._truth.at(moment.sample_token)
        answers = [
            JudgedAnswer.of(
                answer.model_copy(update={"dropped": {**answer.dropped, **seen.dropped}}),
                moment.sample_token,
                right,
            )
            for answer, right in zip(self._runtime.step(frames), expected, strict=True)
        ]
        self._results.add(answers)
        self._record.add(
            phase.sensors, answers, self._runtime.late_frames, condition=moment.condition
        )
        if self._record.first_answer_s is None:
            self._record.first_answer_s = process_age_s()

    def _print_summary(self) -> None:
        record = self._record
        print(f"answers      {self._results.answers_file} ({self._results.written} lines)")
        print(f"settings     {self._results.config_file}")
        if record.first_answer_s is not None:
            self._print_accuracy()
            print(f"memory       {readable_bytes(peak_memory_bytes())}, {PEAK_MEMORY_METHOD}")
            print(f"speed        {record.median_ms:.0f} ms a frame (p50 of {record.steps})")
            print(f"start        first answer after {record.first_answer_s:.1f} s")
        sys.stdout.flush()

    def _print_accuracy(self) -> None:
        total = self._record.overall
        if not total.known:
            print("accuracy     unknown, no annotation says what is right")
            return
        print(
            f"accuracy     {total.right} of {total.known} right ({total.right / total.known:.0%}); "
            f"each question's most frequent answer alone: {total.blind / total.known:.0%}"
        )
