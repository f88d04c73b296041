"""The templates: what shape of program each asks, in words of our own.

A shape says what narrows a selection. Its first letters tell the content: `C` a class, `SC` a
status and a class, `S` a status alone, `T` any thing; what follows tells the place: `@ego` a
relation to the ego vehicle, `@object` to a uniquely described object, `@like` those with the same
status as such an object, nothing for the whole scene.
"""

from __future__ import annotations

from dataclasses import dataclass

from .phrases import Phrase
from .programs import Operation, Program

TEMPLATE_TYPES = ("exist", "count", "object", "status", "comparison")


@dataclass(frozen=True, slots=True)
class Template:
    """One way to ask one shape of program.

    Attributes:
        id: unique, e.g. `exist C@ego 2`.
        template_type: one of `TEMPLATE_TYPES`.
        operation: of the program.
        shapes: of its one or two selections.
        text: format string with `{a}` and `{b}`, see `Phrase`.
    """

    id: str
    template_type: str
    operation: Operation
    shapes: tuple[str, ...]
    text: str

    def question(self, program: Program) -> str:
        """The question in words."""
        phrases = {"a": Phrase(program.first)}
        if program.second is not None:
            phrases["b"] = Phrase(program.second)
        return self.text.format(**phrases)


_EXIST = {
    "C": ("Can you see any {a:many}?", "Is there {a:one} anywhere around us?"),
    "SC": ("Do the sensors show any {a:many}?", "Is at least one {a:bare} in view?"),
    "S": ("Does {a:one} show up around us?", "Do you notice any {a:many}?"),
    "C@like": ("Can any {a:many} be found?",),
    "T@like": ("Is there {a:one} in view?",),
    "C@ego": (
        "Do you see any {a:many}?",
        "Is there {a:one}?",
        "Looking around, would you find any {a:many}?",
    ),
    "SC@ego": ("Are any {a:many} in sight?", "Would you say there is {a:one}?"),
    "S@ego": ("Have you spotted {a:one}?", "Are some {a:many} visible?"),
    "T@ego": ("Could you point out {a:one}?",),
    "C@object": ("Does the scene have any {a:many}?", "Can {a:one} be seen?"),
    "SC@object": ("Is at least one {a:bare} there?",),
    "S@object": ("Are any {a:many} to be seen?",),
    "T@object": ("Do you find any {a:many}?",),
}
_COUNT = {
    "C": ("How many {a:many} can you see?", "Count the {a:many}: how many are in view?"),
    "SC": ("How many {a:many} do the sensors show?", "What is the total of {a:many} around us?"),
    "S": ("How many {a:many} are around us?",),
    "C@like": ("How many {a:many} can be found?",),
    "T@like": ("What number of {a:many} do you get?",),
    "C@ego": ("How many {a:many} are in sight?", "Tell me the number of {a:many}."),
    "SC@ego": ("How many {a:many} do you make out?", "Give the number of {a:many}."),
    "S@ego": ("How many {a:many} are visible?",),
    "T@ego": ("How many {a:many} do you count?",),
    "C@object": ("How many {a:many} does the scene have?", "What is the count of {a:many}?"),
    "SC@object": ("How many {a:many} are there to be seen?",),
    "T@object": ("How many {a:many} do you find?",),
}
_OBJECT = {
    "S": ("Which kind of object is {a:the}?",),
    "T@like": ("Of what kind is {a:the}?",),
    "T@ego": ("What would you call {a:the}?", "Name the kind of {a:the}."),
    "S@ego": ("What sort of object is {a:the}?", "Which class does {a:the} belong to?"),
    "T@object": ("How would you classify {a:the}?", "What kind of object is {a:the}?"),
    "S@object": ("Can you name the class of {a:the}?", "As what do you recognise {a:the}?"),
}
_STATUS = {
    "C": ("What is {a:the} doing?", "In which state is {a:the}?"),
    "C@ego": ("How would you describe the state of {a:the}?", "Tell me the state of {a:the}."),
    "T@ego": ("Which state is {a:the} in?", "What is the current state of {a:the}?"),
    "C@object": ("What state does {a:the} have?", "What do you see {a:the} doing?"),
    "T@object": ("What can be said of the state of {a:the}?",),
}
_COMPARISON: dict[tuple[Operation, str, str], tuple[str, ...]] = {
    ("same status", "C", "C"): ("Are {a:the} and {b:the} in the same state?",),
    ("same status", "C@ego", "C"): ("Does the state of {a:the} match that of {b:the}?",),
    ("same status", "C@ego", "C@ego"): ("Do {a:the} and {b:the} share one state?",),
    ("same status", "T@ego", "T@ego"): ("Is {a:the} in the same state as {b:the}?",),
    ("same status", "C@object", "C@ego"): ("Would {a:the} and {b:the} have equal states?",),
    ("same class", "S", "S"): ("Are {a:the} and {b:the} of one kind?",),
    ("same class", "T@ego", "T@ego"): ("Do {a:the} and {b:the} belong to the same class?",),
    ("same class", "S@ego", "T@ego"): ("Is {a:the} of the same kind as {b:the}?",),
    ("same class", "T@object", "T@ego"): ("Do you recognise {a:the} and {b:the} as one class?",),
    ("more", "C", "C"): ("Are there more {a:many} than {b:many}?",),
    ("more", "C@ego", "C@ego"): ("Do you see more {a:many} than {b:many}?",),
    ("more", "SC", "SC"): ("Do {a:many} outnumber {b:many}?",),
    ("fewer", "C", "C"): ("Are there fewer {a:many} than {b:many}?",),
    ("fewer", "C@ego", "C@ego"): ("Do you see fewer {a:many} than {b:many}?",),
    ("equal", "C", "C"): ("Are there as many {a:many} as {b:many}?",),
    ("equal", "C@ego", "C@ego"): ("Do you see equally many {a:many} and {b:many}?",),
    ("equal", "T@ego", "T@ego"): ("Do you count the same number of {a:many} and {b:many}?",),
}


def _templates() -> tuple[Template, ...]:
    tables: tuple[tuple[str, Operation, dict[str, tuple[str, ...]]], ...] = (
        ("exist", "exist", _EXIST),
        ("count", "count", _COUNT),
        ("object", "class", _OBJECT),
        ("status", "status", _STATUS),
    )
    found = [
        Template(f"{kind} {shape} {number}", kind, operation, (shape,), text)
        for kind, operation, table in tables
        for shape, texts in table.items()
        for number, text in enumerate(texts, start=1)
    ]
    found += [
        Template(f"{operation} {a}, {b} {number}", "comparison", operation, (a, b), text)
        for (operation, a, b), texts in _COMPARISON.items()
        for number, text in enumerate(texts, start=1)
    ]
    return tuple(found)


TEMPLATES = _templates()
