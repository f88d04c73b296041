"""The clip that ships with the project: two short made scenes, by day and by night, in one archive.

`pack_clip` made it from a made drive, `unpack_clip` turns it into an ordinary dataroot again with
the core alone. Where the dataroot is kept is not known here.
"""

from .record import ClipRecord, clip_archive, read_record
from .unpack import unpack_clip

__all__ = ["ClipRecord", "clip_archive", "read_record", "unpack_clip"]
