"""What is known of the clip's archive before it is opened: hash, sizes, how it was made."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...runtime.errors import DataError

#: What to do about an archive that is not whole.
REMEDY = "install Tailwire again, or check the file out of git again"

_ARCHIVE = "clip.zip"


class ClipRecord(BaseModel):
    """The content of `clip.json`, which lies beside the archive.

    Attributes:
        sha256: of the archive.
        size_bytes: of the archive.
        files: in the unpacked dataroot.
        unpacked_bytes: of them all.
        made_with: the commands that made it, in their order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0)
    files: int = Field(gt=0)
    unpacked_bytes: int = Field(gt=0)
    made_with: tuple[str, ...]


def clip_archive() -> Path:
    """The archive that ships with the project."""
    return Path(__file__).with_name(_ARCHIVE)


def record_of(archive: Path) -> Path:
    """Where the record of an archive lies."""
    return archive.with_suffix(".json")


def read_record(archive: Path) -> ClipRecord:
    """Read the record of an archive.

    Raises:
        DataError: it is missing or broken.
    """
    path = record_of(archive)
    try:
        return ClipRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(
            f"the record of the clip cannot be read: {error.strerror or error}",
            field=str(path),
            remedy=REMEDY,
        ) from error
    except (ValidationError, ValueError, RecursionError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DataError(
            f"the record of the clip is broken: {problem}", field=str(path), remedy=REMEDY
        ) from error
