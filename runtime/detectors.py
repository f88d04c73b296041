"""What training, export and running of the detectors behind object tokens must agree on.

Constants only: the networks are in `training/detectors.py` (torch) and `export/detectors.py`
(graphs), tokens in `kernels/object_tokens.py`.
"""

from __future__ import annotations

import math

#: What the maps of the LiDAR detector hold behind the heats: offsets of the centre within the cell
#: (cells), its height (5 m), logarithms of length, width, height, heading, velocity (10 m/s).
BEV_MAPS = {"offset": 2, "z": 1, "size": 3, "heading": 2, "velocity": 2}
#: Of the camera detector: the offset of the projected centre, the logarithm of the depth at the
#: reference focal length, logarithms of the size, heading relative to the ray.
IMAGE_MAPS = {"offset": 2, "depth": 1, "size": 3, "heading": 2}

#: Stride of the maps: cells of the grid, pixels of the picture.
BEV_STRIDE = 2
IMAGE_STRIDE = 8

#: Added to the variance by the batch norms.
NORM_EPSILON = 1e-3

#: Objects that are less sure are no tokens; on held-out made drives a connection that had only
#: seen annotated objects answered best behind this one (0.1: 57 %, 0.35: 67 %, 0.5: 61 %).
MIN_SCORE = 0.35
#: Focal length, in pixels of the encoder's picture, that depths are learned at.
REFERENCE_FOCAL_PX = 316.5
MAX_DEPTH_M = 80.0
#: Logarithms of metres that the maps of depth and size are clipped to.
LOG_DEPTH_RANGE = (-2.0, 6.0)
LOG_SIZE_RANGE = (math.log(0.1), math.log(25.0))
#: Under roots of sums of squares, metres squared and such.
TINY = 1e-6
#: An object lies in a sector if the cosine of its angle to the sector's middle is above this.
HALF_SECTOR_COSINE = math.cos(math.radians(30))

#: A camera's geometry: fx, fy, cx, cy in pixels of the encoder's picture, then the upper three
#: rows of ego_from_camera (camera axes: x right, y down, z forward; metres).
GEOMETRY_WIDTH = 16
