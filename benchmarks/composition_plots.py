"""Picture of what composed packs get right, by number of senses. Needs matplotlib."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from ..runtime.files import write_atomic
from .evaluation_plots import check_matplotlib

#: Columns in the order of their bars, with names and colours.
_BARS = (
    ("best_single", "best single pack", "#9aa0a6"),
    ("naive", "NaiveMC", "#7fb3dd"),
    ("damc", "DAMC, 1/n", "#1f6fb4"),
    ("damc_auto", "DAMC, chosen weights", "#0b3d66"),
    ("task_arithmetic", "task arithmetic", "#d9822b"),
    ("ties", "TIES", "#a8467c"),
    ("dare", "DARE", "#c98bb0"),
    ("tsv", "TSV", "#8a6d3b"),
    ("ensemble", "sum of single packs", "#7cc29a"),
    ("joint", "trained jointly", "#2c7a4b"),
)
_CHANCE = 0.25


def draw_composition(path: Path, result: dict[str, Any]) -> Path:
    """Bars with 95 % intervals by number of senses; single senses before and after beside them.

    Args:
        path: of the PNG.
        result: see `composition_accuracy.Examiner.run`.

    Raises:
        ConfigError: matplotlib is not installed.
        CacheError: the file cannot be written.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
    items = result["items"]
    groups = {f"{count} senses\n({items[count]} items)": count for count in items}
    _bars(left, groups, result["accuracy"], result["interval"])
    blind = [result["accuracy"][count]["blind"] for count in items]
    for place, share in enumerate(blind):
        left.plot([place - 0.45, place + 0.45], [share, share], color="black", lw=1, ls="--")
    left.axhline(_CHANCE, color="black", lw=1, ls=":")
    left.set(title="in common (dashes: blind, dots: chance)")
    left.set(ylabel="right answers", ylim=(0, 1))
    singles = result["single_senses"]
    shown = {
        sense: {"best_single": one["accuracy"]["alone"], **one["accuracy"]}
        for sense, one in singles.items()
    }
    spans = {
        sense: {"best_single": one["interval"]["alone"], **one["interval"]}
        for sense, one in singles.items()
    }
    _bars(right, {sense: sense for sense in singles}, shown, spans)
    right.axhline(0.5, color="black", lw=1, ls=":")
    right.set(title="one input: alone, and composed")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_atomic(path, content.getvalue())
    return path


def _bars(axes: Any, groups: dict[str, str], shares: Any, spans: Any) -> None:
    there = [one for one in _BARS if all(one[0] in shares[key] for key in groups.values())]
    width = 0.9 / max(1, len(there))
    for number, (column, label, colour) in enumerate(there):
        at = [place - 0.45 + (number + 0.5) * width for place in range(len(groups))]
        heights = [shares[key][column] for key in groups.values()]
        ends = [spans[key][column] for key in groups.values()]
        below = [height - low for height, (low, _) in zip(heights, ends, strict=True)]
        above = [high - height for height, (_, high) in zip(heights, ends, strict=True)]
        axes.bar(at, heights, width * 0.92, color=colour, label=label)
        axes.errorbar(at, heights, [below, above], fmt="none", ecolor="#333333", elinewidth=0.8)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
