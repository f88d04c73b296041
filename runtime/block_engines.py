"""The blocks of a language model as engines: embed, then groups of blocks.

Where C runs the blocks (`native_blocks.py`), they are loaded only if they are needed after all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .apart import ApartLayout
from .engine import Array, Engine
from .head_state import Float, KeyValue
from .late_engine import LateEngine
from .lora import Lora, lora_inputs
from .model_config import LanguageModelConfig
from .model_manifest import BlockGroup, ModelManifest
from .on_device import run_keeping
from .packing import MASKED, PackedLayout
from .vocabulary import VocabularyTable


class BlockEngines:
    """Runs embeddings and groups of blocks.

    Attributes:
        config: of the model.
        embedding: rows of tokens.
        embed: engine in front of the first block.
        groups: of blocks, with their engines.
        attends_apart: whether packed texts can attend each to itself alone.
    """

    config: LanguageModelConfig
    embedding: VocabularyTable
    embed: Engine
    groups: list[tuple[BlockGroup, Engine]]
    attends_apart: bool

    def _open_blocks(
        self, load: Callable[[str], Engine], folder: Path, manifest: ModelManifest, *, late: bool
    ) -> None:
        """Load the engines.

        Args:
            load: an engine by the name of its file.
            folder: of the files.
            manifest: names them.
            late: whether engines are loaded when they are first used.

        Raises:
            EngineError: a file is missing, or corrupt.
        """

        def opened(file: str) -> Engine:
            path = folder / file
            # A file that is missing is told now.
            return (
                LateEngine(lambda: load(file), str(path)) if late and path.is_file() else load(file)
            )

        self.config = manifest.config
        self.embedding = VocabularyTable(folder / manifest.embedding_table)
        self.embed = opened(manifest.embed_file)
        self.groups = [(group, opened(group.file)) for group in manifest.groups]
        self.attends_apart = late or all(
            any(spec.name == "apart" for spec in engine.input_specs) for _, engine in self.groups
        )

    def _close_blocks(self) -> None:
        """Free all engines."""
        for engine in [self.embed, *(engine for _, engine in self.groups)]:
            engine.close()

    def embed_tokens(
        self, ids: NDArray[np.int64], positions: NDArray[np.int64], lora: Lora | None = None
    ) -> KeyValue:
        """Residual stream and first projections of tokens at `positions` (`[1, tokens]`)."""
        return self.embed_rows(self.embedding.rows(ids), positions, lora)

    def embed_rows(
        self, rows: Float, positions: NDArray[np.int64], lora: Lora | None = None
    ) -> KeyValue:
        """As `embed_tokens`, of embeddings `[tokens, embedding_size]`."""
        inputs: dict[str, Array] = {"embedding": rows[None]}
        inputs |= lora_inputs(self.config, lora, [0])
        if self.config.position == "learned":
            inputs["position_ids"] = positions
        outputs = self.embed.run(inputs)
        return outputs["residual"], outputs["qkv"]

    def run_group(
        self,
        group: BlockGroup,
        engine: Engine,
        residual: Float,
        qkv: Float,
        layout: PackedLayout,
        past: Mapping[int, KeyValue],
        bias: Mapping[int, Float],
        lora: Lora | None = None,
        apart: ApartLayout | None = None,
        *,
        keep: bool = False,
    ) -> dict[str, Float]:
        """Run one group of blocks over packed tokens.

        Args:
            group: the blocks.
            engine: of the group.
            residual: `[1, tokens, hidden_size]`.
            qkv: `[1, tokens, qkv_size]`, projections of the group's first block.
            layout: of the tokens.
            past: by block, keys and values in front of the tokens' own.
            bias: by block, see `packing.attention_bias`.
            lora: for the projections that the group computes; those of its first block came in.
            apart: where each text attends to itself alone; `past` and `bias` are then of each.
            keep: whether what the group gives stays on its device, but for `final`; of engines that
                have one (`on_device.py`).

        Returns:
            `residual` and `qkv`, or `final` from the last group; `key_<block>`, `value_<block>`.
        """
        rows = past[group.start][0].shape[2]
        if (
            apart is None
            and rows == 0
            and self.config.position == "rope"
            and not _is_run(layout.position_ids[0])
        ):
            return self._run_behind_masked_row(group, engine, residual, qkv, layout, bias, lora)
        total = rows + layout.tokens
        inputs: dict[str, Array] = {
            "residual_in": residual,
            "qkv_in": qkv,
            "past_and_new_minus_1": np.asarray([total - 1], dtype=np.int32),
            "past_and_new": np.asarray(total, dtype=np.int32),
        }
        if self.config.position == "rope":
            inputs["position_ids"] = layout.position_ids if apart is None else apart.position_ids
        inputs |= self.places(apart)
        if group.stop == self.config.num_blocks:
            inputs["last_index"] = layout.last_index
        factors = lora_inputs(self.config, lora, self.projected_blocks(group))
        inputs |= factors
        for block in range(group.start, group.stop):
            inputs[f"past_key_{block}"], inputs[f"past_value_{block}"] = past[block]
            inputs[f"bias_{block}"] = bias[block]
        kept = [spec.name for spec in engine.output_specs if spec.name != "final"] if keep else ()
        return run_keeping(engine, inputs, kept, factors if keep else ())

    def places(self, apart: ApartLayout | None) -> dict[str, Array]:
        """Inputs that say where texts lie apart, if these engines have such; None: together."""
        if not self.attends_apart:
            return {}
        if apart is not None:
            return {"apart": np.asarray(True), "unpack": apart.unpack, "pack": apart.pack}
        unused = np.zeros((1, 1), np.int64)
        return {"apart": np.asarray(False), "unpack": unused, "pack": unused[0]}

    def projected_blocks(self, group: BlockGroup) -> range:
        """Blocks whose projections a group computes: of the next group's first block too."""
        return range(group.start + 1, min(group.stop, self.config.num_blocks - 1) + 1)

    def _run_behind_masked_row(
        self,
        group: BlockGroup,
        engine: Engine,
        residual: Float,
        qkv: Float,
        layout: PackedLayout,
        bias: Mapping[int, Float],
        lora: Lora | None,
    ) -> dict[str, Float]:
        """Run packed texts that have nothing in front of them.

        Without past rows, ONNX Runtime's attention takes only the first position id and counts
        on; a masked row in front makes it read them all.
        """
        row = np.zeros((1, self.config.num_kv_heads, 1, self.config.head_dim), dtype=np.float32)
        masked = {
            block: np.concatenate([np.full_like(b[..., :1], MASKED), b], axis=-1)
            for block, b in bias.items()
        }
        past = dict.fromkeys(bias, (row, row))
        outputs = self.run_group(group, engine, residual, qkv, layout, past, masked, lora)
        for name, values in outputs.items():
            if name.startswith(("key_", "value_")):
                outputs[name] = values[:, :, 1:]
        return outputs


def _is_run(positions: NDArray[np.int64]) -> bool:
    return bool((np.diff(positions) == 1).all())


def group_caches(group: BlockGroup, outputs: Mapping[str, Float]) -> dict[int, KeyValue]:
    """Keys and values of a group's blocks, from its outputs."""
    return {
        block: (outputs[f"key_{block}"], outputs[f"value_{block}"])
        for block in range(group.start, group.stop)
    }
