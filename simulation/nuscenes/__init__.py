"""nuScenes v1.0 read and written without the devkit: tables, calibration, frames, boxes.

The data set itself is never part of the project; see https://www.nuscenes.org for its terms.
"""

from .reader import NuScenes
from .records import Annotation, Calibration, Sample, SampleData, Scene, Snapshot
from .writer import NuScenesWriter

__all__ = [
    "Annotation",
    "Calibration",
    "NuScenes",
    "NuScenesWriter",
    "Sample",
    "SampleData",
    "Scene",
    "Snapshot",
]
