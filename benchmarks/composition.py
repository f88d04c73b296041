"""What composing costs: time and memory by number of packs, and decoding behind what is composed.

The packs are made here, of the size that `tailwire train pack` makes and with random weights, since
neither time nor memory depends on what they know. How much composed packs get right is measured
with trained ones (`tailwire eval`); it is not in here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save

from ..export.compose import CompositionRequest, compose, write_composition
from ..export.compose_parts import open_parts
from ..export.merging import METHODS, MergeOptions
from ..runtime.composition_specs import Method, TextChangeSpec
from ..runtime.connections import ConnectionSpec, weight_shapes
from ..runtime.encoder_specs import EncoderSpec, LidarInput
from ..runtime.errors import ConfigError
from ..runtime.files import sha256_of
from ..runtime.low_rank import PROJECTIONS, LowRankChange, Place, projection_shape
from ..runtime.model_config import LanguageModelConfig
from ..runtime.pack import (
    MANIFEST_NAME,
    BaseModelSpec,
    FileSpec,
    PackManifest,
    PromptSpec,
    SensorSpec,
)
from ..runtime.process_memory import RESIDENT_METHOD, measured

Float = NDArray[np.float32]

METHOD = (
    "Each composition opens, checks, merges, writes and checks again; the disk's cache is warm. "
    "Memory is the most that was resident within it above what was there before; the largest "
    "input is the largest pack's files. Packs have random weights."
)


@dataclass(frozen=True)
class PackSizes:
    """How large the packs are that are composed.

    Attributes:
        tail_blocks: of the connection.
        hidden: of its aligners.
        lora_rank: of its LoRA.
        text_rank: of changes of all projections, 0 for none.
        encoder_bytes: of the file of the encoder.
    """

    tail_blocks: int = 6
    hidden: int = 1280
    lora_rank: int = 8
    text_rank: int = 0
    encoder_bytes: int = 8_000_000


def write_made_pack(
    folder: Path, config: LanguageModelConfig, model: str, name: str, sizes: PackSizes
) -> Path:
    """Write a pack with one sensor and random weights.

    Args:
        folder: to make.
        config: of the language model.
        model: its name.
        name: of the pack; its encoder and sensor are called so too.
        sizes: of it.
    """
    rng = np.random.default_rng([ord(letter) for letter in name])
    encoder = EncoderSpec(
        modality="lidar",
        kind="onnx",
        input=LidarInput(),
        tokens=16,
        width=64,
        file="encoder.onnx",
        licence="Apache-2.0",
        source="random",
    )
    spec = ConnectionSpec(
        kind="plain",
        tail_blocks=sizes.tail_blocks,
        hidden=sizes.hidden,
        lora_rank=sizes.lora_rank,
    )
    shapes = weight_shapes(spec, config, {name: (16, 64)}, {f"{name}_top": name})
    weights = {
        weight: rng.normal(0, 0.02, shape).astype(np.float32) for weight, shape in shapes.items()
    }
    folder.mkdir(parents=True)
    (folder / encoder.file).write_bytes(rng.bytes(sizes.encoder_bytes))
    (folder / spec.file).write_bytes(save(weights))
    text: tuple[TextChangeSpec, ...] = ()
    if sizes.text_rank:
        change = _random_change(config, sizes, rng)
        (folder / "text.safetensors").write_bytes(save(change.arrays()))
        text = (TextChangeSpec(file="text.safetensors"),)
    files = sorted(path.name for path in folder.iterdir())
    manifest = PackManifest(
        format=1,
        name=name,
        version="1",
        description="random weights, for measuring",
        trained=False,
        licences=("Apache-2.0",),
        base_model=BaseModelSpec.of(model, config),
        prompt=PromptSpec(template="{question}"),
        sensors=(SensorSpec(name=f"{name}_top", encoder=name),),
        encoders={name: encoder},
        connection=spec,
        tail_blocks=sizes.tail_blocks,
        files={file: FileSpec(sha256=sha256_of(folder / file)) for file in files},
        text=text,
    )
    text_of = yaml.safe_dump(manifest.model_dump(mode="json", exclude_none=True), sort_keys=False)
    (folder / MANIFEST_NAME).write_text(text_of, encoding="utf-8")
    return folder


def _random_change(
    config: LanguageModelConfig, sizes: PackSizes, rng: np.random.Generator
) -> LowRankChange:
    factors: dict[Place, tuple[Float, Float]] = {}
    for block in range(config.num_blocks - sizes.tail_blocks, config.num_blocks):
        for projection in PROJECTIONS:
            rows, columns = projection_shape(config, projection)
            a = rng.normal(0, 0.02, (rows, sizes.text_rank)).astype(np.float32)
            b = rng.normal(0, 0.02, (sizes.text_rank, columns)).astype(np.float32)
            factors[block, projection] = (a, b)
    return LowRankChange(factors)


def bench_composing(
    work: Path,
    config: LanguageModelConfig,
    model: str,
    sizes: PackSizes,
    counts: Sequence[int],
    rounds: int,
    *,
    methods: Sequence[Method] = METHODS,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Time and memory of composing.

    Args:
        work: empty folder, for packs.
        config: of the language model.
        model: its name.
        sizes: of the packs.
        counts: of packs that are composed, two or more each.
        rounds: compositions of each kind.
        methods: that are measured.
        progress: told what is composed.

    Returns:
        By number of packs and method, `seconds` (median), `peak_bytes` (largest) and
        `peak_by_largest_input`; sizes of the packs.

    Raises:
        ConfigError: a count is smaller than two.
    """
    if not counts or min(counts) < 2 or rounds < 1:
        raise ConfigError(
            f"{list(counts)} packs in {rounds} rounds",
            field="packs",
            remedy="compose two or more, once or more",
        )
    names = [f"sense{number}" for number in range(max(counts))]
    folders = [write_made_pack(work / name, config, model, name, sizes) for name in names]
    largest = max(_bytes(folder) for folder in folders)
    found: dict[str, dict[str, Any]] = {}
    for count in counts:
        of_count: dict[str, Any] = {}
        for method in methods:
            if progress is not None:
                progress(f"composing {count} packs, {method}")
            of_count[method] = _compose(work, folders[:count], method, rounds, largest)
        found[str(count)] = of_count
    return {
        "composing": found,
        "pack_bytes": largest,
        "memory": RESIDENT_METHOD,
        "method": METHOD,
    }


def _compose(
    work: Path, folders: Sequence[Path], method: Method, rounds: int, largest: int
) -> dict[str, Any]:
    seconds: list[float] = []
    peaks: list[int] = []
    made = 0
    for number in range(rounds):
        out = work / f"{method}-{len(folders)}-{number}"

        def run(out: Path = out) -> None:
            request = CompositionRequest(method=method, options=MergeOptions())
            write_composition(out, compose(open_parts(folders, None), request))

        begun = time.perf_counter()
        one = measured(run)
        seconds.append(time.perf_counter() - begun)
        if one.peak_bytes is not None:
            peaks.append(one.peak_bytes)
        made = _bytes(out)
    peak = max(peaks, default=None)
    return {
        "seconds": round(float(np.median(seconds)), 3),
        "peak_bytes": peak,
        "peak_by_largest_input": None if peak is None else round(peak / largest, 2),
        "pack_bytes": made,
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
