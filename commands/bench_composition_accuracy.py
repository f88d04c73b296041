"""The part of `tailwire bench composition` that asks trained packs; see `bench_composition.py`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError, DataError
from .arguments import comma_list
from .printing import print_fact, print_table
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..benchmarks.commonality_items import MadeItem, Moment
    from ..benchmarks.commonality_tokens import SenseData
    from ..benchmarks.composition_accuracy import Examination
    from ..runtime.language_model import LanguageModel
    from ..runtime.pack import Pack
    from ..training.sense_packs import Sense

#: Items a pair of senses by which weights are chosen at the input, and questions about one sense:
#: there everything costs the whole language model.
_TRIED_ITEMS, _TRIED_QUESTIONS = 6, 200
_METHODS = "naive,damc,task_arithmetic,ties"
_COLUMNS = (
    *("blind", "majority", "best_single", "naive", "damc", "damc_auto", "task_arithmetic"),
    *("ties", "dare", "tsv", "ensemble", "joint", "best_single_branch"),
)


def add_accuracy_options(parser: ArgumentParser) -> None:
    """Options of the part."""
    part = parser.add_argument_group("how much composed packs get right (with --senses)")
    part.add_argument(
        "--senses", metavar="DIR", type=Path, help="packs that `tailwire train senses` made"
    )
    part.add_argument(
        "--dataroot", metavar="DIR", type=Path, nargs="+", help="drives that items are made of"
    )
    part.add_argument(
        "--split", metavar="val|train|all", default="all", help="scenes of --dataroot (all)"
    )
    part.add_argument(
        "--validate-on",
        metavar="DIR",
        type=Path,
        nargs="+",
        help="other drives, whose held-out scenes weights are chosen by, and blind guesses",
    )
    part.add_argument("--items", metavar="N", type=int, default=100, help="a pair of senses (100)")
    part.add_argument(
        "--validation-items", metavar="N", type=int, default=60, help="a pair of senses (60)"
    )
    part.add_argument(
        "--questions", metavar="N", type=int, default=500, help="about each single sense (500)"
    )
    part.add_argument(
        "--weight-steps", metavar="N", type=int, default=4, help="grid of weights, 0: none (4)"
    )
    part.add_argument("--methods", metavar="LIST", default=_METHODS, help=f"({_METHODS})")
    part.add_argument("--every", metavar="N", type=int, default=2, help="keyframes (2)")
    part.add_argument(
        "--validate-every", metavar="N", type=int, default=3, help="keyframes of --validate-on (3)"
    )
    part.add_argument("--seed", metavar="N", type=int, default=7, help="of items (7)")
    part.add_argument("--cache", metavar="DIR", type=Path, help="for tokens")
    part.add_argument(
        "--input-level",
        metavar="DIR",
        type=Path,
        help="packs in the form as published (`tailwire train senses --form input-level`)",
    )
    part.add_argument(
        "--input-level-items", metavar="N", type=int, default=25, help="a pair of senses (25)"
    )
    part.add_argument("--figure", metavar="FILE.png", type=Path, help="picture to draw")
    part.add_argument("--no-costs", action="store_true", help="measure accuracy alone")


def run_accuracy(args: Namespace) -> dict[str, Any]:
    """Compose packs in all ways, and ask them."""
    from ..assembly import load_connection, load_language_model
    from ..benchmarks.commonality_items import SENSES
    from ..benchmarks.composition_accuracy import COMPOSED, Examiner
    from ..benchmarks.composition_plots import draw_composition
    from ..runtime.model_specs import DEFAULT_LANGUAGE_MODEL
    from ..runtime.pack import load_pack
    from ..training.sense_packs import answer_tokens

    methods = list(comma_list(args.methods, "--methods"))
    for method in methods:
        if method not in COMPOSED:
            raise ConfigError(
                f"there is no method '{method}'",
                field="--methods",
                remedy=f"use {', '.join(COMPOSED)}",
            )
    if not args.dataroot or not args.validate_on:
        raise ConfigError(
            "there are no drives to ask about, or none to choose weights by",
            field="--dataroot" if not args.dataroot else "--validate-on",
            remedy="name drives that were not trained on, and others",
        )
    folders: dict[Sense, Path] = {
        sense: args.senses / sense for sense in SENSES if (args.senses / sense).is_dir()
    }
    if len(folders) < 2:
        raise ConfigError(
            f"{len(folders)} packs of one sense are there",
            field="--senses",
            remedy="make them: tailwire train senses",
        )
    packs: dict[Sense, Pack] = {sense: load_pack(folder) for sense, folder in folders.items()}
    joint = args.senses / "joint"
    tail = next(iter(packs.values())).manifest.tail_blocks
    with ProgressLine() as line, TemporaryDirectory(prefix="tailwire-") as work:
        exam = _examination(args, packs, line)
        model = load_language_model(
            args.model or DEFAULT_LANGUAGE_MODEL,
            args.precision,
            threads=args.threads,
            depths=(tail,),
            progress=line,
        )
        examiner = Examiner(
            *(model, lambda pack: load_connection(pack, model, threads=args.threads), folders),
            *(joint if joint.is_dir() else None, exam, answer_tokens(model), Path(work), line),
        )
        result = examiner.run(methods, args.weight_steps)
        if args.input_level is not None:
            result["input_level"] = _input_level(args, exam, model, tail, methods, line)
        model.close()
    result["moments"] = len(exam.data.moments)
    if args.figure is not None:
        result["figure"] = str(draw_composition(args.figure, result))
    return result


def _input_level(
    args: Namespace,
    exam: Examination,
    model: LanguageModel,
    tail: int,
    methods: list[str],
    line: ProgressLine,
) -> dict[str, Any]:
    """The same of packs in the form as published, of the first items of each set."""
    from dataclasses import replace

    import torch

    from ..assembly import model_path
    from ..benchmarks.commonality_tokens import asked_concepts
    from ..benchmarks.composition_input_level import InputLevelBase, InputLevelExaminer
    from ..export.checkpoint import open_checkpoint
    from ..export.tail_weights import tail_weights
    from ..runtime.model_specs import DEFAULT_LANGUAGE_MODEL
    from ..training.sense_training import sense_texts
    from .train_common import cache_folder

    torch.set_num_threads(args.threads)
    checkpoint = open_checkpoint(model_path(args.model or DEFAULT_LANGUAGE_MODEL))
    texts = sense_texts(model, asked_concepts(), tail, cache_folder(args) / "heads")
    base = InputLevelBase(tail_weights(checkpoint, tail), texts.states(), texts.answers)
    fewer = replace(
        exam,
        items=_first_of_each(exam.items, args.input_level_items / args.items),
        validation=_first_of_each(exam.validation, _TRIED_ITEMS / args.validation_items),
        single={sense: asked[:_TRIED_QUESTIONS] for sense, asked in exam.single.items()},
    )
    examiner = InputLevelExaminer(base, args.input_level, list(exam.single), fewer, line)
    return examiner.run(methods, args.weight_steps)


def _first_of_each(items: Sequence[MadeItem], share: float) -> list[MadeItem]:
    """The first ones of each set of senses, one at least."""
    sets: dict[frozenset[Sense], list[MadeItem]] = {}
    for item in items:
        sets.setdefault(frozenset(item.moments), []).append(item)
    return [one for own in sets.values() for one in own[: max(1, round(share * len(own)))]]


def _examination(args: Namespace, packs: dict[Sense, Pack], line: ProgressLine) -> Examination:
    import numpy as np

    from ..benchmarks.commonality_items import make_items
    from ..benchmarks.composition_accuracy import Examination
    from ..training.sense_examples import balanced

    line("reading drives")
    asked = _moments(args.dataroot, args.split, args.every)
    other = _moments(args.validate_on, "val", args.validate_every)
    shared = {moment.scene for moment in asked} & {moment.scene for moment in other}
    if shared:
        raise DataError(
            f"{len(shared)} scenes are both asked about and used to choose weights",
            field="--validate-on",
            remedy="name other drives",
        )
    data = _tokens(args, [*asked, *other], packs, line)
    line("drawing items")
    senses = list(packs)
    items = make_items(asked, args.items, args.seed, senses)
    validation = make_items(other, args.validation_items, args.seed + 1, senses)
    learned = make_items(other, 4 * args.validation_items, args.seed + 2, senses)
    rng = np.random.default_rng(args.seed)
    single: dict[Sense, list[tuple[int, int, bool]]] = {}
    for sense in senses:
        questions = balanced(data.facts[sense][: len(asked)], rng)
        chosen = questions[rng.permutation(len(questions))[: args.questions]]
        single[sense] = [(int(m), int(concept), bool(holds)) for m, concept, holds in chosen]
    return Examination(data, items, validation, [one.item for one in learned], single)


def _moments(roots: list[Path], split: str, every: int) -> list[Moment]:
    from ..benchmarks.commonality_tokens import moments_of_drives
    from ..simulation.questions.generate import split_of_scenes

    if split not in ("val", "train", "all"):
        raise ConfigError(
            f"there is no split '{split}'", field="--split", remedy="use val, train or all"
        )
    moments = moments_of_drives(roots, every=every)
    splits: dict[str, str] = {}
    for data in {id(moment.data): moment.data for moment in moments}.values():
        splits |= split_of_scenes(data)
    return [one for one in moments if split in ("all", splits[one.scene])]


def _tokens(
    args: Namespace, moments: list[Moment], packs: dict[Sense, Pack], line: ProgressLine
) -> SenseData:
    """Tokens by the encoders of the packs themselves."""
    from ..assembly import load_pack_encoders
    from ..benchmarks.commonality_tokens import sense_data
    from .train_common import cache_folder

    encoders, identities = {}, {}
    for pack in packs.values():
        own, known = load_pack_encoders(pack, threads=args.threads, progress=line)
        encoders |= own
        identities |= known
    try:
        return sense_data(
            moments,
            list(packs),
            encoders,
            identities,
            cache_folder(args),
            lambda done, count: line(f"encoding {done} of {count} keyframes"),
        )
    finally:
        for encoder in encoders.values():
            encoder.close()


def print_accuracy(result: dict[str, Any]) -> None:
    """Tables by number of senses, and of single senses, of both forms where both were asked."""
    _print_form(result, "right answers")
    if "input_level" in result:
        _print_form(result["input_level"], "at the input")
    print_fact("interval", "95 % (Wilson) in brackets; chance is 25 %, for one input 50 %")


def _print_form(result: dict[str, Any], title: str) -> None:
    counts = list(result["items"])
    rows = [(title, *(f"{n} senses ({result['items'][n]} items)" for n in counts))]
    for column in _COLUMNS:
        if column in result["accuracy"][counts[0]]:
            rows.append(
                (
                    column.replace("_", " "),
                    *(
                        f"{result['accuracy'][n][column]:.1%} "
                        f"({result['interval'][n][column][0]:.1%} to "
                        f"{result['interval'][n][column][1]:.1%})"
                        for n in counts
                    ),
                )
            )
    print_table(rows)
    singles = result["single_senses"]
    columns = list(next(iter(singles.values()))["accuracy"])
    print_table(
        [
            ("one input", *singles),
            *(
                (
                    column.replace("_", " "),
                    *(f"{one['accuracy'][column]:.1%}" for one in singles.values()),
                )
                for column in columns
            ),
        ]
    )
