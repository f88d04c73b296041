"""Made worlds: streets, what stands there and what moves, over time; no pixels and no points."""

from .condition import CONDITIONS, Condition
from .model import Agent, Placed, State, Track, World

__all__ = ["CONDITIONS", "Agent", "Condition", "Placed", "State", "Track", "World"]
