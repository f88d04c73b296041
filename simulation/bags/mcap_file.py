"""MCAP read from its first record to its last, without the index at its end.

A file that was cut off, or never closed, is so read up to the cut. The format:
https://mcap.dev/spec. Order by time is the matter of whoever reads.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...runtime.errors import DataError
from .compression import MAX_BYTES, decompress
from .storage import MCAP_MAGIC, Channel, Damage, RawMessage, Wanted

_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
_FOOTER, _STATISTICS = 0x02, 0x0B
_HEAD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQI")
#: Opcode, length, two offsets, a checksum, and the magic bytes.
_FOOTER_BYTES = 9 + 8 + 8 + 4 + len(MCAP_MAGIC)
_MAX_TIME_NS = 2**63
#: Longer declarations are damage, not definitions of types.
_MAX_DECLARATION = 16 << 20


class McapFile:
    """One MCAP file."""

    def __init__(self, path: Path) -> None:
        """Remember where it is."""
        self._path = path
        self._channels: dict[Channel, None] = {}

    def channels(self) -> Iterator[Channel]:
        """Those declared up to where reading has come."""
        return iter(self._channels)

    def messages(self, wanted: Wanted, damage: Damage) -> Iterator[RawMessage]:
        """Its messages in the order of the file.

        Args:
            wanted: how much of each.
            damage: told where the file is broken; what can be read is read.

        Raises:
            DataError: the file cannot be read at all.
        """
        try:
            with self._path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                scan = _Scan(self._path.name, self._channels, wanted, damage)
                scan.read_summary(stream, size)
                stream.seek(len(MCAP_MAGIC))
                yield from scan.records(stream, size)
                scan.check_count()
                if not scan.finished:
                    damage.note(
                        "the file is cut off or was never closed; it is read up to there "
                        "(`mcap recover` or `ros2 bag reindex` make a whole one of it)",
                        self._path.name,
                    )
        except OSError as error:
            raise DataError(
                f"the file cannot be read: {error.strerror}",
                field=str(self._path),
                remedy="check the disk",
            ) from error


class _Scan:
    """One pass over a file; schemas and channels are those that were met so far."""

    def __init__(
        self, name: str, declared: dict[Channel, None], wanted: Wanted, damage: Damage
    ) -> None:
        self.finished = False
        self._num_messages = 0
        self._num_expected: int | None = None
        self._name, self._declared, self._wanted, self._damage = name, declared, wanted, damage
        self._schemas: dict[int, tuple[str, str]] = {}
        self._channels: dict[int, Channel] = {}

    def read_summary(self, stream: BinaryIO, size: int) -> None:
        """Take channels and the count of messages from the summary at the end, if there is one.

        Channels are also declared among the messages, but perhaps in a chunk that is lost.
        """
        stream.seek(max(0, size - _FOOTER_BYTES))
        footer = stream.read(_FOOTER_BYTES)
        if len(footer) < _FOOTER_BYTES or not footer.endswith(MCAP_MAGIC):
            return
        kind, _, begin = struct.unpack_from("<BQQ", footer)
        if kind != _FOOTER or not 0 < begin < size:
            return
        stream.seek(begin)
        while (head := stream.read(_HEAD.size)) and len(head) == _HEAD.size:
            kind, length = _HEAD.unpack(head)
            first = stream.tell()
            if kind == _FOOTER or first + length > size:
                return
            if kind == _STATISTICS and length >= 8:
                (self._num_expected,) = struct.unpack("<Q", stream.read(8))
            elif kind in (_SCHEMA, _CHANNEL):
                self._declaration(kind, stream, length, first)
            stream.seek(first + length)

    def check_count(self) -> None:
        """Note messages that the summary counts and that were not found."""
        expected, found = self._num_expected, self._num_messages
        if expected is not None and expected != found:
            self._damage.note(
                f"{found} messages are found, but the summary counts {expected}", self._name
            )

    def records(
        self, stream: BinaryIO, end: int, in_chunk: bool = False, whole: bool = False
    ) -> Iterator[RawMessage]:
        """Messages of the records from where the stream stands up to `end`.

        Args:
            stream: of the file or of a decompressed chunk.
            end: of the records.
            in_chunk: chunks do not nest, and the end of the data is not in one.
            whole: the end is none of a file that was cut off, so a record beyond it is broken.
        """
        while (head := stream.read(_HEAD.size)) and len(head) == _HEAD.size:
            kind, length = _HEAD.unpack(head)
            begin = stream.tell()
            if kind == _MESSAGE and begin + length <= end:
                message = self._message(stream, length, begin)
                if message is not None:
                    self._num_messages += 1
                    yield message
            elif kind == _CHUNK and not in_chunk:
                yield from self._chunk(stream, begin, length, end)
            elif begin + length > end:
                if whole:
                    self._note("a chunk is broken, the rest of it is lost", begin)
                return
            elif kind in (_SCHEMA, _CHANNEL):
                self._declaration(kind, stream, length, begin)
            elif kind in (_DATA_END, _FOOTER) and not in_chunk:
                self.finished = True
                return
            if begin + length >= end:
                # The end of a chunk, or of a file that was cut off.
                return
            stream.seek(begin + length)

    def _message(self, stream: BinaryIO, length: int, begin: int) -> RawMessage | None:
        if length < _MESSAGE_HEAD.size:
            self._note("a message record is too short", begin)
            return None
        number, _, log_time_ns, _ = _MESSAGE_HEAD.unpack(stream.read(_MESSAGE_HEAD.size))
        channel = self._channels.get(number)
        if channel is None:
            self._note("a message belongs to no channel", begin)
            return None
        if log_time_ns >= _MAX_TIME_NS:
            self._note("the log time of a message is out of range", begin)
            return None
        size = length - _MESSAGE_HEAD.size
        wanted = self._wanted(channel)
        data = stream.read(size if wanted is None else min(wanted, size))
        return RawMessage(channel, log_time_ns, data)

    def _chunk(self, stream: BinaryIO, begin: int, length: int, end: int) -> Iterator[RawMessage]:
        """Messages in a chunk, which may be cut off."""
        head = stream.read(_CHUNK_HEAD.size + 4)
        if len(head) < _CHUNK_HEAD.size + 4:
            return
        _, _, size, checksum = _CHUNK_HEAD.unpack_from(head)
        (name_length,) = struct.unpack_from("<I", head, _CHUNK_HEAD.size)
        if name_length > 64:
            self._note("a chunk is broken", begin)
            return
        name = stream.read(name_length).decode("utf-8", "replace")
        stored_head = stream.read(8)
        if len(stored_head) < 8:
            return
        (stored,) = struct.unpack("<Q", stored_head)
        first = stream.tell()
        if first + stored > begin + length:
            self._note("a chunk is broken", begin)
            return
        last = min(first + stored, end)
        whole = last == first + stored
        if not name and not checksum:
            # Nothing to decompress or check: only what is wanted is read from the disk.
            yield from self.records(stream, last, in_chunk=True, whole=whole)
            return
        if last - first > MAX_BYTES:
            self._note(f"a chunk is larger than {MAX_BYTES} bytes, its messages are lost", begin)
            return
        content = stream.read(last - first)
        if name:
            try:
                content = decompress(name, content, size)
            except ValueError as error:
                self._note(f"a chunk cannot be decompressed ({error}), it is lost", begin)
                return
        if whole and checksum and zlib.crc32(content) != checksum:
            self._note("a chunk fails its checksum, its messages are lost", begin)
            return
        chunk = io.BytesIO(content)
        yield from self.records(chunk, len(content), in_chunk=True, whole=whole)

    def _declaration(self, kind: int, stream: BinaryIO, length: int, begin: int) -> None:
        if length > _MAX_DECLARATION:
            self._note("a schema or channel is broken", begin)
            return
        fields = _Fields(stream.read(length))
        try:
            if kind == _SCHEMA:
                self._schema(fields)
            else:
                self._channel(fields)
        except (struct.error, ValueError):
            self._note("a schema or channel is broken", begin)

    def _schema(self, fields: _Fields) -> None:
        number, name = fields.number("<H"), fields.text()
        encoding, content = fields.text(), fields.blob()
        # Other encodings (protobuf, json) are not text; their channels are not CDR either.
        text = content.decode() if encoding in ("ros2msg", "ros2idl", "ros1msg") else ""
        self._schemas[number] = (name, text)

    def _channel(self, fields: _Fields) -> None:
        number, schema = fields.number("<H"), fields.number("<H")
        topic, encoding = fields.text(), fields.text()
        metadata = _Fields(fields.blob())
        values: dict[str, str] = {}
        while metadata.rest:
            key = metadata.text()
            values[key] = metadata.text()
        type_name, definition = self._schemas.get(schema, ("", ""))
        channel = Channel(
            topic,
            type_name,
            encoding,
            definition,
            values.get("offered_qos_profiles", ""),
            values.get("topic_type_hash", ""),
        )
        self._channels[number] = channel
        self._declared[channel] = None

    def _note(self, kind: str, begin: int) -> None:
        self._damage.note(kind, f"{self._name}, byte {begin}")


class _Fields:
    """The fields of a record, one after the other; ValueError or struct.error at its end."""

    def __init__(self, content: bytes) -> None:
        self.rest = content

    def number(self, layout: str) -> int:
        (value,) = struct.unpack_from(layout, self.rest)
        self.rest = self.rest[struct.calcsize(layout) :]
        return value

    def blob(self) -> bytes:
        size = self.number("<I")
        if size > len(self.rest):
            raise ValueError("the record is too short")
        content, self.rest = self.rest[:size], self.rest[size:]
        return content

    def text(self) -> str:
        return self.blob().decode()
