"""The annotated boxes of a data set: five tables that only a test or a trainer needs.

They are read together when the first box is asked for. Boxes stay in the global frame.
"""

from __future__ import annotations

import numpy as np

from .records import Annotation
from .schema import LABEL_TABLES
from .tables import Table, Tables


class Annotations:
    """The annotations of all keyframes, grouped by keyframe."""

    def __init__(self, tables: Tables) -> None:
        """Read and check the annotation tables, those that exist.

        Args:
            tables: with the replay tables already loaded.

        Raises:
            DataError: a record is wrong or leads nowhere.
        """
        tables.load(LABEL_TABLES)
        self._box: Table = tables["sample_annotation"]
        self._instance, self._sample = tables["instance"], tables["sample"]
        self._categories = tables["category"].texts["name"]
        self._attributes = tables["attribute"].texts["name"]
        self._levels = tables["visibility"].texts["level"]
        sample_rows = self._box.rows["sample_token"]
        self._order = np.argsort(sample_rows, kind="stable")
        self._sorted_sample_rows = sample_rows[self._order]

    def of_sample(self, sample_row: int) -> tuple[Annotation, ...]:
        """The boxes of one keyframe, given by its row, in the order of the table."""
        first, last = np.searchsorted(self._sorted_sample_rows, [sample_row, sample_row + 1])
        return tuple(map(self._record, self._order[first:last].tolist()))

    def _record(self, row: int) -> Annotation:
        box = self._box
        instance_row = int(box.rows["instance_token"][row])
        category_row = int(self._instance.rows["category_token"][instance_row])
        visibility_row = int(box.rows["visibility_token"][row])
        return Annotation(
            token=box.tokens[row],
            sample_token=self._sample.tokens[int(box.rows["sample_token"][row])],
            instance_token=self._instance.tokens[instance_row],
            category=self._categories[category_row],
            attributes=tuple(self._attributes[a] for a in box.row_lists["attribute_tokens"][row]),
            translation=tuple(box.numbers["translation"][row].tolist()),
            size_wlh=tuple(box.numbers["size"][row].tolist()),
            rotation=tuple(box.numbers["rotation"][row].tolist()),
            num_lidar_pts=int(box.numbers["num_lidar_pts"][row]),
            num_radar_pts=int(box.numbers["num_radar_pts"][row]),
            visibility=self._levels[visibility_row] if visibility_row >= 0 else None,
        )
