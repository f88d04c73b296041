"""Pictures of trainings: losses by epoch, accuracy beside blind guesses. Needs matplotlib."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.adaptation.training_config import History
from ..runtime.errors import ConfigError
from ..runtime.files import write_atomic
from .encoder_training import EncoderHistory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#1f6fb4", "#d9822b", "#3a8f5c", "#a8467c", "#6b6f76", "#8a6d3b")
_GREY = "#777777"


def draw_encoder_curve(path: Path, history: EncoderHistory, title: str) -> None:
    """Each part of the loss by epoch; broken lines are of held-out scenes.

    Raises:
        ConfigError: matplotlib is not installed.
        CacheError: the file cannot be written.
    """
    figure = _figure()
    axes = figure.add_subplot()
    names = list(history.loss[0]) if history.loss else []
    for name, colour in zip(names, _COLOURS, strict=False):
        axes.plot(history.epoch, [one[name] for one in history.loss], color=colour, label=name)
        held_out = [one.get(name, float("nan")) for one in history.held_out]
        axes.plot(history.epoch, held_out, color=colour, linestyle="--")
    axes.set(xlabel="epoch", ylabel="loss (broken: held out)", title=title)
    _save(figure, path)


def draw_connection_curve(path: Path, history: History, blind: float | None) -> None:
    """Held-out accuracy, overall and by type, over the samples seen, beside blind guesses.

    Args:
        path: of the picture.
        history: of the run.
        blind: accuracy of the best question-only baseline; drawn as a line.

    Raises:
        ConfigError: matplotlib is not installed.
        CacheError: the file cannot be written.
    """
    figure = _figure()
    axes = figure.add_subplot()
    names = sorted({name for one in history.by_group for name in one})
    for name, colour in zip(names, _COLOURS[1:], strict=False):
        values = [one.get(name, float("nan")) for one in history.by_group]
        axes.plot(history.samples, values, color=colour, linewidth=1, label=name)
    axes.plot(history.samples, history.train_accuracy, color=_GREY, label="training batches")
    axes.plot(history.samples, history.accuracy, color=_COLOURS[0], linewidth=2.5, label="held out")
    if blind is not None:
        axes.axhline(blind, color="black", linestyle=":", label="blind (question only)")
    axes.set(xlabel="samples seen", ylabel="accuracy", ylim=(0, 1))
    _save(figure, path)


def _figure() -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "matplotlib is not installed, so no curve is drawn",
            field="--out",
            remedy="pip install 'tailwire[train]'",
        ) from error
    return Figure(figsize=(7, 4.2), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    axes = figure.axes[0]
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_atomic(path, content.getvalue())
