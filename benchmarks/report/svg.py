"""Small drawings as SVG text: shapes, scales and axes, coloured by classes of the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

#: Of `page.css`: colours that people with any colour vision tell apart, in both themes.
COLOURS = ("c1", "c2", "c3", "c4", "c5", "c6")


class Drawing:
    """An SVG being drawn; coordinates are pixels at a width of 1."""

    def __init__(self, width: float, height: float, title: str) -> None:
        """Start one.

        Args:
            width: of its coordinates; on the page it is as wide as there is room.
            height: likewise.
            title: read to those who cannot see it.
        """
        self.width, self.height, self._title = width, height, title
        self._parts: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, kind: str, tip: str = ""
    ) -> None:
        """A rectangle; `tip` shows when it is pointed at."""
        self._shape(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" '
            f'height="{max(height, 0):.1f}" rx="2" class="{kind}"',
            "rect",
            tip,
        )

    def circle(self, x: float, y: float, radius: float, kind: str, tip: str = "") -> None:
        """A disc."""
        self._shape(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{kind}"', "circle", tip
        )

    def path(self, commands: str, kind: str, tip: str = "") -> None:
        """Any path."""
        self._shape(f'<path d="{commands}" class="{kind}"', "path", tip)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line."""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
        )

    def polyline(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Straight lines through points."""
        if points:
            through = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            self._parts.append(f'<polyline points="{through}" class="{kind}"/>')

    def text(self, x: float, y: float, text: str, kind: str = "label") -> None:
        """A piece of text, from `x` on unless the class says otherwise."""
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>')

    def _shape(self, begin: str, name: str, tip: str) -> None:
        if tip:
            self._parts.append(f"{begin}><title>{escape(tip)}</title></{name}>")
        else:
            self._parts.append(f"{begin}/>")

    def __str__(self) -> str:
        return (
            f'<svg viewBox="0 0 {self.width:.0f} {self.height:.0f}" role="img" '
            f'aria-label="{escape(self._title)}" style="min-width:{min(self.width, 560):.0f}px">'
            f"{''.join(self._parts)}</svg>"
        )


@dataclass(frozen=True)
class Scale:
    """From values to pixels.

    Attributes:
        low: value at `begin`.
        high: value at `end`.
        begin: pixel.
        end: pixel.
    """

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low or 1.0)
        return self.begin + share * (self.end - self.begin)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values between low and high."""
        return ticks(self.low, self.high, about)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Some round values (1, 2 or 5 times a power of ten apart) in a range."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = span / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number as short as it is readable."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100 or value == round(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2g}"


def axes(
    drawing: Drawing, x: Scale, y: Scale, *, x_name: str, y_name: str, percent: bool = False
) -> None:
    """Grid lines, numbers and names of two axes."""
    for value in y.ticks():
        at = y(value)
        drawing.line(x.begin, at, x.end, at, "grid")
        told = f"{100 * value:.0f} %" if percent else number(value)
        drawing.text(x.begin - 8, at + 4, told, "tick end")
    for value in x.ticks(8):
        drawing.line(x(value), y.begin, x(value), y.begin + 4, "grid")
        drawing.text(x(value), y.begin + 18, number(value), "tick middle")
    drawing.text((x.begin + x.end) / 2, y.begin + 36, x_name, "label middle")
    drawing.text(x.begin - 8, y.end - 12, y_name, "label end-left")
