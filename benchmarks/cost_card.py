"""The cost card of a pack: parameters, FLOPs, bytes and operators of its parts, and of its plans.

All of it is counted: by the formulas that the runtime itself plans with, and by reading the graphs
of the engines. Only the ceilings rest on measured peaks of the machine. Nothing runs here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..runtime.answering import AskedQuestion
from ..runtime.cost import WEIGHT_BYTES
from ..runtime.frame_cost import FrameCost, LookFlops
from ..runtime.model_config import Precision
from ..runtime.parts import RuntimeParts
from ..runtime.plans import SensorAction
from ..runtime.vocabulary import VocabularyTable
from .machine_probes import MachinePeaks

METHOD = (
    "Counted, not measured. FLOPs: 2 per multiply-add of matrix products, by the formulas that "
    "plans are made with, for the questions named, all encoders running and nothing reused; what "
    "decoding adds depends on the answers and is left out. weight_bytes: weights that a frame "
    "reads, each once, encoders once for all frames of their batch. operators: nodes of the "
    "engines' graphs. ceiling_ms: for each stage the longer of FLOPs over the measured peak and "
    "bytes over the measured bandwidth, added up; no frame can be faster on this machine."
)
_FLOAT_BYTES = 4


def cost_card(
    parts: RuntimeParts,
    asked: Sequence[AskedQuestion],
    graphs: Mapping[str, Path],
    sensors: Sequence[str],
    peaks: MachinePeaks | None,
) -> dict[str, Any]:
    """Count everything.

    Args:
        parts: of a runtime.
        asked: standing questions that a frame answers, with heads.
        graphs: of its engines, as `EngineAssembly.graphs` names them.
        sensors: that a full frame encodes.
        peaks: of this machine; None leaves the ceilings out.
    """
    facts = {name: graph_facts(path) for name, path in graphs.items()}
    constants = {
        name: facts[key]["constants"]
        for name, spec in parts.pack.encoders.items()
        if (key := f"encoder {spec.label}") in facts
    }
    card = _Card(parts, asked, sensors, peaks, constants)
    return {
        "parts": card.parts(),
        "memory": card.memory(),
        "questions": [
            {"text": one.question.text, "tokens": len(one.head.token_ids)} for one in asked
        ],
        "plans": card.plans(),
        "operators": dict(
            sorted(sum((one["operators"] for one in facts.values()), Counter()).items())
        ),
        "engines": {
            name: {**one, "operators": sum(one["operators"].values())}
            for name, one in facts.items()
        },
        "method": METHOD,
    }


def graph_facts(path: Path) -> dict[str, Any]:
    """Operators, constant elements and file bytes of an engine's graph.

    Args:
        path: of the graph; large constants lie beside it.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    beside = path.with_suffix(".bin")
    return {
        "operators": Counter(node.op_type for node in graph.node),
        "constants": sum(math.prod(tensor.dims) for tensor in graph.initializer),
        "file_bytes": path.stat().st_size + (beside.stat().st_size if beside.exists() else 0),
    }


class _Card:
    def __init__(
        self,
        parts: RuntimeParts,
        asked: Sequence[AskedQuestion],
        sensors: Sequence[str],
        peaks: MachinePeaks | None,
        encoder_constants: Mapping[str, int],
    ) -> None:
        self._parts, self._asked, self._sensors, self._peaks = parts, asked, sensors, peaks
        self._constants = encoder_constants
        self._cost: FrameCost = parts.frame_cost()
        self._model, self._config = self._cost.model, parts.model.config
        self._precision: Precision = parts.model.manifest.precision
        self._lengths = [len(one.head.token_ids) for one in asked]
        self._encoder_bytes = {name: n * _FLOAT_BYTES for name, n in encoder_constants.items()}

    def parts(self) -> dict[str, Any]:
        """What each part has and costs."""
        return {
            **{f"encoder {name}": self._encoder(name) for name in self._parts.pack.encoders},
            "connection": self._connection(),
            "language model": self._language_model(),
        }

    def _encoder(self, name: str) -> dict[str, Any]:
        spec, flops = self._parts.pack.encoders[name], self._parts.encoder_flops[name]
        frames = sum(self._encoder_of(sensor) == name for sensor in self._sensors)
        return {
            "parameters": self._constants.get(name, 0),
            "weight_bytes": self._encoder_bytes.get(name, 0),
            "frames": frames,
            "flops_per_frame": flops,
            "flops": flops * frames,
            "tokens_per_frame": spec.tokens,
            "token_width": spec.width,
        }

    def _connection(self) -> dict[str, Any]:
        weights = self._parts.connection.weights.values()
        stages = self._stages(self._sensors, self._parts.pack.tail_blocks)
        return {
            "kind": self._parts.connection.spec.kind,
            "parameters": sum(weight.size for weight in weights),
            "weight_bytes": sum(weight.nbytes for weight in weights),
            "flops": stages.connect,
            "prefix_rows": self._rows(),
        }

    def _language_model(self) -> dict[str, Any]:
        manifest, config = self._parts.model.manifest, self._config
        block, depth = self._model.block_weights(), self._parts.pack.tail_blocks
        boundary, tokens = self._boundary(depth), self._tokens(self._sensors)
        longest = max(self._lengths, default=1)
        return {
            "name": manifest.name,
            "precision": self._precision,
            "blocks": config.num_blocks,
            "parameters": config.num_blocks * block
            + sum(math.prod(table.shape) for table in self._tables()),
            "parameters_per_block": block,
            "weight_bytes": self._model.weight_bytes(self._precision),
            "vocabulary_bytes": sum(table.nbytes for table in self._tables()),
            "head_weight_bytes": round(boundary * block * WEIGHT_BYTES[self._precision]),
            "head_flops_once": sum(
                self._cost.head(length, boundary, depth) for length in self._lengths
            ),
            "tail_flops_by_depth": {
                str(each): self._stages(self._sensors, each).tail for each in self._parts.depths()
            },
            "decode_flops_per_token": self._model.decode_step(1, longest + 1, boundary, tokens)
            + self._model.logits(1),
        }

    def _tables(self) -> list[VocabularyTable]:
        """Embeddings, and the output matrix where it is another one."""
        model = self._parts.model
        tied = model.manifest.embedding_table == model.manifest.head_table
        return [model.embedding] if tied else [model.embedding, model.head_rows]

    def _rows(self) -> int:
        tokens = self._tokens(self._sensors)
        return self._cost.connection.packed_rows(tokens, len(self._asked))

    def memory(self) -> dict[str, int]:
        """Bytes that parts hold; what a back end keeps beside weights is for `bench memory`."""
        connection = self._parts.connection.weights
        config = self._config
        row_bytes = 2 * config.num_kv_heads * config.head_dim * _FLOAT_BYTES
        return {
            **{f"encoder {name}": size for name, size in self._encoder_bytes.items()},
            "connection": sum(weight.nbytes for weight in connection.values()),
            "language model blocks": self._model.weight_bytes(self._precision),
            "language model vocabulary": sum(table.nbytes for table in self._tables()),
            "heads of standing questions": sum(one.head.nbytes for one in self._asked),
            "prefix of a frame": self._rows() * self._parts.pack.tail_blocks * row_bytes,
        }

    def plans(self) -> list[dict[str, Any]]:
        """Cost of some sets of sensors at all depths."""
        return [
            self._plan(name, sensors, depth)
            for name, sensors in self._sensor_sets().items()
            for depth in self._parts.depths()
        ]

    def _sensor_sets(self) -> dict[str, list[str]]:
        """All sensors, those of one modality, one of each modality, and none."""
        sets: dict[str, list[str]] = {"all sensors": list(self._sensors)}
        encoders = self._parts.pack.encoders
        modalities = {s: encoders[self._encoder_of(s)].modality for s in self._sensors}
        for modality in dict.fromkeys(modalities.values()):
            same = [sensor for sensor in self._sensors if modalities[sensor] == modality]
            sets.setdefault(f"{modality} alone", same)
            sets.setdefault(f"{same[0]} alone", same[:1])
        unique: dict[tuple[str, ...], str] = {}
        for name, sensors in sets.items():
            unique.setdefault(tuple(sensors), name)
        return {**{name: list(sensors) for sensors, name in unique.items()}, "no sensor": []}

    def _plan(self, name: str, sensors: Sequence[str], depth: int) -> dict[str, Any]:
        stages = self._stages(sensors, depth)
        flops = {"encode": stages.encode, "connect": stages.connect, "tail": stages.tail}
        encoders = {self._encoder_of(sensor) for sensor in sensors}
        connection = self._parts.connection.weights
        read = {
            "encode": sum(self._encoder_bytes.get(encoder, 0) for encoder in encoders),
            "connect": sum(weight.nbytes for weight in connection.values()) if sensors else 0,
            "tail": round(
                (self._config.num_blocks - self._boundary(depth))
                * self._model.block_weights()
                * WEIGHT_BYTES[self._precision]
            ),
        }
        return {
            "plan": f"{name}, tail {depth}",
            "sensors": list(sensors),
            "tail_blocks": depth,
            "flops": stages.total,
            "flops_by_stage": flops,
            "weight_bytes": sum(read.values()),
            "flops_per_byte": stages.total / max(sum(read.values()), 1),
            "ceiling_ms": self._ceiling(flops, read),
        }

    def _ceiling(self, flops: Mapping[str, int], read: Mapping[str, int]) -> float | None:
        if self._peaks is None:
            return None
        precisions: dict[str, Precision] = {
            "encode": "fp32",
            "connect": "fp32",
            "tail": self._precision,
        }
        return sum(
            self._peaks.ceiling_ms(flops[stage], read[stage], precision)
            for stage, precision in precisions.items()
        )

    def _stages(self, sensors: Sequence[str], depth: int) -> LookFlops:
        actions: dict[str, SensorAction] = dict.fromkeys(sensors, "run")
        return self._cost.stages(actions, (), self._boundary(depth), self._lengths, depth)

    def _boundary(self, depth: int) -> int:
        return self._parts.model.boundary(depth)

    def _tokens(self, sensors: Sequence[str]) -> int:
        return sum(self._cost.encoders[sensor].tokens for sensor in sensors)

    def _encoder_of(self, sensor: str) -> str:
        return self._parts.pack.sensor_encoders[sensor]
