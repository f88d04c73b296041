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

    Packs in the form as published have a row of their own, where they were asked.

    Args:
        path: of the PNG.
        result: see `composition_accuracy.Examiner.run`.

    Raises:
        ConfigError: matplotlib is not installed.
        CacheError: the file cannot be written.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    forms = {"": result}
    if "input_level" in result:
        forms = {"in packs that run: ": result, "as published: ": result["input_level"]}
    figure = Figure(figsize=(11, 0.7 + 3.7 * len(forms)), layout="constrained")
    axes = figure.subplots(len(forms), 2, width_ratios=(3, 2), sharey=True, squeeze=False)
    labels: dict[str, Any] = {}
    for (left, right), (name, form) in zip(axes, forms.items(), strict=True):
        _draw_form(left, right, name, form)
        handles, said = left.get_legend_handles_labels()
        labels |= dict(zip(said, handles, strict=True))
    ordered = [label for _, label, _ in _BARS if label in labels]
    figure.legend(
        *([labels[label] for label in ordered], ordered),
        loc="outside lower center",
        ncols=5,
        fontsize=8,
        frameon=False,
    )
    content = BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_atomic(path, content.getvalue())
    return path


def _draw_form(left: Any, right: Any, name: str, result: dict[str, Any]) -> None:
    """Items by number of senses, and single senses, of one form of packs."""
    items = result["items"]
    groups = {f"{count} senses\n({items[count]} items)": count for count in items}
    _bars(left, groups, result["accuracy"], result["interval"])
    blind = [result["accuracy"][count]["blind"] for count in items]
    for place, share in enumerate(blind):
        left.plot([place - 0.45, place + 0.45], [share, share], color="black", lw=1, ls="--")
    left.axhline(_CHANCE, color="black", lw=1, ls=":")
    left.set(title=f"{name}in common (dashes: blind, dots: chance)")
    left.set(ylabel="right answers", ylim=(0, 1))
    singles = result["single_senses"]
    shown, spans = (
        {sense: {"best_single": one[side]["alone"], **one[side]} for sense, one in singles.items()}
        for side in ("accuracy", "interval")
    )
    _bars(right, {sense: sense for sense in singles}, shown, spans)
    right.axhline(0.5, color="black", lw=1, ls=":")
    right.set(title="one input: alone, and composed")


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
