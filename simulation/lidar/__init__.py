"""Sweeps of made worlds, ray cast: which surface a beam meets, and what comes back from it."""

from .ray_world import Hits, Moment, RayWorld
from .scanner import LidarScanner, Sweep

__all__ = ["Hits", "LidarScanner", "Moment", "RayWorld", "Sweep"]
