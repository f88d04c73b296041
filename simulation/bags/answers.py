"""Answers beside the sensors that they rest on: a bag or a scene copied, answers merged in."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...runtime.errors import DataError
from ..nuscenes.source import NuScenesDrive
from . import messages as ros
from .contract import ANSWER, ANSWER_TEXT_TOPIC, ANSWERS_TOPIC, BASE_FRAME, STRING
from .read import BagDrive, in_order
from .storage import Channel
from .typestore import message_class, serialize
from .write import BagMessage, BagSummary, SceneMessages, TopicSummary, folder_bytes, record
from .writer import BagWriter


@dataclass(frozen=True, slots=True)
class AnswerMessage:
    """One answer as `tailwire_msgs/msg/Answer` carries it.

    Attributes:
        stamp_ns: of the oldest sensor frame that was used.
        given_ns: when the answer was there, in the time of the drive; its log time.
        question: as asked.
        text: the answer.
        confidence: 0 to 1.
        expected: the right answer, empty where it is not known.
        question_id: of a standing question of a node, else 0.
        sensors: that were used.
        sensor_ages_ms: of their frames, in the same order.
        dropped: sensors that could not be used, each with its reason.
        held: whether it is the answer of an earlier frame.
        cut: why the frame was cut short, empty if it was not.
        late_ms: by how much the frame missed its deadline.
        flops: of the frame.
        latency_ms: from the newest frame to the answer.
        stages_ms: what each stage of the frame took.
        pack: name of the pack.
        pack_trained: False where its answers mean nothing.
        plan_json: the plan, as JSON.
    """

    stamp_ns: int
    given_ns: int
    question: str
    text: str
    confidence: float = 0.0
    expected: str = ""
    question_id: int = 0
    sensors: tuple[str, ...] = ()
    sensor_ages_ms: tuple[float, ...] = ()
    dropped: tuple[str, ...] = ()
    held: bool = False
    cut: str = ""
    late_ms: float = 0.0
    flops: float = 0.0
    latency_ms: float = 0.0
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    pack: str = ""
    pack_trained: bool = True
    plan_json: str = "{}"

    def to_cdr(self) -> bytes:
        """The message, serialised."""
        message = message_class(ANSWER)(
            header=ros.header(self.stamp_ns, BASE_FRAME),
            question_id=self.question_id,
            question=ros.encodable(self.question),
            text=ros.encodable(self.text),
            confidence=float(self.confidence),
            expected=ros.encodable(self.expected),
            sensors=list(self.sensors),
            sensor_ages_ms=np.array(self.sensor_ages_ms, np.float32),
            dropped=[ros.encodable(reason) for reason in self.dropped],
            held=self.held,
            cut=ros.encodable(self.cut),
            late_ms=float(self.late_ms),
            flops=float(self.flops),
            latency_ms=float(self.latency_ms),
            stages=list(self.stages_ms),
            stages_ms=np.array(list(self.stages_ms.values()), np.float32),
            pack=self.pack,
            pack_trained=self.pack_trained,
            plan_json=self.plan_json,
        )
        return serialize(message, ANSWER)

    def line(self) -> str:
        """For people: `Is there a car? yes (0.91), expected no, 31 ms, cam_front lidar_top`."""
        parts = [f"{self.question} {self.text} ({self.confidence:.2f})"]
        if self.expected:
            parts.append("right" if self.expected == self.text else f"expected {self.expected}")
        parts.append(f"{self.latency_ms:.0f} ms")
        parts.append(" ".join(self.sensors) or "no sensor")
        return ", ".join(parts)


def write_answers(
    source: BagDrive | NuScenesDrive,
    answers: Iterable[AnswerMessage],
    out: Path | str,
    *,
    compress: bool = False,
) -> BagSummary:
    """Write a bag with all messages of a drive, bit for bit, and answers among them.

    Answers that a bag already holds are left out, so that a bag may be answered again.

    Args:
        source: a bag or a scene.
        answers: in any order.
        out: folder to make; must not exist.
        compress: zstd in chunks.

    Returns:
        What was written; topics whose type is defined nowhere are in the notes.

    Raises:
        DataError: `out` cannot be written, or the source cannot be read.
    """
    given = sorted(answers, key=lambda answer: answer.given_ns)
    if isinstance(source, NuScenesDrive):
        messages = SceneMessages(source)
        merged = heapq.merge(messages, _messages(given), key=lambda message: message.log_time_ns)
        return record(Path(out), messages, merged, compress=compress)
    return _answer_bag(source, given, Path(out), compress)


def _messages(answers: Iterable[AnswerMessage]) -> Iterator[BagMessage]:
    for answer in answers:
        yield BagMessage(answer.given_ns, ANSWERS_TOPIC, ANSWER, answer.to_cdr())
        yield BagMessage(answer.given_ns, ANSWER_TEXT_TOPIC, STRING, ros.string(answer.line()))


def _answer_bag(
    source: BagDrive, answers: list[AnswerMessage], out: Path, compress: bool
) -> BagSummary:
    counts: Counter[tuple[str, str]] = Counter()
    times: list[int] = []
    left_out: dict[Channel, str] = {}
    custom = source.files.metadata.get("custom_data")
    custom_data = custom if isinstance(custom, dict) else {}
    with BagWriter(
        out, {str(key): str(value) for key, value in custom_data.items()}, compress=compress
    ) as writer:
        copied = _copied(source, writer, left_out)
        for log_time_ns, topic, type_name, data in heapq.merge(
            copied, _messages(answers), key=lambda message: message.log_time_ns
        ):
            if type_name == ANSWER or topic == ANSWER_TEXT_TOPIC:
                writer.add_topic(topic, type_name)
            writer.write(topic, type_name, log_time_ns, data)
            counts[topic, type_name] += 1
            times = [times[0] if times else log_time_ns, log_time_ns]
    return BagSummary(
        path=out,
        title=source.title,
        topics=tuple(TopicSummary(*key, count) for key, count in counts.items()),
        start_ns=times[0],
        duration_ns=times[1] - times[0],
        size_bytes=folder_bytes(out),
        dropped=(),
        num_frames=sum(
            count for (topic, _), count in counts.items() if topic in set(source.topics.values())
        ),
        notes=(
            *source.report.damage,
            *(f"{channel.topic}: left out, {reason}" for channel, reason in left_out.items()),
        ),
    )


def _copied(
    source: BagDrive, writer: BagWriter, left_out: dict[Channel, str]
) -> Iterator[BagMessage]:
    """The messages of a bag in log-time order, their topics declared on the way."""

    hashes = _recorded_hashes(source)

    def is_copied(channel: Channel) -> bool:
        if channel.topic in (ANSWERS_TOPIC, ANSWER_TEXT_TOPIC) or channel in left_out:
            return False
        try:
            writer.add_channel(
                replace(channel, type_hash=channel.type_hash or hashes.get(channel.topic, ""))
            )
        except DataError as error:
            left_out[channel] = error.problem
            return False
        return True

    times: list[tuple[int, int]] = []
    for place, message in enumerate(source.files.messages(lambda _: 0)):
        if is_copied(message.channel):
            times.append((message.log_time_ns, place))
    times.sort()
    places = np.array([place for _, place in times], dtype=np.int64)

    def wanted(channel: Channel) -> int | None:
        return None if is_copied(channel) else 0

    for message in in_order(source.files.messages(wanted), places):
        channel = message.channel
        yield BagMessage(message.log_time_ns, channel.topic, channel.type, message.data)


def _recorded_hashes(source: BagDrive) -> dict[str, str]:
    """Type hashes by topic that only `metadata.yaml` tells."""
    topics = source.files.metadata.get("topics_with_message_count")
    hashes: dict[str, str] = {}
    for topic in topics if isinstance(topics, list) else ():
        about = topic.get("topic_metadata") if isinstance(topic, dict) else None
        if isinstance(about, dict):
            hashes[str(about.get("name"))] = str(about.get("type_description_hash") or "")
    return hashes
