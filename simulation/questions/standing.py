"""Standing questions that the shipped pack suggests: of each type one, in words of our templates.

They are about what comes and goes in the demo clip.
"""

from __future__ import annotations

from .programs import MAX_COUNT
from .scene_graph import CLASS_STATUSES

_YES_NO = ("yes", "no")
_COUNTS = tuple(str(count) for count in range(MAX_COUNT + 1))

#: Texts with their allowed answers.
STANDING_QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Do you see any pedestrians to our front right?", _YES_NO),
    ("How many moving cars do the sensors show?", _COUNTS),
    ("What sort of object is the stopped thing to our front?", tuple(CLASS_STATUSES)),
    ("How would you describe the state of the truck to our front?", CLASS_STATUSES["truck"]),
    ("Do you see more cars to our front left than trucks to our front left?", _YES_NO),
)
