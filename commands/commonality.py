"""`tailwire commonality`: what several inputs have in common, as items in the form of MCUB.

`make` makes items from drives, `score` says how many a model got right. The work is in
`benchmarks/commonality*.py`.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError, DataError
from .arguments import comma_list
from .command import Command
from .printing import print_fact, print_table
from .progress import ProgressLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..benchmarks.commonality import CommonalityItem, CommonalityScore
    from ..benchmarks.commonality_items import Moment, Sense

_SENSES = "image,point,radar,audio"
_ITEMS_FILE = "items.json"


def _add_arguments(parser: ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    make = what.add_parser("make", help="items and their inputs, from drives with annotations")
    make.add_argument("--dataroot", metavar="DIR", type=Path, nargs="+", required=True)
    make.add_argument("--nuscenes-version", dest="version", metavar="NAME")
    make.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder to make")
    make.add_argument(
        "--items", metavar="N", type=int, default=100, help="of each pair of senses (100)"
    )
    make.add_argument("--senses", metavar="LIST", default=_SENSES, help=f"of inputs ({_SENSES})")
    make.add_argument(
        "--split", metavar="val|train|all", default="val", help="scenes that inputs are of (val)"
    )
    make.add_argument("--seed", metavar="N", type=int, default=7, help="of what is drawn (7)")
    make.add_argument("--json", action="store_true", help="print one JSON object, no text")
    score = what.add_parser("score", help="how many items a model got right")
    score.add_argument("items", metavar="ITEMS.json", type=Path, help="made here, or MCUB's own")
    score.add_argument(
        "answers", metavar="ANSWERS.json", type=Path, help="what the model said, by id of the item"
    )
    score.add_argument(
        "--learn-from",
        metavar="ITEMS.json",
        type=Path,
        help="items of other scenes, for the guess of somebody who sees no input",
    )
    score.add_argument("--json", action="store_true", help="print one JSON object, no text")


def _run(args: Namespace) -> int:
    return _make(args) if args.what == "make" else _score(args)


def _make(args: Namespace) -> int:
    senses = _senses(args.senses)
    if args.split not in ("val", "train", "all"):
        raise ConfigError(
            f"there is no split '{args.split}'", field="--split", remedy="use val, train or all"
        )
    if (args.out / _ITEMS_FILE).exists():
        raise ConfigError(
            "there are items already", field=str(args.out), remedy="name another folder"
        )
    from ..benchmarks.commonality import items_text
    from ..benchmarks.commonality_inputs import write_input
    from ..benchmarks.commonality_items import make_items
    from ..runtime.files import write_atomic

    with ProgressLine() as progress:
        progress("reading drives")
        moments = _moments(args)
        progress(f"drawing items from {len(moments)} keyframes")
        made = make_items(moments, args.items, args.seed, senses)
        if not made:
            raise DataError(
                "no two scenes have anything in common",
                field="--dataroot",
                remedy="give more drives",
            )
        inputs: set[tuple[Sense, Moment]] = {pair for one in made for pair in one.moments.items()}
        ordered = sorted(inputs, key=lambda one: (one[0], one[1].token))
        for number, (sense, moment) in enumerate(ordered):
            progress(f"input {number + 1} of {len(ordered)}")
            write_input(args.out, sense, moment)
        # Behind the inputs, so that items never name what is not there.
        items = [one.item for one in made]
        write_atomic(args.out / _ITEMS_FILE, items_text(items))
    _tell_made(args, items, len(ordered))
    return 0


def _senses(text: str) -> tuple[Sense, ...]:
    from ..benchmarks.commonality_items import SENSES

    known: dict[str, Sense] = {sense: sense for sense in SENSES}
    wanted = comma_list(text, "--senses")
    for word in wanted:
        if word not in known:
            raise ConfigError(
                f"there is no sense '{word}'", field="--senses", remedy=f"use {', '.join(known)}"
            )
    return tuple(dict.fromkeys(known[word] for word in wanted))


def _moments(args: Namespace) -> list[Moment]:
    from ..benchmarks.commonality_items import moments_of
    from ..simulation.nuscenes import NuScenes
    from ..simulation.questions.generate import split_of_scenes

    found: list[Moment] = []
    for root in args.dataroot:
        data = NuScenes.open(root, args.version)
        splits = split_of_scenes(data)
        chosen = [token for token, split in splits.items() if args.split in ("all", split)]
        found += moments_of(data, chosen)
    return found


def _tell_made(args: Namespace, items: Sequence[CommonalityItem], inputs: int) -> None:
    sets = Counter(item.modalities for item in items)
    if args.json:
        result: dict[str, Any] = {
            "items": len(items),
            "inputs": inputs,
            "file": str(args.out / _ITEMS_FILE),
            "by_modalities": {"+".join(names): count for names, count in sorted(sets.items())},
            "chance": 0.25,
        }
        print(json.dumps(result, separators=(",", ":")))
        return
    print_fact("items", f"{args.out / _ITEMS_FILE} ({len(items)}), of {inputs} inputs")
    rows = [("inputs", "items")]
    print_table([*rows, *((" + ".join(names), str(n)) for names, n in sorted(sets.items()))])


def _score(args: Namespace) -> int:
    from ..benchmarks.commonality import blind_answers, read_items, score_answers

    items = read_items(args.items)
    score = score_answers(items, _answers(args.answers))
    blind = None
    if args.learn_from is not None:
        learned = read_items(args.learn_from)
        blind = score_answers(items, blind_answers(items, learned)).accuracy
    _tell_score(args, score, blind)
    return 0


def _answers(path: Path) -> dict[str, str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"the answers cannot be read: {error}", field=str(path), remedy="name a JSON file"
        ) from error
    if not isinstance(data, dict) or not all(isinstance(text, str) for text in data.values()):
        raise DataError(
            "answers are one object, a text by the id of its item",
            field=str(path),
            remedy='e.g. {"image-audio-0000": "A"}',
        )
    return data


def _tell_score(args: Namespace, score: CommonalityScore, blind: float | None) -> None:
    if args.json:
        result: dict[str, Any] = {
            "items": score.items,
            "accuracy": round(score.accuracy, 4),
            "unread": score.unread,
            "chance": 0.25,
            "blind": None if blind is None else round(blind, 4),
            "by_modalities": {
                "+".join(names): {"items": asked, "accuracy": round(right / asked, 4)}
                for names, (asked, right) in score.by_modalities.items()
            },
        }
        print(json.dumps(result, separators=(",", ":")))
        return
    guess = "" if blind is None else f", {blind:.1%} for somebody who sees no input"
    print_fact("right", f"{score.accuracy:.1%} of {score.items} (25 % by chance{guess})")
    if score.unread:
        print_fact("unread", f"{score.unread} answers begin with none of A to D")
    rows = [("inputs", "items", "right")]
    for names, (asked, right) in score.by_modalities.items():
        rows.append((" + ".join(names), str(asked), f"{right / asked:.1%}"))
    print_table(rows)


COMMAND = Command(
    "commonality",
    "what several inputs have in common: make items, score answers",
    _add_arguments,
    _run,
)
