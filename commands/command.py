"""The contract of a sub-command, and what all of them share."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A sub-command of `tailwire`.

    Attributes:
        name: as typed.
        help: one line for the overview.
        add_arguments: declares its arguments.
        run: does it and returns the exit code; raises TailwireError for bad input.
    """

    name: str
    help: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]
