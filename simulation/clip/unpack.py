"""Turns the clip's archive into a dataroot; the archive is trusted no more than its hash says.

The core alone is enough. What is written is bounded before and while it is written.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

from ...runtime.errors import DataError
from ...runtime.files import inside, sha256_of, sync_folder
from .beams import decode_sweep
from .record import REMEDY, ClipRecord, clip_archive, read_record

#: Sweeps lie in the archive under the name of their file with this behind it.
BEAMS_SUFFIX = ".beams"

_MOST_FILES = 2000
_MOST_BYTES = 128 * 1024**2
_SUFFIXES = (".json", ".jpg", ".png", ".pcd.bin" + BEAMS_SUFFIX)


def unpack_clip(out: Path, archive: Path | None = None) -> ClipRecord:
    """Unpack an archive.

    Args:
        out: the dataroot to be; made here, must not exist. After an error what was written until
            then lies there and is the caller's to remove.
        archive: with its record beside it; None takes the one that ships with the project.

    Returns:
        Its record.

    Raises:
        DataError: the archive is missing, not the one of its record, cut off, larger than it may
            be, or has a file of a wrong name.
        OSError: `out` cannot be written.
    """
    archive = clip_archive() if archive is None else archive
    record = read_record(archive)
    _check_hash(archive, record)
    try:
        with zipfile.ZipFile(archive) as content:
            members = content.infolist()
            _check_sizes(archive, members, record)
            out.mkdir(parents=True)
            # The parts of a file that cannot be read are told from a disk that cannot be written.
            left = record.unpacked_bytes
            for member in members:
                data = _read(content, member, archive)
                name = member.filename
                if name.endswith(BEAMS_SUFFIX):
                    name = name.removesuffix(BEAMS_SUFFIX)
                    data = decode_sweep(data, f"{archive}: {name}").tobytes()
                left -= len(data)
                if left < 0:
                    raise _not_as_recorded(archive, "more bytes")
                _write(inside(out, name, error=DataError), data)
    except zipfile.BadZipFile as error:
        raise DataError(
            f"the archive is broken: {error}", field=str(archive), remedy=REMEDY
        ) from error
    if left:
        raise _not_as_recorded(archive, "fewer bytes")
    for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
        sync_folder(folder)
    return record


def _check_hash(archive: Path, record: ClipRecord) -> None:
    try:
        size = archive.stat().st_size
        found = sha256_of(archive) if size == record.size_bytes else None
    except OSError as error:
        raise DataError(
            f"the archive of the clip cannot be read: {error.strerror or error}",
            field=str(archive),
            remedy=REMEDY,
        ) from error
    if found is None:
        raise DataError(
            f"the archive has {size} bytes, its record says {record.size_bytes}",
            field=str(archive),
            remedy=REMEDY,
        )
    if found != record.sha256:
        raise DataError(
            f"sha256 is {found}, the record says {record.sha256}",
            field=str(archive),
            remedy=REMEDY,
        )


def _check_sizes(archive: Path, members: list[zipfile.ZipInfo], record: ClipRecord) -> None:
    packed = sum(member.file_size for member in members)
    if record.unpacked_bytes > _MOST_BYTES or packed > _MOST_BYTES:
        raise DataError(
            f"the clip would take {max(record.unpacked_bytes, packed)} bytes, "
            f"more than the {_MOST_BYTES} that it may",
            field=str(archive),
            remedy=REMEDY,
        )
    if len(members) != record.files or len(members) > _MOST_FILES:
        raise _not_as_recorded(archive, f"{len(members)} files")
    for member in members:
        name = member.filename
        if not name.endswith(_SUFFIXES) or "\\" in name:
            raise DataError(f"{name!r} is no file of a dataroot", field=str(archive), remedy=REMEDY)


def _read(content: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path) -> bytes:
    try:
        with content.open(member) as stream:
            # One byte more than announced, so that the checksum at the end is looked at too.
            data = stream.read(member.file_size + 1)
    except (zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{member.filename} cannot be read: {error}", field=str(archive), remedy=REMEDY
        ) from error
    if len(data) != member.file_size:
        raise _not_as_recorded(archive, f"{member.filename} of another size")
    return data


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _not_as_recorded(archive: Path, found: str) -> DataError:
    return DataError(
        f"the archive is not as its record says: it has {found}",
        field=str(archive),
        remedy=REMEDY,
    )
