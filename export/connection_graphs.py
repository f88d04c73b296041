"""Builds the tiny graphs of connections; their weights are inputs, so one graph serves all packs.

Standard ONNX operators only. The weights' names and shapes are in `runtime/connections.py`.
"""

from __future__ import annotations

from pathlib import Path

from ..runtime.connections import ConnectionSpec
from ..runtime.model_config import LanguageModelConfig
from .graph import GraphBuilder
from .recipes import CONNECTION

#: See `recipes.py`: to be changed there with this file.
RECIPE = CONNECTION

_EPSILON = 1e-5


def build_connection(spec: ConnectionSpec, config: LanguageModelConfig, path: Path) -> None:
    """Write the graph of a connection.

    Args:
        spec: of the connection.
        config: of the language model.
        path: the `.onnx` file to write.
    """
    if spec.kind == "plain":
        _build_aligners(path)
    else:
        _Conditioned(spec, config).build(path)


def _build_aligners(path: Path) -> None:
    """Key and value aligner: two linear layers with a GELU between, for any sizes."""
    graph = GraphBuilder("aligners")
    tokens = graph.input("tokens", "float32", ["tokens", "width"])
    for side in ("key", "value"):
        w1 = graph.input(f"{side}.w1", "float32", ["width", "hidden"])
        b1 = graph.input(f"{side}.b1", "float32", ["hidden"])
        w2 = graph.input(f"{side}.w2", "float32", ["hidden", "out"])
        b2 = graph.input(f"{side}.b2", "float32", ["out"])
        inner = graph.op("Gelu", graph.op("Add", graph.op("MatMul", tokens, w1), b1))
        graph.output(
            graph.op("Add", graph.op("MatMul", inner, w2), b2), side, "float32", ["tokens", "out"]
        )
    graph.save(path)


class _Conditioned:
    """A pre-norm transformer over `[summary ; sensor rows ; question states]`."""

    def __init__(self, spec: ConnectionSpec, config: LanguageModelConfig) -> None:
        self._spec = spec
        self._config = config
        self._graph = GraphBuilder("conditioned_connection")

    def build(self, path: Path) -> None:
        graph, spec = self._graph, self._spec
        hidden = self._config.hidden_size
        out = spec.blocks_out * self._config.num_kv_heads * self._config.head_dim
        rows = graph.input("rows", "float32", ["rows", spec.width])
        states = graph.input("states", "float32", ["questions", "tokens", hidden])
        bias = graph.input("bias", "float32", ["questions", 1, 1, "total"])
        summary = graph.input("summary", "float32", [1, spec.width])
        scene = graph.op("Unsqueeze", graph.op("Concat", summary, rows, axis=0), graph.ints(0))
        count = graph.op("Shape", states, start=0, end=1)
        width = graph.op("Shape", scene, start=1, end=3)
        scene = graph.op("Expand", scene, graph.op("Concat", count, width, axis=0))
        x = graph.op("Concat", scene, self._question(states), axis=1)
        for layer in range(spec.layers):
            x = self._layer(x, bias, f"layer{layer}")
        # Only the summary and the sensors become keys and values, not the question's own states.
        kept = graph.op("Shape", scene, start=1, end=2)
        x = graph.op("Slice", x, graph.ints(0), kept, graph.ints(1))
        x = self._norm(x, "final.norm")
        for side in ("key", "value"):
            value = self._linear(x, side, spec.width, out)
            graph.output(value, side, "float32", ["questions", "kept", out])
        graph.save(path)

    def _question(self, states: str) -> str:
        """Head states have outlier channels; normalise them before the small projection."""
        graph, hidden = self._graph, self._config.hidden_size
        weight = graph.input("question.norm", "float32", [hidden])
        square = graph.op("ReduceMean", graph.op("Mul", states, states), graph.ints(-1))
        scale = graph.op("Sqrt", graph.op("Add", square, graph.scalar(_EPSILON)))
        normed = graph.op("Mul", graph.op("Div", states, scale), weight)
        return self._linear(normed, "question", hidden, self._spec.width)

    def _linear(self, x: str, name: str, rows: int, columns: int) -> str:
        graph = self._graph
        weight = graph.input(f"{name}.w", "float32", [rows, columns])
        bias = graph.input(f"{name}.b", "float32", [columns])
        return graph.op("Add", graph.op("MatMul", x, weight), bias)

    def _norm(self, x: str, name: str) -> str:
        graph, width = self._graph, self._spec.width
        weight = graph.input(f"{name}.w", "float32", [width])
        bias = graph.input(f"{name}.b", "float32", [width])
        return graph.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=_EPSILON)

    def _layer(self, x: str, bias: str, name: str) -> str:
        graph, width = self._graph, self._spec.width
        attended = self._attention(self._norm(x, f"{name}.norm1"), bias, name)
        x = graph.op("Add", x, self._linear(attended, f"{name}.out", width, width))
        inner = self._linear(self._norm(x, f"{name}.norm2"), f"{name}.ffn1", width, 4 * width)
        return graph.op(
            "Add", x, self._linear(graph.op("Gelu", inner), f"{name}.ffn2", 4 * width, width)
        )

    def _attention(self, x: str, bias: str, name: str) -> str:
        graph, width, heads = self._graph, self._spec.width, self._spec.heads
        head_dim = width // heads
        packed = self._linear(x, f"{name}.qkv", width, 3 * width)
        split = graph.op("Reshape", packed, graph.ints(0, 0, 3, heads, head_dim))
        parts = graph.op("Transpose", split, perm=[2, 0, 3, 1, 4])
        q, k, v = (
            graph.op("Squeeze", part, graph.ints(0))
            for part in graph.multi("Split", [parts], 3, axis=0, num_outputs=3)
        )
        scores = graph.op("MatMul", q, graph.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = graph.op("Mul", scores, graph.scalar(head_dim**-0.5))
        weights = graph.op("Softmax", graph.op("Add", scores, bias), axis=-1)
        mixed = graph.op("Transpose", graph.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        return graph.op("Reshape", mixed, graph.ints(0, 0, width))
