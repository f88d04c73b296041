"""Pictures of a keyframe for people: cameras with boxes, the LiDAR from above, questions."""

from .picture import draw_keyframe

__all__ = ["draw_keyframe"]
