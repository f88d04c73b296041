"""What a frame costs in all, put together from the formulas of its parts in `cost.py`."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .answering import Reply
from .cost import ConnectionCost, LanguageModelCost
from .passes import question_passes
from .plans import SensorAction


@dataclass(frozen=True)
class EncoderCost:
    """Cost and output of one encoder.

    Attributes:
        flops: of one frame.
        tokens: that it gives.
        width: of a token.
    """

    flops: int
    tokens: int
    width: int


@dataclass(frozen=True)
class LookFlops:
    """FLOPs of the stages of one frame.

    Attributes:
        encode: of the encoders that run.
        connect: of the connection, with what it prepares of new tokens.
        tail: of the tail with its LoRA, up to the questions' last tokens.
    """

    encode: int
    connect: int
    tail: int

    @property
    def total(self) -> int:
        return self.encode + self.connect + self.tail


@dataclass(frozen=True)
class TailLine:
    """FLOPs of the tail along the prefix rows that each question attends to.

    Scores and sums of attention are all that rows add, so this is a straight line.
    """

    fixed: int
    per_row: int

    def at(self, rows: int) -> int:
        return self.fixed + self.per_row * rows


@dataclass(frozen=True)
class FrameCost:
    """FLOPs of the frames of one runtime.

    Attributes:
        model: of the language model.
        connection: of the connection.
        encoders: of each sensor's encoder.
    """

    model: LanguageModelCost
    connection: ConnectionCost
    encoders: Mapping[str, EncoderCost]

    def look(
        self,
        actions: Mapping[str, SensorAction],
        connected: Container[str],
        boundary: int,
        lengths: Sequence[int],
        tail_blocks: int,
    ) -> int:
        """Encoders that run, the connection, and the tail up to the questions' last tokens.

        Args:
            actions: of the active sensors.
            connected: sensors whose reused tokens the connection has prepared already.
            boundary: first block of the tail.
            lengths: tokens of each question.
            tail_blocks: last blocks, which have the LoRA.
        """
        return self.stages(actions, connected, boundary, lengths, tail_blocks).total

    def stages(
        self,
        actions: Mapping[str, SensorAction],
        connected: Container[str],
        boundary: int,
        lengths: Sequence[int],
        tail_blocks: int,
    ) -> LookFlops:
        """As `look`, stage by stage."""
        encode = prepare = 0
        for sensor, action in actions.items():
            if action == "run":
                encode += self.encoders[sensor].flops
            if action == "run" or sensor not in connected:
                prepare += self.prepare(sensor)
        connect, tail = self.answering(self._tokens(actions), boundary, lengths, tail_blocks)
        return LookFlops(encode, prepare + connect, tail)

    def prepare(self, sensor: str) -> int:
        """What the connection makes of a sensor's new tokens, whatever is asked."""
        encoder = self.encoders[sensor]
        return self.connection.prepare(encoder.tokens, encoder.width)

    def answering(
        self, tokens: int, boundary: int, lengths: Sequence[int], tail_blocks: int
    ) -> tuple[int, int]:
        """What the connection and the tail do for the questions.

        Args:
            tokens: of all active sensors.
            boundary: first block of the tail.
            lengths: tokens of each question.
            tail_blocks: last blocks, which have the LoRA.
        """
        rows = self.connection.rows(tokens)
        line = self.tail_line(boundary, lengths, tail_blocks)
        return self.connect(tokens, lengths), line.at(rows)

    def connect(self, tokens: int, lengths: Sequence[int]) -> int:
        """What the connection does for the questions, with so many tokens of sensors."""
        passes = question_passes(lengths)
        return sum(self.connection.connect(tokens, lengths[part]) for part in passes)

    def tail_line(self, boundary: int, lengths: Sequence[int], tail_blocks: int) -> TailLine:
        """What the tail does for the questions, along the rows that each attends to.

        Arguments as those of `answering`.
        """
        fixed = per_row = 0
        for part in question_passes(lengths):
            batch = lengths[part]
            copies = self.connection.copies(len(batch))
            none, one = (self.model.tail(batch, boundary, rows, copies) for rows in (0, 1))
            fixed += none + self._lora(sum(batch), tail_blocks - self._kept(boundary, tail_blocks))
            per_row += one - none
        return TailLine(fixed, per_row)

    def head(self, tokens: int, boundary: int, tail_blocks: int) -> int:
        """What a question needs once: the head, and the LoRA where the tail begins."""
        head = self.model.head(tokens, boundary)
        return head + self._lora(tokens, self._kept(boundary, tail_blocks))

    def _lora(self, tokens: int, blocks: int) -> int:
        return self.model.lora(tokens, self.connection.spec.lora_rank, blocks)

    def _kept(self, boundary: int, tail_blocks: int) -> int:
        """Blocks whose projections of the question, with a LoRA too, are kept between frames."""
        return int(boundary == self.model.config.num_blocks - tail_blocks)

    def answers(
        self,
        sensors: Iterable[str],
        boundary: int,
        lengths: Sequence[int],
        replies: Sequence[Reply],
        tail_blocks: int,
    ) -> int:
        """What decoding added: scores, and passes of answers of several tokens.

        Args:
            sensors: the active ones.
            boundary: first block of the tail.
            lengths: tokens of each question.
            replies: to these questions.
            tail_blocks: last blocks, which have the LoRA.
        """
        tokens = self._tokens(sensors)
        total = 0
        for part in question_passes(lengths):
            batch = lengths[part]
            rows = self.connection.packed_rows(tokens, len(batch))
            total += self._in_step(batch, boundary, rows, replies[part], tail_blocks)
        for length, reply in zip(lengths, replies, strict=True):
            total += self.model.logits(reply.scored_full)
            total += self.model.logits(1, reply.scored_rows)
            if not reply.scored_full:
                continue
            for position in range(length, length + reply.passes):
                rows = self.connection.rows(tokens)
                total += self.model.decode_step(1, position + 1, boundary, rows)
                total += self._lora(1, tail_blocks)
        return total

    def _in_step(
        self,
        lengths: Sequence[int],
        boundary: int,
        rows: int,
        replies: Sequence[Reply],
        tail_blocks: int,
    ) -> int:
        """Passes of allowed answers, which all questions of a batch take together."""
        passes = [reply.passes for reply in replies if not reply.scored_full]
        keys, total = sum(lengths), 0
        for step in range(max(passes, default=0)):
            walking = sum(count > step for count in passes)
            keys += walking
            total += self.model.decode_step(walking, keys, boundary, rows)
            total += self._lora(walking, tail_blocks)
        return total

    def _tokens(self, sensors: Iterable[str]) -> int:
        return sum(self.encoders[sensor].tokens for sensor in sensors)
