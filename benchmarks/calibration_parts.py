"""What a calibration looks with: encoders whose tokens of the last moments are kept, and language
models that answer under any plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..runtime.answering import AskedQuestion, reply_to_all
from ..runtime.asking import Preparer
from ..runtime.calibration_table import MeasuredPlan
from ..runtime.connections import Connection, SensorRows
from ..runtime.encoders import Encoder
from ..runtime.language_model import LanguageModel
from ..runtime.metrics import StageClock
from ..runtime.model_config import Precision
from ..runtime.pack import PackManifest
from ..runtime.passes import split_passes
from ..runtime.perception import Perception, SensorTokens
from ..runtime.questions import Question
from ..runtime.sensor_buffer import SensorBuffer
from ..runtime.standpoint import Standpoint
from ..simulation.replay.asking import PlannedQuestion
from ..simulation.replay.examiner import HeadShelf

#: How far the age of tokens may be from the one that a plan names.
AGE_TOLERANCE_MS = 200.0


@dataclass(frozen=True)
class CalibrationParts:
    """What is measured.

    Attributes:
        pack: its manifest.
        encoders: by name; they belong to somebody else.
        connection: of the pack.
        models: the language model by precision.
        threads: for preparing frames.
    """

    pack: PackManifest
    encoders: Mapping[str, Encoder]
    connection: Connection
    models: Mapping[Precision, LanguageModel]
    threads: int = 1


@dataclass(frozen=True)
class _Seen:
    """Tokens of one sensor at one keyframe, and what the connection has made of them so far.

    Attributes:
        held: the tokens, with their frame.
        rows: by where they were carried to, None as they were.
    """

    held: SensorTokens
    rows: dict[Standpoint | None, SensorRows] = field(default_factory=dict)

    @property
    def stamp_ns(self) -> int:
        return self.held.frame.stamp_ns


class Eyes:
    """Encodes what sensors see at keyframes and keeps the tokens of the last ones."""

    def __init__(self, parts: CalibrationParts, sensors: Sequence[str], oldest_ms: int) -> None:
        pack = parts.pack
        self._parts = parts
        self._encoder_of = pack.sensor_encoders
        self._keep_ns = (oldest_ms + 2 * AGE_TOLERANCE_MS) * 1e6
        self._buffer = SensorBuffer(sensors)
        self._perception = Perception(
            parts.encoders, pack.sensor_encoders, parts.threads, pack.mounts
        )
        self._seen: dict[str, list[_Seen]] = {}
        self._now_ns = 0
        self._here: Standpoint | None = None
        self.push = self._buffer.push

    def look(self) -> None:
        """Encode the newest frames."""
        held = self._buffer.snapshot()
        new = [frame for frame in held.values() if self._perception.is_new(frame)]
        self._perception.encode(new, StageClock())
        self._now_ns = max((frame.stamp_ns for frame in held.values()), default=0)
        self._here = Standpoint.of(held.values())
        for frame in new:
            tokens = self._perception.tokens(frame.sensor)
            if tokens is None or tokens.frame is not frame:
                continue
            known = self._seen.setdefault(frame.sensor, [])
            known.append(_Seen(tokens))
            while self._now_ns - known[0].stamp_ns > self._keep_ns:
                del known[0]

    def rows(self, plan: MeasuredPlan) -> list[SensorRows] | None:
        """What a plan's sensors give to the prefix; None if one has nothing of this age."""
        found: list[SensorRows] = []
        for sensor, age_ms in zip(plan.sensors, plan.ages_ms, strict=True):
            known = self._seen.get(sensor)
            if not known:
                return None
            # What an answer that is given again rests on was as old then, and is not carried.
            age_ms += plan.held_ms
            # Cameras fire before the LiDAR: ages count from what is newest of each sensor.
            newest_ns = known[-1].stamp_ns
            if self._now_ns - newest_ns > AGE_TOLERANCE_MS * 1e6:
                return None
            wrong_ms = [abs((newest_ns - one.stamp_ns) / 1e6 - age_ms) for one in known]
            best = min(range(len(known)), key=wrong_ms.__getitem__)
            if wrong_ms[best] > AGE_TOLERANCE_MS:
                return None
            found.append(self._rows_of(known[best], None if plan.held_ms else self._here))
        return found

    def _rows_of(self, seen: _Seen, here: Standpoint | None) -> SensorRows:
        """Rows as a runtime would use them here, or as they were."""
        frame, tokens = seen.held.frame, seen.held.tokens
        name = self._encoder_of[frame.sensor]
        if here is None or not here.carries(
            self._parts.encoders[name].spec, frame.stamp_ns, frame.geometry
        ):
            here = None
        if here not in seen.rows:
            if here is not None and frame.geometry is not None:
                tokens = here.carry(tokens, frame.stamp_ns, frame.geometry)
            # Those of earlier moments are not asked for again.
            for moment in [one for one in seen.rows if one is not None]:
                del seen.rows[moment]
            seen.rows[here] = self._parts.connection.prepare(frame.sensor, name, tokens)
        return seen.rows[here]


class PlanAnswerer:
    """Answers the questions of a keyframe under any plan, with one language model."""

    def __init__(
        self,
        model: LanguageModel,
        parts: CalibrationParts,
        depths: Sequence[int],
        shelf: HeadShelf,
    ) -> None:
        self._model, self._connection, self._shelf = model, parts.connection, shelf
        self._preparer = Preparer(model, parts.pack.prompt)
        # Conditioned connections read the states at their deepest block, whatever the depth.
        self._depths = (*depths, parts.connection.spec.tail_blocks)
        self._held: dict[Question, AskedQuestion] = {}

    def answers(
        self, planned: Sequence[PlannedQuestion], rows: Sequence[SensorRows], depth: int
    ) -> dict[Question, str]:
        """The answer to each question, from the rows of some sensors."""
        asked = [self._asked(one.question) for one in planned]
        # Questions of like length share a pass with little padding between them.
        asked.sort(key=lambda one: len(one.head.token_ids))
        found: dict[Question, str] = {}
        for part in split_passes([len(one.head.token_ids) for one in asked]):
            heads = [one.head for one in asked[part]]
            prefix = self._connection.connect(rows, heads, depth)
            lora = self._connection.lora(depth)
            result = self._model.tail(heads, prefix, depth, lora)
            replies = reply_to_all(self._model, result, asked[part])
            texts = (reply.text for reply in replies)
            found.update(zip((one.question for one in asked[part]), texts, strict=True))
        return found

    def put_away(self) -> None:
        """The keyframe is done; heads of questions that come again stay on the shelf."""
        for question, asked in self._held.items():
            self._shelf.note_use(question)
            self._shelf.put(asked)
        self._held.clear()

    def _asked(self, question: Question) -> AskedQuestion:
        if question not in self._held:
            taken = self._shelf.take(question)
            self._held[question] = taken or self._preparer.prepare(question, self._depths)
        return self._held[question]
