"""Pictures of an evaluation: whether confidences can be trusted, and what abstaining is worth.

Needs matplotlib, which is imported when a picture is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from ..runtime.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#1f6fb4", "#d9822b", "#3a8f5c", "#a8467c", "#6b6f76", "#8a6d3b")
_GREY = "#777777"
_LABEL_CHARACTERS = 34


def check_matplotlib() -> None:
    """Refuse where pictures cannot be drawn.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "matplotlib is not installed, so no pictures are drawn",
            field="--out",
            remedy="pip install 'tailwire[viz]'",
        ) from error


def draw_evaluation(
    folder: Path, sets: Sequence[dict[str, Any]], blind_accuracy: float | None
) -> list[Path]:
    """Draw `reliability.png` (first set of sensors) and `coverage.png` (all of them).

    Args:
        folder: for the pictures.
        sets: as `evaluation_figures.set_figures` makes them, the main one first.
        blind_accuracy: drawn as a line; None without blind guesses.

    Raises:
        ConfigError: matplotlib is not installed.
        CacheError: the folder cannot be written.
    """
    check_matplotlib()
    files = [folder / "reliability.png", folder / "coverage.png"]
    _save(_reliability(sets[0]), files[0])
    _save(_coverage(sets, blind_accuracy), files[1])
    return files


def _reliability(one: dict[str, Any]) -> Figure:
    figure, (upper, lower) = _figure(2, heights=(3, 1))
    bins = one["calibration"]["bins"]
    total = sum(part["questions"] for part in bins)
    for part in bins:
        low, width = part["low"], part["high"] - part["low"]
        lower.bar(low, part["questions"] / total, width, align="edge", color=_GREY, lw=0)
        if part["questions"]:
            upper.bar(
                *(low, part["accuracy"], width),
                align="edge",
                color=_COLOURS[0],
                alpha=0.85,
                edgecolor="white",
            )
            upper.plot(
                [part["confidence"]] * 2,
                [part["confidence"], part["accuracy"]],
                color=_COLOURS[1],
                lw=1.5,
            )
    upper.plot([0, 1], [0, 1], color=_GREY, ls="--", lw=1, label="as right as it says")
    upper.plot([], [], color=_COLOURS[1], lw=1.5, label="gap at the mean confidence")
    upper.legend(frameon=False, loc="upper left")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="right answers")
    error, accuracy = one["calibration"]["error"], one["accuracy"]
    upper.set_title(
        f"{_short(one['name'])}: {accuracy:.1%} right, calibration error {error:.3f}",
        fontsize=10,
    )
    lower.set(xlim=(0, 1), ylim=(0, None), xlabel="confidence", ylabel="share of\nanswers")
    return figure


def _coverage(sets: Sequence[dict[str, Any]], blind_accuracy: float | None) -> Figure:
    figure, (axes,) = _figure(1)
    for place, one in enumerate(sets):
        axes.plot(
            [point["coverage"] for point in one["coverage"]],
            [point["accuracy"] for point in one["coverage"]],
            color=_COLOURS[place % len(_COLOURS)],
            marker="o",
            ms=4,
            lw=1.6,
            label=_short(one["name"]),
        )
    if blind_accuracy is not None:
        label = "question only, all answered"
        axes.axhline(blind_accuracy, color=_GREY, ls="--", lw=1, label=label)
    lows = [point["accuracy"] for one in sets for point in one["coverage"]]
    lows += [] if blind_accuracy is None else [blind_accuracy]
    axes.set(
        xlim=(0.05, 1.02),
        ylim=(max(0.0, min(lows) - 0.05), 1.005),
        xlabel="share of questions that are answered, the surest first",
        ylabel="right answers among these",
    )
    axes.legend(frameon=False)
    return figure


def _figure(rows: int, heights: Sequence[int] = (1,)) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.2 if rows > 1 else 4.2), dpi=140, layout="constrained")
    found = figure.subplots(rows, 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    axes: list[Axes] = list(found[:, 0])
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", color="#dddddd", lw=0.6)
        one.set_axisbelow(True)
    return figure, axes


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_CHARACTERS else name[: _LABEL_CHARACTERS - 1] + "…"


def _save(figure: Figure, path: Path) -> None:
    data = BytesIO()
    figure.savefig(data, format="png")
    write_atomic(path, data.getvalue())
