"""Opens back ends of one pack and compares them; how is in `export/parity.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .engine_assembly import Progress
from .export.parity import Case, Contestant, Parity, compare
from .exported_assembly import ExportedAssembly, PackAssembly, loader_of
from .exporting import Moments
from .runtime.asking import Preparer
from .runtime.config import RuntimeConfig
from .runtime.encoders import Encoder
from .runtime.errors import ConfigError, SensorError
from .runtime.pack import Pack
from .runtime.questions import NUSCENES_QA_ANSWERS, Question

#: Back ends that are compared, the reference first.
BACKENDS = ("onnx-cpu", "onnx-portable", "torch", "tensorrt")


def reference_first(backends: Sequence[str]) -> list[str]:
    """Back ends in the order in which they are compared, with the first.

    Args:
        backends: as asked for. torch has no encoders here, so it is never the reference.
    """
    return sorted(backends, key=lambda name: name == "torch")


def run_parity(
    config: RuntimeConfig,
    backends: Sequence[str],
    moments: Moments,
    *,
    export: Path | None,
    questions: Sequence[Question] = (),
    new_tokens: int = 8,
    progress: Progress | None = None,
) -> list[Parity]:
    """Compare back ends of one pack with the first of them.

    Args:
        config: names pack and model, and the precision of the tuned engines.
        backends: some of `BACKENDS`, compared in the order of `reference_first`.
        moments: frames to compare on.
        export: folder that `tailwire export` wrote, for the back ends that need it.
        questions: to ask; none asks those of the pack.
        new_tokens: tokens to decode per moment.
        progress: told what is being opened.

    Raises:
        TailwireError: a back end is unknown or cannot be opened, or there is nothing to compare.
    """
    tell = progress or (lambda _: None)
    _check(backends, export)
    with ExitStack() as stack:
        local = PackAssembly(config, tell)
        sources = local.sources()
        pack = sources.pack
        depth = config.tail_blocks or pack.manifest.tail_blocks
        # Prepares frames and questions, whether it competes or not.
        tuned = local.contestant("onnx-cpu", pack, depth)
        stack.callback(local.close)
        opened: list[Contestant] = []
        for name in reference_first(backends):
            tell(f"opening {name}")
            if name == "onnx-cpu":
                opened.append(tuned)
            elif name == "torch":
                from .export.folded_checkpoint import open_for_pack
                from .export.parity_torch import TorchContestant

                checkpoint = open_for_pack(sources.checkpoint, pack)
                opened.append(TorchContestant(pack, checkpoint, depth))
            elif export is not None:  # `_check` has seen to it.
                loader = loader_of(name, export, tell)
                exported = ExportedAssembly(config, export, loader, tell)
                exported.check_pack(pack, sources.checkpoint_sha256)
                opened.append(exported.contestant(name, pack, depth))
                stack.callback(exported.close)
        asked = tuple(questions) or tuple(
            Question(one.text, one.answers) for one in pack.manifest.questions
        )
        cases = _cases(local, pack, asked, moments, depth)
        return compare(opened, cases, pack.manifest.sensor_encoders, new_tokens=new_tokens)


def _check(backends: Sequence[str], export: Path | None) -> None:
    unknown = [name for name in backends if name not in BACKENDS]
    if unknown or len(set(backends)) < max(2, len(backends)):
        raise ConfigError(
            f"'{unknown[0]}' is no back end" if unknown else "two different back ends are needed",
            field="--backends",
            remedy=f"name two or more of {', '.join(BACKENDS)}, the reference first",
        )
    if export is None and {"onnx-portable", "tensorrt"} & set(backends):
        raise ConfigError(
            "portable graphs are compared from a folder, and none is named",
            field="--export",
            remedy="name one that `tailwire export` wrote",
        )


def _cases(
    assembly: PackAssembly,
    pack: Pack,
    questions: Sequence[Question],
    moments: Moments,
    depth: int,
) -> Iterator[Case]:
    manifest, model = pack.manifest, assembly.model
    preparer = Preparer(model, manifest.prompt)
    texts, allowed = [], []
    for question in questions:
        answers = question.answers or NUSCENES_QA_ANSWERS
        asked = preparer.prepare(Question(question.text, answers), [depth])
        texts.append(asked.head.token_ids)
        if asked.trie is not None:
            allowed.append(np.fromiter(asked.trie.root.children, np.int64))
    if not texts:
        raise ConfigError(
            "the pack has no questions of its own", field="--question", remedy="ask one"
        )
    used = 0
    for frames in moments():
        prepared = _prepared(assembly.encoders, pack, frames)
        if prepared:
            used += 1
            yield Case(prepared, texts, allowed)
    if not used:
        raise ConfigError(
            "the drive has no usable frame of a sensor of this pack",
            field="--nuscenes",
            remedy=f"name one with some of {', '.join(manifest.sensor_encoders)}",
        )


def _prepared(
    encoders: Mapping[str, Encoder], pack: Pack, frames: Mapping[str, Any]
) -> dict[str, Any]:
    prepared: dict[str, Any] = {}
    mounts = pack.manifest.mounts
    for sensor, encoder in pack.manifest.sensor_encoders.items():
        frame = frames.get(sensor)
        if frame is None or not encoders[encoder].spec.needs_engine:
            continue
        if frame.geometry is None and sensor in mounts:
            frame = replace(frame, geometry=mounts[sensor])
        try:
            prepared[sensor] = encoders[encoder].prepare(frame)
        except SensorError:
            continue
    return prepared
