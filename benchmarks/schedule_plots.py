"""Pictures of a scheduling benchmark: accuracy against FLOPs, and how a runtime fared over time.

Needs matplotlib, which is imported when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.files import write_atomic
from .evaluation_plots import check_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"optimal": "#1f6fb4", "greedy": "#3a8f5c", "round_robin": "#d9822b"}
_OTHER, _GREY, _ORACLE = "#8a6d3b", "#777777", "#a8467c"
_USED = {"run": "#1f6fb4", "reuse": "#9cc3e4", "dead": "#c0392b"}
#: A legend beside the title, where it hides nothing.
_ABOVE: dict[str, Any] = {
    "frameon": False,
    "fontsize": 8,
    "loc": "lower right",
    "bbox_to_anchor": (1, 0.98),
}


def draw_schedule(path: Path, found: Mapping[str, Any]) -> None:
    """Draw accuracy over FLOPs, and what is gained at each budget.

    Args:
        path: of the PNG.
        found: as `ScheduleBench.figures` gives it.

    Raises:
        ConfigError: matplotlib is not installed.
        CacheError: the file cannot be written.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), dpi=140, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    _curves(left, found)
    _gains(right, found["gains"])
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#dddddd", lw=0.6)
        axes.set_axisbelow(True)
    _save(figure, path)


def _curves(axes: Axes, found: Mapping[str, Any]) -> None:
    fixed = found["fixed"]
    axes.scatter(
        [one["mean_gflop"] for one in fixed],
        [one["accuracy"] for one in fixed],
        s=12,
        color="#bbbbbb",
        label="fixed plans",
    )
    best = found["best_fixed"]
    most = max(one["mean_gflop"] for one in fixed)
    axes.step(
        [*(one["mean_gflop"] for one in best), most],
        [*(one["accuracy"] for one in best), best[-1]["accuracy"]],
        where="post",
        color=_GREY,
        lw=1.4,
        label="best fixed plan, in hindsight",
    )
    for name, curve in found["curves"].items():
        spent = [point["mean_gflop"] for point in curve]
        colour = _COLOURS.get(name, _OTHER)
        axes.plot(spent, [p["accuracy"] for p in curve], "o-", ms=4, color=colour, label=name)
        ends = [point["accuracy_interval_95"] for point in curve]
        if name == "optimal" and None not in ends:
            low, high = zip(*ends, strict=True)
            axes.fill_between(spent, low, high, color=colour, alpha=0.12, lw=0)
    oracle = found["oracle"]
    axes.plot(
        [row["budget_gflop"] for row in oracle],
        [row["accuracy"] for row in oracle],
        color=_ORACLE,
        ls=":",
        lw=1.6,
        label="oracle (at the budget)",
    )
    everything = found["everything"]
    axes.plot(
        everything["mean_gflop"],
        everything["accuracy"],
        "*",
        ms=11,
        color="black",
        label="everything at full depth",
    )
    if found["blind_accuracy"] is not None:
        axes.axhline(found["blind_accuracy"], color=_GREY, ls="--", lw=1, label="question only")
    # Below what the words of a question tell, plans are not worth telling apart.
    lowest = min(one["accuracy"] for curve in found["curves"].values() for one in curve)
    floor = lowest if found["blind_accuracy"] is None else found["blind_accuracy"]
    axes.set(
        xlabel="GFLOP a frame, spent on average",
        ylabel="right answers",
        ylim=(floor - 0.03, max(row["accuracy"] for row in oracle) + 0.03),
        xlim=(0, 1.04 * most),
    )
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.08))


def _gains(axes: Axes, compared: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for number, (name, rows) in enumerate(compared.items()):
        kept = [row for row in rows if row["at_equal_budget"] is not None]
        budgets = [row["budget_gflop"] * (1 + 0.012 * (number - 1)) for row in kept]
        points = [row["at_equal_budget"]["gain_points"] for row in kept]
        colour = _COLOURS.get(name, _OTHER)
        axes.plot(budgets, points, "o-", ms=4, lw=1.2, color=colour, label=name)
        ends = [row["at_equal_budget"]["interval_95"] for row in kept]
        if None not in ends:
            for budget, (low, high) in zip(budgets, ends, strict=True):
                axes.plot([budget, budget], [low, high], color=colour, lw=1, alpha=0.6)
    axes.axhline(0, color=_GREY, lw=1)
    axes.set(
        xlabel="budget, GFLOP a frame",
        ylabel="points above the best fixed plan at this budget",
    )
    axes.legend(frameon=False, fontsize=8)


def draw_live(path: Path, found: Mapping[str, Any]) -> None:
    """Draw the time-lines of the live part: disturbance, budget steps, sensors that die.

    Args:
        path: of the PNG.
        found: as `schedule_live.LiveBench` gives it, with its time-lines.

    Raises:
        ConfigError: matplotlib is not installed.
        CacheError: the file cannot be written.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8.4), dpi=140, layout="constrained")
    first, second, third = figure.subplots(3, 1, height_ratios=(1.1, 1, 1.1))
    _disturbance(first, found["disturbed"])
    _steps(second, found["budget_steps"])
    _sensors(third, found["sensors_dying"])
    for axes in (first, second):
        axes.grid(axis="y", color="#dddddd", lw=0.6)
        axes.set_axisbelow(True)
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _disturbance(axes: Axes, found: Mapping[str, Any]) -> None:
    line = found["timeline"]
    frames, ms = range(len(line["ms"])), line["ms"]
    top = 1.15 * max(max(ms), found["deadline_ms"])
    axes.fill_between(
        frames,
        0,
        [top if busy else 0 for busy in line["busy"]],
        step="mid",
        color="#f3dfc4",
        lw=0,
        label="another process has a core",
    )
    axes.plot(frames, ms, lw=0.6, color=_COLOURS["optimal"], label="frame")
    cut = [(at, ms[at]) for at in frames if line["cut"][at]]
    if cut:
        axes.plot(*zip(*cut, strict=True), ".", ms=4, color="black", label="cut short")
    axes.axhline(found["deadline_ms"], color=_USED["dead"], lw=1, ls="--", label="deadline")
    axes.set(xlim=(0, len(ms)), ylim=(0, top), ylabel="ms", xlabel="frame")
    missed = found["deadline_miss_rate"]
    axes.set_title(f"deadline under disturbance: {missed:.2%} missed", fontsize=10, loc="left")
    axes.legend(**_ABOVE, ncols=4)


def _steps(axes: Axes, found: Mapping[str, Any]) -> None:
    line = found["timeline"]
    frames = range(len(line["gflop"]))
    highest = max(line["gflop"])
    budget = [float("nan") if one is None else one for one in line["budget_gflop"]]
    axes.step(frames, budget, where="mid", color=_USED["dead"], ls="--", lw=1, label="budget")
    axes.step(frames, line["gflop"], where="mid", color=_COLOURS["optimal"], lw=1.2, label="spent")
    axes.set(xlim=(0, len(frames)), ylim=(0, 1.2 * highest), ylabel="GFLOP", xlabel="frame")
    axes.set_title("the budget steps down and up", fontsize=10, loc="left")
    axes.legend(**_ABOVE, ncols=2)


def _sensors(axes: Axes, found: Mapping[str, Any]) -> None:
    from matplotlib.patches import Patch

    line, names = found["timeline"], found["sensors"]
    for row, name in enumerate(names):
        for frame, used in enumerate(line["uses"]):
            # What a sensor sent before it died is used for a while.
            state = used.get(name) or ("dead" if name in line["dead"][frame] else None)
            if state is not None:
                axes.barh(row, 1, left=frame, height=0.8, color=_USED[state], lw=0)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlim=(0, len(line["uses"])), xlabel="frame")
    axes.set_title("sensors stop sending and come back", fontsize=10, loc="left")
    labels = {"run": "encoder runs", "reuse": "tokens reused", "dead": "sends nothing"}
    axes.legend(
        handles=[Patch(color=_USED[key], label=text) for key, text in labels.items()],
        **_ABOVE,
        ncols=3,
    )


def _save(figure: Figure, path: Path) -> None:
    data = BytesIO()
    figure.savefig(data, format="png")
    write_atomic(path, data.getvalue())
