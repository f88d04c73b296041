"""Formulas of graphs in Python's notation: `x * 2 + y` adds a Mul and an Add.

For element-wise arithmetic on float32 values whose last axis holds the parts of a vector; layers
are built with `GraphBuilder` itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .graph import GraphBuilder


class Expression:
    """A float32 value of a graph, `[..., parts]`, that arithmetic can be done with."""

    def __init__(self, graph: GraphBuilder, name: str) -> None:
        self.graph = graph
        self.name = name

    def __add__(self, other: Expression | float) -> Expression:
        return self._with("Add", other)

    def __sub__(self, other: Expression | float) -> Expression:
        return self._with("Sub", other)

    def __mul__(self, other: Expression | float) -> Expression:
        return self._with("Mul", other)

    def __truediv__(self, other: Expression | float) -> Expression:
        return self._with("Div", other)

    def sqrt(self) -> Expression:
        return self._node("Sqrt")

    def exp(self) -> Expression:
        return self._node("Exp")

    def sin(self) -> Expression:
        return self._node("Sin")

    def cos(self) -> Expression:
        return self._node("Cos")

    def reciprocal(self) -> Expression:
        return self._node("Reciprocal")

    def sigmoid(self) -> Expression:
        return self._node("Sigmoid")

    def softmax(self) -> Expression:
        """Over the parts."""
        return self._node("Softmax", axis=-1)

    def clipped(self, low: float | None, high: float) -> Expression:
        """Not below `low`, where there is one, and not above `high`."""
        floor = "" if low is None else self.graph.scalar(low)
        return self._node("Clip", floor, self.graph.scalar(high))

    def above(self, limit: float) -> Expression:
        """1 where the value is greater than `limit`, else 0."""
        is_above = self.graph.op("Greater", self.name, self.graph.scalar(limit))
        return Expression(self.graph, self.graph.op("Cast", is_above, to=1))

    def likeliest(self) -> Expression:
        """1 where a value is the largest of its last axis, else 0."""
        largest = self._node("ReduceMax", self.graph.ints(-1), keepdims=1)
        is_it = self.graph.op("GreaterOrEqual", self.name, largest.name)
        return Expression(self.graph, self.graph.op("Cast", is_it, to=1))

    def part(self, start: int, stop: int | None = None, axis: int = -1) -> Expression:
        """Parts `start` up to `stop`, or the one at `start`; the axis stays."""
        end = start + 1 if stop is None else stop
        ints = self.graph.ints
        return self._node("Slice", ints(start), ints(end), ints(axis))

    def split(self, sizes: Sequence[int]) -> list[Expression]:
        """Neighbouring parts of the given sizes."""
        names = self.graph.multi("Split", [self.name, self.graph.ints(*sizes)], len(sizes), axis=-1)
        return [Expression(self.graph, name) for name in names]

    def total(self) -> Expression:
        """The sum of the parts, `[..., 1]`."""
        return self._node("ReduceSum", self.graph.ints(-1), keepdims=1)

    def _with(self, operator: str, other: Expression | float) -> Expression:
        right = other.name if isinstance(other, Expression) else self.graph.scalar(other)
        return self._node(operator, right)

    def _node(self, operator: str, *others: str, **attributes: Any) -> Expression:
        return Expression(self.graph, self.graph.op(operator, self.name, *others, **attributes))


def joined(parts: Sequence[Expression], axis: int = -1) -> Expression:
    """Values one after the other along an axis."""
    graph = parts[0].graph
    return Expression(graph, graph.op("Concat", *(part.name for part in parts), axis=axis))
