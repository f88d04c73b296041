"""The `tailwire` command: finds the sub-command, turns errors into exit codes.

Exit codes: 0 done, 1 refused (`adapt`) or a fault of Tailwire (with its traceback), 2 wrong input,
130 interrupted.
What a sub-command does is in `commands/`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import cast

from . import __version__
from .commands.command import Command
from .runtime.errors import TailwireError

#: Sub-commands in the order of the overview; each is the `COMMAND` of the module of its name.
COMMANDS = (
    "demo",
    "ask",
    "replay",
    "eval",
    "commonality",
    "plan",
    "calibrate",
    "train",
    "adapt",
    "compose",
    "simulate",
    "questions",
    "bag",
    "look",
    "models",
    "export",
    "parity",
    "build",
    "doctor",
    "bench",
    "report",
)

_EXIT_INPUT = 2
_EXIT_INTERRUPTED = 130
#: As a shell reports a process that SIGPIPE has ended.
_EXIT_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: words behind `tailwire`; None takes those of the process.

    Returns:
        The exit code.

    Raises:
        SystemExit: from argparse, after `--help` or a usage error.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    args = _parser(words).parse_args(words)
    command: Command = args.command
    try:
        code = command.run(args)
        # Here, so that a pipe that has been closed is noticed while it can still be handled.
        sys.stdout.flush()
        return code
    except TailwireError as error:
        print(describe(error), file=sys.stderr)
        return _EXIT_INPUT
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`tailwire models list | head -1`). The interpreter
        # flushes stdout once more on its way out, so that is led to where nobody complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE


def describe(error: TailwireError) -> str:
    """One line for the terminal: `error: <field>: <problem>. Remedy: <remedy>.`"""
    parts = ["error:"]
    if error.field:
        parts.append(f"{error.field}:")
    parts.append(_sentence(error.problem))
    if error.remedy:
        parts.append(f"Remedy: {_sentence(error.remedy)}")
    # Some problems quote a parser that writes several lines.
    return " ".join(" ".join(parts).split())


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tailwire",
        description="Questions about what a robot's sensors see, answered through the tail of a "
        "language model.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"tailwire {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # Only the module of the command that was named is imported; all of them for the overview.
    named = next((word for word in words if not word.startswith("-")), None)
    for name in (named,) if named in COMMANDS else COMMANDS:
        command = cast(Command, import_module(f".commands.{name}", __package__).COMMAND)
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(sub)
        sub.set_defaults(command=command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
