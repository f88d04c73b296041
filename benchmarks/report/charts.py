"""The charts of the page: accuracy against FLOPs, a frame's time, memory, peers, growth.

Each gives a drawing and the same figures as rows of a table, for those who read rather than see.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .svg import COLOURS, Drawing, Scale, axes, number

Rows = list[tuple[str, ...]]

#: So few single points have their names beside them.
_NAMED = 8
#: About as wide as a letter, and as high as a line, of such a name.
_LETTER, _LINE = 5.6, 13.0


@dataclass(frozen=True)
class Chart:
    """A drawing with its figures.

    Attributes:
        drawing: to be seen.
        rows: the same figures, the first row names the columns.
        key: what colours mean, as (class, name).
    """

    drawing: str
    rows: Rows
    key: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Point:
    """Something with a cost and an accuracy."""

    name: str
    gflop: float
    accuracy: float
    interval: Sequence[float] | None = None


def pareto(
    curves: Mapping[str, Sequence[Point]],
    dots: Sequence[Point],
    levels: Mapping[str, float],
    dots_name: str = "one plan, fixed",
) -> Chart:
    """Accuracy against FLOPs a frame.

    Args:
        curves: points that belong together, by name.
        dots: single ones, e.g. fixed plans.
        levels: accuracies without a cost, e.g. of blind guesses.
        dots_name: what the single ones are.
    """
    points = [*dots, *(point for curve in curves.values() for point in curve)]
    drawing = Drawing(960, 420, "Accuracy against GFLOP a frame")
    most = max((point.gflop for point in points), default=1.0)
    shares = [point.accuracy for point in points] + list(levels.values())
    ends = [end for point in points for end in point.interval or ()]
    low, high = min([*shares, *ends]), max([*shares, *ends])
    margin = 0.08 * (high - low or 0.1)
    x = Scale(0, most * 1.05, 64, 940)
    y = Scale(max(low - margin, 0), min(high + margin, 1), 370, 28)
    axes(drawing, x, y, x_name="GFLOP a frame (mean)", y_name="right answers", percent=True)
    for level in dict.fromkeys(levels.values()):
        names = ", ".join(name for name, value in levels.items() if value == level)
        drawing.line(x.begin, y(level), x.end, y(level), "level")
        drawing.text(x.end, y(level) - 5, f"{names} {level:.1%}", "tick end")
    for point in dots:
        at, height = x(point.gflop), y(point.accuracy)
        drawing.circle(at, height, 3.5 if curves else 6, "dot", _told(point))
    if len(dots) <= _NAMED:
        _name_dots(drawing, [(x(p.gflop), y(p.accuracy), p.name) for p in dots], x)
    key: list[tuple[str, str]] = [("dot", dots_name)] if dots else []
    for colour, (name, curve) in zip(COLOURS * 3, curves.items(), strict=False):
        ordered = sorted(curve, key=lambda point: point.gflop)
        drawing.polyline([(x(p.gflop), y(p.accuracy)) for p in ordered], f"curve {colour}")
        for point in ordered:
            if point.interval:
                at = x(point.gflop)
                drawing.line(at, y(point.interval[0]), at, y(point.interval[1]), f"bar {colour}")
            drawing.circle(x(point.gflop), y(point.accuracy), 4.5, f"fill {colour}", _told(point))
        key.append((colour, name))
    rows: Rows = [("", "plan", "GFLOP a frame", "right", "95 %")]
    for name, curve in {**curves, "fixed": dots}.items():
        rows += [
            (name, point.name, f"{point.gflop:.2f}", f"{point.accuracy:.1%}", _span(point))
            for point in curve
        ]
    rows += [(name, "", "0", f"{level:.1%}", "") for name, level in levels.items()]
    return Chart(str(drawing), rows, key)


def _name_dots(drawing: Drawing, dots: Sequence[tuple[float, float, str]], x: Scale) -> None:
    """Names beside dots, moved up or down where they would lie on each other."""
    taken: list[tuple[float, float, float]] = []
    for at, height, name in sorted(dots):
        to_left = at > (x.begin + x.end) / 2
        width = _LETTER * len(name)
        left = at - 11 - width if to_left else at + 11
        for move in (4, -12, 20, -28, 36, -44, 52):
            line = height + move
            if all(
                abs(line - other) >= _LINE or left > end or left + width < begin
                for begin, end, other in taken
            ):
                break
        taken.append((left, left + width, line))
        drawing.text(at + (-11 if to_left else 11), line, name, "tick end" if to_left else "tick")


def waterfall(
    stages: Mapping[str, Mapping[str, float]],
    total: Mapping[str, float],
    ceiling_ms: float | None,
) -> Chart:
    """How a frame's time adds up: medians of the stages one behind the other.

    Args:
        stages: `median`, `p90` and `p99` of each, in order.
        total: the same of whole frames.
        ceiling_ms: the least that is possible; None if nobody knows.
    """
    height = 64 + 30 * (len(stages) + 1)
    drawing = Drawing(960, height, "Latency of a frame, stage by stage")
    most = max(total["p99"], sum(stage["median"] for stage in stages.values()))
    x = Scale(0, most * 1.04, 150, 880)
    for value in x.ticks(8):
        drawing.line(x(value), 16, x(value), height - 40, "grid")
        drawing.text(x(value), height - 22, number(value), "tick middle")
    drawing.text((x.begin + x.end) / 2, height - 4, "milliseconds", "label middle")
    begin = 0.0
    rows: Rows = [("stage", "p50 ms", "p90 ms", "p99 ms")]
    for place, (name, stage) in enumerate(stages.items()):
        y, colour = 20 + 30 * place, COLOURS[place % len(COLOURS)]
        end = begin + stage["median"]
        tip = f"{name}: median {stage['median']:.1f} ms, p90 {stage['p90']:.1f} ms"
        drawing.text(x.begin - 10, y + 15, name, "label end")
        drawing.rect(x(begin), y, max(x(end) - x(begin), 1.5), 20, f"fill {colour}", tip)
        drawing.text(x(end) + 6, y + 15, f"{stage['median']:.1f}", "tick")
        drawing.line(x(end), y, x(end), y + 30, "grid strong")
        begin = end
        rows.append((name, *(f"{stage[key]:.2f}" for key in ("median", "p90", "p99"))))
    y = 20 + 30 * len(stages)
    drawing.text(x.begin - 10, y + 15, "whole frame", "label end strong")
    drawing.rect(
        x(0), y, x(total["median"]) - x(0), 20, "fill whole", f"median {total['median']:.1f} ms"
    )
    for key in ("p90", "p99"):
        drawing.line(x(total[key]), y - 2, x(total[key]), y + 22, "mark")
        drawing.text(x(total[key]) + 3, y + 34, key, "tick")
    rows.append(("whole frame", *(f"{total[key]:.2f}" for key in ("median", "p90", "p99"))))
    if ceiling_ms is not None:
        drawing.line(x(ceiling_ms), 12, x(ceiling_ms), height - 40, "level")
        drawing.text(x(ceiling_ms) + 4, 12, f"ceiling {ceiling_ms:.0f} ms", "tick")
        rows.append(("ceiling of this machine", f"{ceiling_ms:.2f}", "", ""))
    return Chart(str(drawing), rows)


def bars(
    values: Mapping[str, float],
    unit: str,
    tips: Mapping[str, str] | None = None,
    others: Container[str] = (),
) -> Chart:
    """Horizontal bars, the longest value at the full width.

    Args:
        values: by name, in order.
        unit: of the values.
        tips: longer texts of some.
        others: drawn paler, to be compared with.
    """
    height = 24 + 30 * len(values)
    drawing = Drawing(960, height, ", ".join(values))
    x = Scale(0, max([*values.values(), 1e-12]), 260, 850)
    rows: Rows = [("", unit)]
    for place, (name, value) in enumerate(values.items()):
        y = 8 + 30 * place
        tip = (tips or {}).get(name, f"{name}: {number(value)} {unit}")
        drawing.text(x.begin - 10, y + 15, name, "label end")
        colour = "paler" if name in others else COLOURS[0]
        drawing.rect(x(0), y, max(x(value) - x(0), 1.5), 20, f"fill {colour}", tip)
        drawing.text(x(value) + 6, y + 15, f"{number(value)} {unit}", "tick")
        rows.append((name, number(value)))
    return Chart(str(drawing), rows)


def stacked(parts: Mapping[str, float], total: float, rest: str, unit: str) -> Chart:
    """One bar of parts, and what is left of a total.

    Args:
        parts: by name.
        total: of all, at least their sum.
        rest: what the remainder is called.
        unit: of the values.
    """
    shown = {**parts, rest: max(total - sum(parts.values()), 0.0)}
    drawing = Drawing(960, 64, f"Parts of {number(total)} {unit}")
    x = Scale(0, sum(shown.values()) or 1.0, 10, 950)
    begin, key, rows = 0.0, [], [("part", unit, "share")]
    for colour, (name, value) in zip((*COLOURS, "c7", "c8"), shown.items(), strict=False):
        kind = "other" if name == rest else colour
        share = value / (sum(shown.values()) or 1.0)
        drawing.rect(
            x(begin),
            10,
            x(begin + value) - x(begin),
            40,
            f"fill {kind}",
            f"{name}: {number(value)} {unit}, {share:.0%}",
        )
        begin += value
        key.append((kind, f"{name} {number(value)}"))
        rows.append((name, number(value), f"{share:.1%}"))
    return Chart(str(drawing), rows, key)


def growth_lines(axes_found: Mapping[str, Mapping[str, Any]]) -> Chart:
    """Time along each axis of `bench scale`, side by side."""
    width = 960 / max(len(axes_found), 1)
    drawing = Drawing(960, 230, "How time grows along each axis")
    rows: Rows = [("axis", "sizes", "ms", "GFLOP", "ms each more", "power of FLOPs")]
    for place, (name, one) in enumerate(axes_found.items()):
        sizes, times = one["sizes"], one["ms"]
        left = place * width
        x = Scale(0, max(sizes), left + 44, left + width - 14)
        y = Scale(0, max(times) * 1.1, 178, 34)
        for value in y.ticks(3):
            drawing.line(x.begin, y(value), x.end, y(value), "grid")
            drawing.text(x.begin - 5, y(value) + 4, number(value), "tick end")
        drawing.polyline([(x(s), y(t)) for s, t in zip(sizes, times, strict=True)], "curve c1")
        for size, ms in zip(sizes, times, strict=True):
            drawing.circle(x(size), y(ms), 3.5, "fill c1", f"{size}: {ms:.1f} ms")
        for size in (sizes[0], sizes[-1]):
            drawing.text(x(size), 194, str(size), "tick middle")
        drawing.text((x.begin + x.end) / 2, 214, name, "label middle")
        drawing.text(x.begin - 34, 22, "ms" if place == 0 else "", "tick")
        rows.append(
            (
                name,
                ", ".join(map(str, sizes)),
                ", ".join(f"{ms:.1f}" for ms in times),
                ", ".join(f"{flops / 1e9:.2f}" for flops in one["flops"]),
                f"{one['time']['slope']:+.2f}",
                f"{one['counted']['exponent']:.2f}",
            )
        )
    return Chart(str(drawing), rows)


def _told(point: Point) -> str:
    return f"{point.name}: {point.accuracy:.1%} right at {point.gflop:.2f} GFLOP"


def _span(point: Point) -> str:
    return "" if not point.interval else f"{point.interval[0]:.1%} to {point.interval[1]:.1%}"
