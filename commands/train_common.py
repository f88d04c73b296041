"""What the trainings of `tailwire train` share: checks of options, and stopping by Ctrl-C."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..runtime.errors import ConfigError, TailwireError
from .arguments import comma_list


def add_common_arguments(parser: ArgumentParser, *, needs_drives: bool = True) -> None:
    """Options of all trainings.

    Args:
        parser: of the sub-command.
        needs_drives: whether the parser insists on `--dataroot`.
    """
    parser.add_argument(
        "--dataroot",
        metavar="DIR",
        type=Path,
        nargs="+",
        action="extend",
        required=needs_drives,
        help="data sets in nuScenes format with annotations; every fifth scene is held out",
    )
    parser.add_argument(
        "--out",
        metavar="WORKDIR",
        type=Path,
        required=True,
        help="for weights, checkpoint, record and curve; the same command goes on there",
    )
    parser.add_argument(
        "--conditions", metavar="LIST", help="only drives of these, e.g. day,rain (all)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of everything (0)")
    parser.add_argument("--threads", metavar="N", type=int, default=2, help="of torch (2)")
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="for features, tokens and head states (training/ in the cache folder)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def positive(args: Namespace, *names: str) -> None:
    """Refuse options that must be above zero.

    Raises:
        ConfigError: naming the option.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(
                f"{value} is no such number",
                field="--" + name.replace("_", "-"),
                remedy="give one above 0",
            )


def not_negative(args: Namespace, *names: str) -> None:
    """Refuse options below zero.

    Raises:
        ConfigError: naming the option.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and not 0 <= value < float("inf"):
            raise ConfigError(
                f"{value} is no such number",
                field="--" + name.replace("_", "-"),
                remedy="give 0 or more",
            )


def chosen_conditions(args: Namespace) -> Sequence[str]:
    """The conditions of `--conditions`, all without it.

    Raises:
        ConfigError: one is unknown.
    """
    from ..simulation.questions.conditions import CONDITIONS, check_conditions

    if args.conditions is None:
        return CONDITIONS
    names = comma_list(args.conditions, "--conditions")
    check_conditions(names, "--conditions")
    return names


def check_torch() -> None:
    """Refuse where torch is missing.

    Raises:
        ConfigError: with the command that installs it.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "torch is not installed, and training needs it",
            field="train",
            remedy="pip install 'tailwire[train]'",
        ) from error


def cache_folder(args: Namespace) -> Path:
    """Where features, tokens and head states are kept."""
    return args.cache if args.cache is not None else training_cache()


def training_cache() -> Path:
    """The same where no option names a folder."""
    from ..runtime.files import cache_dir

    return cache_dir() / "training"


class Stop:
    """Whether the user wants the training to end; asked before each step."""

    def __init__(self) -> None:
        self.wanted = False

    def __call__(self) -> bool:
        return self.wanted


@contextmanager
def stopping() -> Iterator[Stop]:
    """The first Ctrl-C ends the training behind its step, a second one at once."""
    stop = Stop()
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.wanted:
            raise KeyboardInterrupt
        stop.wanted = True

    try:
        signal.signal(signal.SIGINT, ask)
    except ValueError:  # Not in the main thread: whoever runs us there stops us otherwise.
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def stopped(checkpoint: Path, step: int, steps: int) -> KeyboardInterrupt:
    """Say how to go on, and what to raise."""
    print(
        f"stopped behind step {step} of {steps}; {checkpoint} is kept, and the same command "
        "goes on there",
        file=sys.stderr,
    )
    return KeyboardInterrupt()


def draw(curve: Path, drawing: Callable[[], None]) -> str | None:
    """Draw the curve; a missing matplotlib is a note on stderr.

    Args:
        curve: the file.
        drawing: called without arguments.

    Returns:
        The file, None where there is none.
    """
    try:
        drawing()
    except TailwireError as error:
        print(f"note: {error.problem}. Remedy: {error.remedy}.", file=sys.stderr)
        return None
    return str(curve)
