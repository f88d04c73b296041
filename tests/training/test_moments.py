"""Keyframes of several data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailwire.runtime.errors import ConfigError, DataError
from tailwire.simulation.sketch_drive import make_sketch_drive
from tailwire.training.moments import moments_of


def test_two_data_sets_with_the_same_keyframes_are_refused(tmp_path: Path) -> None:
    roots = [make_sketch_drive(tmp_path / name, seconds=0.5) for name in ("one", "two")]
    assert len(moments_of(roots[:1])) == 1
    with pytest.raises(DataError, match="has the keyframe"):
        moments_of(roots)


def test_conditions_must_be_known_and_there(tmp_path: Path) -> None:
    root = make_sketch_drive(tmp_path / "drive", seconds=0.5)
    with pytest.raises(ConfigError, match="no condition 'dusk'"):
        moments_of([root], ["dusk"])
    with pytest.raises(ConfigError, match="no keyframe is of the conditions night"):
        moments_of([root], ["night"])
