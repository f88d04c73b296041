"""Keyframes of a drive, spread evenly, for commands that look at a few."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.files import Progress
from .drives import open_drive

if TYPE_CHECKING:
    from ..runtime.frames import SensorFrame


def spread_moments(
    nuscenes: Path | None, most: int, progress: Progress
) -> Iterable[Mapping[str, SensorFrame]]:
    """Frames by sensor, of keyframes that lie evenly over all scenes.

    Args:
        nuscenes: dataroot; None takes the clip that ships with Tailwire.
        most: keyframes.
        progress: told while the clip is unpacked.

    Raises:
        DataError: the data set is missing or broken.
    """
    drive = open_drive(nuscenes, None, progress)
    samples = [sample for scene in drive.data.scenes for sample in drive.data.samples(scene)]
    step = max(1.0, len(samples) / most)
    chosen = [samples[int(i * step)] for i in range(min(most, len(samples)))]
    return (drive.data.snapshot(sample.token).frames for sample in chosen)
