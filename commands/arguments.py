"""Options that several sub-commands share, and the runtime configuration that they make.

Light to import: argparse only. Values are checked where they are used, by `RuntimeConfig`.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ConfigError
from .budget_options import read_budget

if TYPE_CHECKING:
    from argparse import _ActionsContainer

    from ..runtime.config import RuntimeConfig


def add_drive_arguments(parser: ArgumentParser) -> None:
    """Options that choose the data."""
    parser.add_argument(
        "--nuscenes",
        metavar="DIR",
        type=Path,
        help="dataroot of a nuScenes data set; without it $TAILWIRE_NUSCENES, else the clip that "
        "ships with Tailwire",
    )
    parser.add_argument(
        "--version",
        metavar="NAME",
        help="version folder in the dataroot, e.g. v1.0-mini; not needed where there is only one",
    )


def add_question_arguments(parser: ArgumentParser, title: str, *names: str) -> None:
    """Options that choose questions about data sets, in a group of their own.

    Args:
        parser: of the sub-command.
        title: of the group.
        names: of the option for data sets.
    """
    group = parser.add_argument_group(title)
    add_question_sources(group, *names)
    group.add_argument(
        "--conditions", metavar="LIST", help="only drives of these, e.g. night,rain (all)"
    )
    group.add_argument("--limit", metavar="N", type=int, help="most questions of a keyframe")
    group.add_argument(
        "--keyframes", metavar="N", type=int, help="most keyframes, evenly over the drives"
    )


def add_question_sources(
    parser: _ActionsContainer,
    *names: str,
    what: str = "data sets in nuScenes format, made or real, with questions in them",
) -> None:
    """Options that say where questions come from: data sets and files.

    Args:
        parser: of the sub-command, or a group of it.
        names: of the option for data sets.
        what: these are.
    """
    parser.add_argument(
        *names,
        metavar="DIR",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        help=what,
    )
    parser.add_argument("--version", metavar="NAME", help="version folder in the data sets")
    parser.add_argument(
        "--questions",
        metavar="FILE",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="question files in the format of NuScenes-QA (default: those in the data sets)",
    )


def add_runtime_arguments(parser: ArgumentParser) -> None:
    """Options that go into the runtime's configuration."""
    parser.add_argument(
        "--tail", metavar="N", type=int, help="last blocks that attend to the sensors"
    )
    parser.add_argument(
        "--precision", metavar="fp32|int8|int4", help="of the language model (default: int8)"
    )
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="a name of `tailwire models list`, a .gguf file or a Hugging Face folder",
    )
    parser.add_argument(
        "--pack",
        metavar="DIR|NAME",
        help="`driving` (trained, ships with Tailwire; the default with its model), folder of a "
        "pack, `starter` (untrained) or `starter-conditioned`",
    )
    parser.add_argument("--threads", metavar="N", type=int, help="threads of an engine")
    parser.add_argument(
        "--config",
        metavar="FILE.yaml",
        type=Path,
        help="runtime configuration; the options here win over it",
    )


def read_arguments(args: Namespace) -> RuntimeConfig:
    """The configuration from the options of `add_runtime_arguments` and `add_budget_arguments`.

    Raises:
        ConfigError: a value or the file is wrong.
    """
    from ..runtime.config import read_config

    # `calibrate` has precisions too, which no policy chooses.
    precisions = getattr(args, "precisions", None) if hasattr(args, "policy") else None
    return read_config(
        args.config,
        model=args.model,
        pack=args.pack,
        precision=args.precision,
        tail_blocks=args.tail,
        threads=args.threads,
        precisions=None if precisions is None else comma_list(precisions, "--precisions"),
        policy=getattr(args, "policy", None),
        budget=read_budget(args),
    )


def comma_list(text: str, option: str) -> tuple[str, ...]:
    """The parts of a comma-separated list, without spaces around them.

    Args:
        text: as typed.
        option: named in the error.

    Raises:
        ConfigError: the list or one of its parts is empty.
    """
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise ConfigError(
            f"there is an empty part in '{text}'",
            field=option,
            remedy="write the parts with one comma between them",
        )
    return parts
