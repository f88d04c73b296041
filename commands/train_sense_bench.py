"""What packs of `tailwire train senses` are made with: tokens of drives, questions, the model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .progress import ProgressLine
from .train_common import cache_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..benchmarks.commonality_tokens import SenseData
    from ..runtime.adaptation.tail_model import TailModel
    from ..runtime.connection_specs import ConnectionSpec
    from ..runtime.pack import BaseModelSpec, Pack
    from ..training.sense_examples import Examples, Tokens
    from ..training.sense_packs import Sense
    from ..training.sense_training import SenseTexts

JOINT = "joint"


@dataclass(frozen=True, eq=False)
class SenseBench:
    """What all packs are made with."""

    args: Namespace
    data: SenseData
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    texts: SenseTexts
    tail: TailModel
    spec: ConnectionSpec
    base: BaseModelSpec
    detectors: Pack
    settings: dict[str, Any]


def prepare_senses(args: Namespace, names: Sequence[str], line: ProgressLine) -> SenseBench:
    """Read drives, encode them, and load the tail of the language model."""
    import torch

    from ..assembly import load_language_model, load_pack_encoders, model_path
    from ..benchmarks.commonality_items import CONCEPTS, SENSES
    from ..benchmarks.commonality_tokens import asked_concepts, moments_of_drives, sense_data
    from ..export.checkpoint import open_checkpoint
    from ..export.tail_weights import tail_weights
    from ..runtime.config import RuntimeConfig, pack_folder
    from ..runtime.connection_specs import ConnectionSpec
    from ..runtime.pack import BaseModelSpec, load_pack
    from ..simulation.questions.generate import split_of_scenes
    from ..training.sense_packs import sense_encoders
    from ..training.sense_training import sense_texts, tail_of

    line("reading drives")
    moments = moments_of_drives(args.dataroot, every=args.every)
    splits: dict[str, str] = {}
    for data in {id(moment.data): moment.data for moment in moments}.values():
        splits |= split_of_scenes(data)
    detectors = load_pack(pack_folder(args.encoders_from))
    senses: list[Sense] = [one for one in SENSES if one in names or JOINT in names]
    # As they will be in the packs, so that tokens are those that the packs make.
    manifest = detectors.manifest.model_copy(
        update={"encoders": sense_encoders(senses, detectors.manifest)}
    )
    encoders, identities = load_pack_encoders(
        replace(detectors, manifest=manifest), threads=args.threads, progress=line
    )
    cache = cache_folder(args)
    data = sense_data(
        moments,
        senses,
        encoders,
        identities,
        cache,
        lambda done, count: line(f"encoding {done} of {count} keyframes"),
    )
    for encoder in encoders.values():
        encoder.close()
    config = RuntimeConfig()
    name = args.model or config.model
    model = load_language_model(
        name, args.precision, threads=args.threads, depths=(args.tail,), progress=line
    )
    texts = sense_texts(model, asked_concepts(), args.tail, cache / "heads")
    base = BaseModelSpec.of(
        model.manifest.name,
        model.config,
        sha256=model.manifest.content_hash,
        tokenizer_sha256=model.tokenizer_sha256,
    )
    tail = tail_of(
        tail_weights(open_checkpoint(model_path(name)), args.tail),
        args.tail,
        torch.bfloat16,
    )
    model.close()
    by_split = {
        split: data.rows({scene for scene, one in splits.items() if one == split})
        for split in ("train", "val")
    }
    settings = {
        **{name: value for name, value in sorted(vars(args).items()) if name in _KEPT},
        "keyframes": {split: len(rows) for split, rows in by_split.items()},
        "concepts": len(CONCEPTS),
        "dataroots": [root.resolve().name for root in args.dataroot],
    }
    spec = ConnectionSpec(
        kind="plain",
        tail_blocks=args.tail,
        per_block=True,
        hidden=args.hidden,
        lora_rank=args.lora_rank,
    )
    return SenseBench(
        *(args, data, by_split["train"], by_split["val"]),
        *(texts, tail, spec, base, detectors, settings),
    )


_KEPT = (
    *("batch", "copies", "every", "hidden", "joint_steps", "learning_rate", "lora_rank"),
    *("seed", "steps", "tail", "encoders_from"),
)


def examples_of(bench: SenseBench, senses: Sequence[Sense], seed: int) -> tuple[Examples, Examples]:
    """Views and questions to learn from, and held-out ones."""
    import numpy as np

    from ..training.sense_examples import joint_examples, single_examples

    rng = np.random.default_rng(seed)
    found: list[Examples] = []
    for rows, copies in ((bench.train, bench.args.copies), (bench.held_out, 1)):
        make = single_examples if len(senses) == 1 else joint_examples
        tokens: dict[Sense, Mapping[str, Tokens]] = {
            sense: bench.data.tokens[sense] for sense in senses
        }
        found.append(make(tokens, bench.data.facts, rows, copies, rng))
    return found[0], found[1]
