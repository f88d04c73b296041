"""The thirteen tables of nuScenes v1.0: their fields, kinds and links.

Only the fields that Tailwire reads are listed; a record may have more. Nothing is read or
written here. Source: the schema page of nuScenes, https://www.nuscenes.org/nuscenes#data-format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "whole", "flag", "vector", "quaternion", "intrinsic", "link", "links"]


@dataclass(frozen=True, slots=True)
class Field:
    """What one field of a table holds.

    Attributes:
        kind: `text` a string; `whole` an integer; `flag` a boolean; `vector` three finite
            numbers; `quaternion` four numbers w x y z of length 1; `intrinsic` an empty list or
            a 3x3 matrix; `link` a token of another table; `links` a list of such tokens.
        table: the table a link points into.
        may_be_empty: a link may be the empty string (the end of a chain).
        table_may_be_absent: a link is not followed where its table is absent or empty.
        minimum: the smallest value of a `whole` field; None where any is right.
    """

    kind: Kind
    table: str = ""
    may_be_empty: bool = False
    table_may_be_absent: bool = False
    minimum: int | None = None


_TEXT = Field("text")
_STAMP_US = Field("whole", minimum=0)


def _link(table: str) -> Field:
    return Field("link", table=table)


def _chain(table: str) -> Field:
    return Field("link", table=table, may_be_empty=True)


TABLES: dict[str, dict[str, Field]] = {
    "attribute": {"name": _TEXT},
    "calibrated_sensor": {
        "sensor_token": _link("sensor"),
        "translation": Field("vector"),
        "rotation": Field("quaternion"),
        "camera_intrinsic": Field("intrinsic"),
    },
    "category": {"name": _TEXT},
    "ego_pose": {
        "timestamp": _STAMP_US,
        "rotation": Field("quaternion"),
        "translation": Field("vector"),
    },
    "instance": {
        "category_token": _link("category"),
        "nbr_annotations": Field("whole"),
        "first_annotation_token": _link("sample_annotation"),
        "last_annotation_token": _link("sample_annotation"),
    },
    "log": {"logfile": _TEXT, "vehicle": _TEXT, "date_captured": _TEXT, "location": _TEXT},
    "map": {
        "log_tokens": Field("links", table="log", table_may_be_absent=True),
        "category": _TEXT,
        "filename": _TEXT,
    },
    "sample": {
        "timestamp": _STAMP_US,
        "prev": _chain("sample"),
        "next": _chain("sample"),
        "scene_token": _link("scene"),
    },
    "sample_annotation": {
        "sample_token": _link("sample"),
        "instance_token": _link("instance"),
        "visibility_token": Field(
            "link", table="visibility", may_be_empty=True, table_may_be_absent=True
        ),
        "attribute_tokens": Field("links", table="attribute"),
        "translation": Field("vector"),
        "size": Field("vector"),
        "rotation": Field("quaternion"),
        "prev": _chain("sample_annotation"),
        "next": _chain("sample_annotation"),
        "num_lidar_pts": Field("whole"),
        "num_radar_pts": Field("whole"),
    },
    "sample_data": {
        "sample_token": _link("sample"),
        "ego_pose_token": _link("ego_pose"),
        "calibrated_sensor_token": _link("calibrated_sensor"),
        "timestamp": _STAMP_US,
        "is_key_frame": Field("flag"),
        "height": Field("whole"),
        "width": Field("whole"),
        "filename": _TEXT,
        "prev": _chain("sample_data"),
        "next": _chain("sample_data"),
    },
    "scene": {
        "log_token": Field("link", table="log", table_may_be_absent=True),
        "nbr_samples": Field("whole"),
        "first_sample_token": _link("sample"),
        "last_sample_token": _link("sample"),
        "name": _TEXT,
        "description": _TEXT,
    },
    "sensor": {"channel": _TEXT, "modality": _TEXT},
    "visibility": {"level": _TEXT},
}

REPLAY_TABLES = ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose")
"""Without these there is nothing to replay: each must be there and hold a record."""

LABEL_TABLES = ("sample_annotation", "instance", "category", "attribute", "visibility")
"""Read when the first annotation is asked for; absent or empty in a test split."""
