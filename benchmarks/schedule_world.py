"""Answers to every "what if" of a scheduler, each computed once.

A policy may have used any of a drive's frames for each sensor, at any depth. Encoders are
deterministic, so tokens are made once per frame; an answer then costs the connection and the tail
alone, and is remembered too. Questions do not see each other, so each is remembered by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..runtime.answering import AskedQuestion, Reply, reply_to_all
from ..runtime.asking import Preparer
from ..runtime.connections import SensorRows
from ..runtime.errors import SensorError
from ..runtime.frame_cost import FrameCost
from ..runtime.parts import RuntimeParts
from ..runtime.passes import split_passes
from ..runtime.questions import Question
from ..runtime.standpoint import Standpoint
from ..runtime.surroundings import Surroundings
from .schedule_drives import Moment, ScheduleDrive
from .schedule_store import ScheduleStore

Float = NDArray[np.float32]
#: A frame of a sensor, and the earlier frame that its encoder was shown beside it.
Look = tuple[int, int | None]
#: By sensor, whose tokens are used.
Looks = Mapping[str, Look]

_KEPT_TOKENS = 4096


def previous_frame(
    stamps_ns: Sequence[int], frame: int, encoded: Sequence[int], window_ms: tuple[int, int]
) -> int | None:
    """The earlier frame whose age suits an encoder best, as `Perception` chooses it.

    Args:
        stamps_ns: of all frames of the sensor.
        frame: that is encoded.
        encoded: frames that were encoded before, in that order.
        window_ms: least and largest age.

    Returns:
        One of `encoded`, None if none is of such an age.
    """
    least, most = window_ms
    fitting: list[tuple[float, int]] = []
    for one in encoded:
        age_ms = (stamps_ns[frame] - stamps_ns[one]) / 1e6
        if least <= age_ms <= most:
            fitting.append((abs(age_ms - (least + most) / 2), one))
    return min(fitting, key=lambda found: found[0])[1] if fitting else None


class ScheduleWorld:
    """One pack and language model in front of some drives."""

    def __init__(self, parts: RuntimeParts, depths: Sequence[int], store: ScheduleStore) -> None:
        """Nothing is computed yet.

        Args:
            parts: engines and weights; whoever opened them closes them.
            depths: tail depths that will be asked for.
            store: of this pack and language model.
        """
        self.parts = parts
        self.depths = tuple(depths)
        self.cost: FrameCost = parts.frame_cost()
        self._store = store
        self._preparer = Preparer(parts.model, parts.pack.prompt)
        self._kept_depths = (*depths, parts.connection.spec.tail_blocks)
        self._asked: dict[str, AskedQuestion] = {}
        self._lengths: dict[str, int] = {}
        self._tokens: dict[tuple[str, str, Look], Float] = {}
        self._rows: dict[tuple[str, str, Look, Standpoint | None], SensorRows] = {}
        self._replies: dict[str, Reply] = {}
        #: Frames encoded and questions answered by engines, not from memory.
        self.encoded, self.answered = 0, 0

    def length(self, question: Question) -> int:
        """Tokens of a question."""
        if question.text not in self._lengths:
            text = self.parts.pack.prompt.render(question.text)
            self._lengths[question.text] = len(self.parts.model.tokenizer.encode(text).ids)
        return self._lengths[question.text]

    def previous_of(
        self, drive: ScheduleDrive, sensor: str, frame: int, encoded: Sequence[int]
    ) -> int | None:
        """The earlier frame that the encoder is shown, as `Perception` chooses it.

        Args:
            drive: of the frames.
            sensor: whose.
            frame: that is encoded.
            encoded: frames of the sensor that were encoded before, in that order.
        """
        window = self.parts.perception.encoder_of(sensor)[1].spec.previous_ms
        stamps_ns = [file.stamp_ns for file in drive.frames[sensor]]
        return None if window is None else previous_frame(stamps_ns, frame, encoded, window)

    def tokens(self, drive: ScheduleDrive, sensor: str, look: Look) -> Float:
        """Tokens of a frame, float32 `[tokens, width]`.

        Raises:
            SensorError: the frame cannot be read or encoded.
        """
        key = (drive.name, sensor, look)
        if key not in self._tokens:
            name = "/".join(map(str, (drive.name, sensor, *look)))
            found = self._store.tokens(name)
            if found is None:
                files = drive.frames[sensor]
                frame = drive.data.read(files[look[0]])
                earlier = None if look[1] is None else drive.data.read(files[look[1]])
                found = self.parts.perception.encoder_of(sensor)[1].run(frame, earlier)
                self._store.keep_tokens(name, found)
                self.encoded += 1
            if len(self._tokens) >= _KEPT_TOKENS:
                self._tokens.clear()
                self._rows.clear()
            self._tokens[key] = found
        return self._tokens[key]

    def standpoint(self, drive: ScheduleDrive, moment: Moment) -> Standpoint:
        """Where the vehicle is, as a runtime knows it from the frames up to a moment."""
        newest = (drive.frames[sensor][place] for sensor, place in moment.newest.items())
        file = max(newest, key=lambda file: file.stamp_ns)
        return Standpoint(file.stamp_ns, drive.data.ego_pose(file))

    def is_carried(self, drive: ScheduleDrive, sensor: str, frame: int, here: Standpoint) -> bool:
        """Whether a runtime would carry the tokens of a frame forward."""
        file = drive.frames[sensor][frame]
        spec = self.parts.perception.encoder_of(sensor)[1].spec
        return here.carries(spec, file.stamp_ns, drive.data.geometry_of(file))

    def contexts(
        self, drive: ScheduleDrive, progress: Callable[[str], None] | None = None
    ) -> list[tuple[str, frozenset[str]]]:
        """What a runtime knows of each moment, from the frames up to it.

        Returns:
            The condition, and sensors whose newest frame is not worth encoding.
        """
        keys = [f"{drive.name}/{moment.stamp_ns}" for moment in drive.moments]
        kept = [self._store.context(key) for key in keys]
        found = [context for context in kept if context is not None]
        if len(found) == len(kept):
            return found
        if progress is not None:
            progress(f"looking at light and weather of {drive.name}")
        surroundings = Surroundings()
        found = [self._seen(drive, moment, surroundings) for moment in drive.moments]
        for key, context in zip(keys, found, strict=True):
            self._store.keep_context(key, *context)
        return found

    def _seen(
        self, drive: ScheduleDrive, moment: Moment, surroundings: Surroundings
    ) -> tuple[str, frozenset[str]]:
        frames = {}
        for sensor, place in moment.newest.items():
            try:
                frames[sensor] = drive.data.read(drive.frames[sensor][place])
            except SensorError:
                # As on the robot: what cannot be read tells nothing.
                continue
        unusable = surroundings.look(frames)
        return surroundings.context.condition, frozenset(unusable)

    def replies(
        self,
        drive: ScheduleDrive,
        questions: Sequence[Question],
        looks: Looks,
        depth: int,
        here: Standpoint,
    ) -> list[Reply]:
        """What the runtime answers with these tokens behind it.

        Args:
            drive: of the frames.
            questions: the questions.
            looks: the active sensors, in any order.
            depth: of the tail.
            here: where the vehicle was when it was asked.
        """
        # Prefixes are joined in the order of the pack.
        ordered = {s: looks[s] for s in self.parts.perception.sensors if s in looks}
        carried = {
            s: here for s, look in ordered.items() if self.is_carried(drive, s, look[0], here)
        }
        seen = f"{drive.name} {ordered} {depth}"
        if carried:
            seen += f" at {here.stamp_ns}"
        keys = [
            hashlib.sha256(f"{seen} {question.text} {question.answers}".encode()).hexdigest()
            for question in questions
        ]
        for key in keys:
            if key not in self._replies and (kept := self._store.reply(key)) is not None:
                self._replies[key] = kept
        lacking = {
            key: question
            for key, question in zip(keys, questions, strict=True)
            if key not in self._replies
        }
        if lacking:
            found = self._answer(drive, list(lacking.values()), ordered, depth, carried)
            for key, reply in zip(lacking, found, strict=True):
                self._replies[key] = reply
                self._store.keep_reply(key, reply)
        return [self._replies[key] for key in keys]

    def _answer(
        self,
        drive: ScheduleDrive,
        questions: Sequence[Question],
        looks: Looks,
        depth: int,
        carried: Mapping[str, Standpoint],
    ) -> list[Reply]:
        asked = [self._ask(question) for question in questions]
        connection, model = self.parts.connection, self.parts.model
        rows = [
            self._rows_of(drive, sensor, look, carried.get(sensor))
            for sensor, look in looks.items()
        ]
        replies: list[Reply] = []
        for part in split_passes([len(one.head.token_ids) for one in asked]):
            heads = [one.head for one in asked[part]]
            prefix = connection.connect(rows, heads, depth)
            result = model.tail(heads, prefix, depth, connection.lora(depth))
            replies += reply_to_all(model, result, asked[part])
        self.answered += len(asked)
        return replies

    def _rows_of(
        self, drive: ScheduleDrive, sensor: str, look: Look, carried_to: Standpoint | None
    ) -> SensorRows:
        key = (drive.name, sensor, look, carried_to)
        if key not in self._rows:
            name, _ = self.parts.perception.encoder_of(sensor)
            tokens = self.tokens(drive, sensor, look)
            if carried_to is not None:
                file = drive.frames[sensor][look[0]]
                geometry = drive.data.geometry_of(file)
                tokens = carried_to.carry(tokens, file.stamp_ns, geometry)
            self._rows[key] = self.parts.connection.prepare(sensor, name, tokens)
        return self._rows[key]

    def _ask(self, question: Question) -> AskedQuestion:
        if question.text not in self._asked:
            self._asked[question.text] = self._preparer.prepare(question, self._kept_depths)
        return self._asked[question.text]

    def forget_heads(self) -> None:
        """Let go of the heads of questions, which take megabytes each; behind each drive."""
        self._asked.clear()
