"""Picture of an adaptation benchmark: accuracy over what switching cost, and what was won back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.files import write_atomic
from .adaptation_figures import NAMES, find_row
from .evaluation_plots import check_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Baselines have colours of their own, tails shades of one: the deeper the darker.
_COLOURS = {
    "full": "#d9822b",
    "lora": "#3a8f5c",
    "prompt": "#a8467c",
    "prefix-full": "#b03a2e",
    "prefix-lora": "#7fb069",
}
_LABELS = {
    "full": "full fine-tuning",
    "lora": "LoRA",
    "prompt": "prompt tuning",
    "prefix-full": "full fine-tuning, prefix",
    "prefix-lora": "LoRA on all blocks, prefix",
}
_GREY = "#777777"
#: Starts that differ by less are the same weights in other precisions.
_ALIKE = 0.02


def draw_adaptation(
    path: Path,
    rows: Sequence[dict[str, Any]],
    recovery: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    condition: str,
    blind: float,
) -> None:
    """Draw the figure of one condition.

    Args:
        path: of the PNG.
        rows: of the benchmark.
        recovery: by method, condition and change, see `adaptation_figures.figures`.
        condition: after the day.
        blind: accuracy of the best guess that sees no sensor; drawn as a line.

    Raises:
        ConfigError: matplotlib is not installed.
        CacheError: the file cannot be written.
    """
    check_matplotlib()
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(12.5, 4.7), dpi=140, layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    methods = list(recovery)
    for axes, change in ((left, "C->C+L"), (middle, "C->L")):
        for method in methods:
            row = find_row(rows, "switch", method, condition, change)
            if row is not None:
                _curve(axes, row, method, methods)
        before = _before(rows, condition, change, methods)
        if before is not None:
            axes.axhline(before, color=_GREY, ls=":", lw=1, label="before switching")
        axes.axhline(blind, color=_GREY, ls="--", lw=1, label="question only")
        axes.set(xscale="log", xlabel="TFLOP of switching", ylabel="held-out accuracy")
        # Runs lie within a decade or two, which powers of ten alone would leave unlabelled.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda flops, _: f"{flops / 1e12:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_title(f"{condition}: {change}", fontsize=10)
    lows, highs = zip(*(axes.get_ylim() for axes in (left, middle)), strict=True)
    for axes in (left, middle):
        axes.set_ylim(min(lows), max(highs))
    known = middle.get_legend_handles_labels()
    figure.legend(*known, frameon=False, fontsize=8, ncols=6, loc="outside lower left")
    _bars(right, recovery, condition, methods)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", lw=0.6, axis="both" if axes is not right else "y")
        axes.set_axisbelow(True)
    content = BytesIO()
    figure.savefig(content, format="png")
    write_atomic(path, content.getvalue())


def _before(
    rows: Sequence[dict[str, Any]], condition: str, change: str, methods: Sequence[str]
) -> float | None:
    """Accuracy before any training, where all methods start alike."""
    found = [find_row(rows, "switch", method, condition, change) for method in methods]
    starts = [row["accuracy_before"] for row in found if row is not None]
    alike = bool(starts) and max(starts) - min(starts) < _ALIKE
    return sum(starts) / len(starts) if alike else None


def _curve(axes: Axes, row: dict[str, Any], method: str, methods: Sequence[str]) -> None:
    # The look before any training has no place on a logarithmic axis.
    points = [point for point in row["points"] if point["flops"]]
    axes.plot(
        [point["flops"] for point in points],
        [point["accuracy"] for point in points],
        color=_colour(method, methods),
        marker="o",
        ms=3,
        lw=1.5,
        label=_label(method),
    )


def _bars(
    axes: Axes,
    recovery: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    condition: str,
    methods: Sequence[str],
) -> None:
    for place, method in enumerate(methods):
        for side, name in ((-0.2, "add"), (0.2, "replace")):
            value = recovery[method][condition][name]
            if value is None:
                axes.text(place + side, 0.02, "–", ha="center", color=_GREY)
                continue
            faint = 0.45 if name == "replace" else 1.0
            axes.bar(place + side, value, 0.38, color=_colour(method, methods), alpha=faint)
    axes.axhline(1, color=_GREY, ls="--", lw=1)
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xticks(range(len(methods)), [_label(one) for one in methods], rotation=35, ha="right")
    axes.tick_params(axis="x", labelsize=8)
    axes.set(ylabel="share of the fall that is won back")
    adds, replaces = (next(c for c, n in NAMES.items() if n == name) for name in ("add", "replace"))
    axes.set_title(f"{condition}: {adds} (full) and {replaces} (faint)", fontsize=10)


def _colour(method: str, methods: Sequence[str]) -> Any:
    if method in _COLOURS:
        return _COLOURS[method]
    from matplotlib import colormaps

    tails = [one for one in methods if one not in _COLOURS]
    place = tails.index(method) / max(1, len(tails) - 1)
    return colormaps["Blues"](0.4 + 0.55 * place)


def _label(method: str) -> str:
    return _LABELS.get(method, method.replace("tail-", "tail N="))
