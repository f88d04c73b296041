"""Made worlds: streets, what stands there and what moves, over time; no pixels and no points."""

from .condition import CONDITIONS, Condition
from .generate import make_world
from .layout_world import world_of_layout
from .layouts import Layout, LayoutTrack, read_layouts
from .model import Agent, Placed, Signal, State, Track, World

__all__ = [
    "CONDITIONS",
    "Agent",
    "Condition",
    "Layout",
    "LayoutTrack",
    "Placed",
    "Signal",
    "State",
    "Track",
    "World",
    "make_world",
    "read_layouts",
    "world_of_layout",
]
