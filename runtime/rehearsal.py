"""What the parts of a frame take, measured on made-up frames before the first real one comes.

Encoders run on zeros, tail and connection on a question of usual length behind full prefixes. What
depends on what is really seen and asked (preparing compressed pictures, long answers) is corrected
by the frames themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..kernels.direction_tokens import BANDS, MICROPHONES, RADAR_COLUMNS
from .answering import AskedQuestion, reply_to_all
from .connections import SensorRows
from .encoder_memory import EncoderMemory
from .encoder_specs import CameraInput, ObjectsInput, RadarInput, SoundInput
from .errors import SensorError
from .frame_times import FrameTimes
from .frames import SensorFrame
from .model_config import Precision
from .part_times import Trial, measure_parts
from .parts import RuntimeParts
from .plan_costs import CONNECT, DECODE, GIGA, PREPARE, encode_part, load_part, tail_part
from .questions import NUSCENES_QA_ANSWERS, Question

#: Of usual length, with answers of one token and of several.
QUESTIONS = (
    Question("What status is the truck to the back right of me?", NUSCENES_QA_ANSWERS),
    Question("Are there any cars to the front left of the bus?", ("yes", "no")),
    Question("How many moving pedestrians are there?", NUSCENES_QA_ANSWERS),
    Question("There is a bus; is it the same thing as the trailer?", ("yes", "no")),
)
_REPEATS, _LIMIT_MS = 3, 400.0
_POINTS, _SPREAD_M = 30_000, 30.0
_OBJECT_COLUMNS = 12


@dataclass(frozen=True)
class Rehearsal:
    """Measures the parts of a runtime.

    Attributes:
        parts: of the runtime.
        memory: of its encoders.
        depths: tail depths to try.
        asked: `QUESTIONS` with heads for them.
    """

    parts: RuntimeParts
    memory: EncoderMemory
    depths: Sequence[int]
    asked: Sequence[AskedQuestion]

    def measure(self, times: FrameTimes, clock: Callable[[], float]) -> None:
        """Fill `times` with what each part takes; a second or two.

        Args:
            times: gets the times.
            clock: seconds.
        """
        measure_parts(
            times.parts,
            map(self._watched, self._trials()),
            repeats=_REPEATS,
            limit_ms=_LIMIT_MS,
            clock=clock,
        )
        for name, engine in self.parts.perception.reloadable.items():
            times.parts.start(load_part(name), [(None, engine.last_load.ms)])
        times.measured()

    def _watched(self, trial: Trial) -> Trial:
        """The trial with what it takes in memory noted, where that is limited."""

        def run() -> None:
            with self.memory.frame():
                trial.run()

        return trial if self.memory.limit is None else replace(trial, run=run)

    def _trials(self) -> Iterator[Trial]:
        """Made one after the other, as an encoder may have to make room for the next."""
        yield from self._encoder_trials()
        yield from self._preparing_trials()
        rows = self._rows()
        for depth in self.depths:
            for precision in self.parts.precisions:
                yield from self._tail_trials(depth, precision, rows)

    def _encoder_trials(self) -> Iterator[Trial]:
        perception, limit = self.parts.perception, self.memory.limit
        sensors = Counter(perception.encoder_of(sensor)[0] for sensor in perception.sensors)
        for name, most in sensors.items():
            if limit is not None:
                self.memory.make_room({name})
                use = self.memory.use()
                if use is not None and use.with_encoders([name]) > limit:
                    continue
            if name in perception.reloadable:
                perception.reloadable[name].load()
            for frames in sorted({1, most}):
                yield Trial(
                    encode_part(name),
                    lambda n=name, f=frames: perception.rehearse(
                        n, f, most=None if limit is None else 1
                    ),
                    size=frames,
                )

    def _preparing_trials(self) -> Iterator[Trial]:
        frames = [self._made_up(sensor) for sensor in self.parts.perception.sensors]
        prepare = self.parts.perception.rehearse_preparing
        try:
            prepare(frames)
        except SensorError:
            # Frames must say where their sensor was, which only real ones do.
            return
        for count in sorted({1, len(frames)}):
            yield Trial(PREPARE, lambda n=count: prepare(frames[:n]), size=count)

    def _made_up(self, sensor: str) -> SensorFrame:
        spec = self.parts.perception.encoder_of(sensor)[1].spec
        if isinstance(spec.input, CameraInput):
            mount = self.parts.perception.mount(sensor)
            width, height = (
                (2 * spec.input.width, 2 * spec.input.height)
                if mount is None or mount.image_size is None
                else mount.image_size
            )
            payload = np.full((height, width, 3), 127, np.uint8)
        elif isinstance(spec.input, ObjectsInput):
            payload = np.zeros((0, _OBJECT_COLUMNS), np.float32)
        elif isinstance(spec.input, RadarInput):
            payload = np.zeros((0, len(RADAR_COLUMNS)), np.float32)
        elif isinstance(spec.input, SoundInput):
            payload = np.zeros((1, MICROPHONES, BANDS), np.float32)
        else:
            rng = np.random.default_rng(0)
            payload = rng.normal(0, _SPREAD_M, (_POINTS, 5)).astype(np.float32)
        return SensorFrame(sensor, spec.modality, 0, sensor, payload)

    def _rows(self) -> dict[str, SensorRows]:
        found: dict[str, SensorRows] = {}
        for sensor in self.parts.perception.sensors:
            name, encoder = self.parts.perception.encoder_of(sensor)
            # Rows of zeros would be no tokens.
            tokens = np.full((encoder.spec.tokens, encoder.spec.width), 1e-3, np.float32)
            found[sensor] = self.parts.connection.prepare(sensor, name, tokens)
        return found

    def _tail_trials(
        self, depth: int, precision: Precision, rows: dict[str, SensorRows]
    ) -> Iterator[Trial]:
        model, connection = self.parts.model_at(precision), self.parts.connection
        boundary, cost = model.boundary(depth), self.parts.frame_cost(precision)
        sensors = list(rows)
        # Few rows for one question, and all rows for all: the two ends of a line.
        for some, asked in ((sensors[:1], self.asked[:1]), (sensors, self.asked)):
            tokens = sum(cost.encoders[sensor].tokens for sensor in some)
            heads = [one.head for one in asked]
            given = [rows[sensor] for sensor in some]
            prefix = connection.connect(given, heads, depth)
            lora = connection.lora(depth)
            result = model.tail(heads, prefix, depth, lora)
            lengths = [len(head.token_ids) for head in heads]
            connect, tail = cost.answering(tokens, boundary, lengths, depth)
            yield Trial(
                CONNECT,
                lambda g=given, h=heads: connection.connect(g, h, depth),
                size=connect / GIGA,
            )
            yield Trial(
                tail_part(depth, precision),
                lambda h=heads, p=prefix, lo=lora: model.tail(h, p, depth, lo),
                size=tail / GIGA,
            )
            yield Trial(
                DECODE, lambda r=result, a=asked: reply_to_all(model, r, a), size=len(asked)
            )
