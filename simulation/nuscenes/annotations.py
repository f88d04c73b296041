"""The annotated boxes of a data set: five tables that only a test or a trainer needs.

They are read together when the first box is asked for. Boxes stay in the global frame.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .records import Annotation
from .schema import LABEL_TABLES
from .tables import Table, Tables

#: A box more than this away in time tells nothing of the speed; the devkit's `box_velocity`.
_MAX_STEP_US = 1_500_000


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
        return tuple(map(self._record, self._rows(sample_row).tolist()))

    def __len__(self) -> int:
        return len(self._order)

    def velocities_of_sample(self, sample_row: int) -> NDArray[np.float64]:
        """Velocities of the boxes of one keyframe, `[n, 3]`, m/s, global frame; NaN if unknown."""
        return self._velocities[self._rows(sample_row)]

    @cached_property
    def _velocities(self) -> NDArray[np.float64]:
        """Of all boxes: from the box before to the box behind of the same instance."""
        instances = self._box.rows["instance_token"]
        stamps = self._sample.numbers["timestamp"][self._box.rows["sample_token"]]
        order = np.lexsort((stamps, instances))
        stamps, places = stamps[order], self._box.numbers["translation"][order]
        same = instances[order][1:] == instances[order][:-1]
        before, behind = np.append(False, same), np.append(same, False)
        rows = np.arange(len(order))
        first, last = rows - before, rows + behind
        took_us = stamps[last] - stamps[first]
        steps = before.astype(np.int64) + behind
        known = (took_us > 0) & (took_us <= steps * _MAX_STEP_US)
        moved = places[last] - places[first]
        found = np.full((len(order), 3), np.nan)
        found[order[known]] = moved[known] / (took_us[known, None] * 1e-6)
        return found

    def _rows(self, sample_row: int) -> NDArray[np.intp]:
        first, last = np.searchsorted(self._sorted_sample_rows, [sample_row, sample_row + 1])
        return self._order[first:last]

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
