"""Draws a replay as it runs: a table that is redrawn on a terminal, one line a moment elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..simulation.replay.player import PlayedStep, Player
from ..simulation.replay.scoring import ReplayScore, percentiles
from .replay_report import accuracy_columns, share_text

_WIDTH = 110
#: Answers that are shown of a moment.
_ANSWERS = 8
#: Redrawing costs a few milliseconds, which a drive as fast as possible would wait for.
_REDRAW_EVERY_S = 0.1


@dataclass(frozen=True)
class ReplayTitle:
    """What does not change while a replay runs.

    Attributes:
        model: name of the language model.
        precision: of the language model.
        pack: name and version of the pack.
        pack_trained: whether answers mean anything.
        rate: seconds of the drive per second; None as fast as possible.
        found: what is played, a sentence.
    """

    model: str
    precision: str
    pack: str
    pack_trained: bool
    rate: float | None
    found: str

    @property
    def warning(self) -> str:
        """Says that answers mean nothing, or nothing."""
        if self.pack_trained:
            return ""
        return f"untrained pack ({self.pack}): answers mean nothing yet"

    @property
    def pace(self) -> str:
        """How fast sensor time runs, in words."""
        return "as fast as possible" if self.rate is None else f"rate {self.rate:g}"


class ReplayView:
    """Shows a replay; use it in a `with` block."""

    def __init__(
        self, title: ReplayTitle, score: ReplayScore, *, redraw: bool, silent: bool
    ) -> None:
        """Show nothing yet.

        Args:
            title: what does not change.
            score: the counts; grow between two calls of `show`.
            redraw: False writes lines even on a terminal.
            silent: shows nothing at all.
        """
        self._title, self._score, self._silent = title, score, silent
        self._console = Console(highlight=False)
        fit = self._console.is_terminal and not self._console.is_dumb_terminal
        use = redraw and fit and not silent
        self._live = Live(console=self._console, auto_refresh=False) if use else None
        self._name, self._player = "", None
        self._last: PlayedStep | None = None
        self._drawn_s = 0.0

    def __enter__(self) -> ReplayView:
        if self._live is not None:
            self._live.start()
        elif not self._silent:
            title = self._title
            print(f"tailwire replay: {title.found}; {title.model} {title.precision}, {title.pace}")
            if title.warning:
                print(f"warning: {title.warning}", flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            if self._last is not None:
                self._draw(self._last)
            self._live.stop()

    def begin(self, name: str, player: Player) -> None:
        """Go on to a drive."""
        self._name, self._player = name, player

    def show(self, step: PlayedStep) -> None:
        """Show the newest moment."""
        self._last = step
        if self._live is None:
            if not self._silent:
                print(self._line(step), flush=True)
        elif time.monotonic() - self._drawn_s >= _REDRAW_EVERY_S:
            self._draw(step)

    def _draw(self, step: PlayedStep) -> None:
        assert self._live is not None
        width = min(_WIDTH, self._console.size.width)
        self._live.update(self._panel(step, width), refresh=True)
        self._drawn_s = time.monotonic()

    def _line(self, step: PlayedStep) -> str:
        right = sum(
            one.expected == answer.text
            for one, answer in zip(step.planned, step.answers, strict=True)
            if one.expected is not None
        )
        known = sum(one.expected is not None for one in step.planned)
        facts = [f"{self._name} {step.time_s:6.2f} s", f"{len(step.answers)} answers"]
        if known:
            facts.append(f"{right}/{known} right")
            facts.append(f"so far {share_text(self._score.said.overall)}")
        else:
            facts.append(" | ".join(answer.text for answer in step.answers))
        facts.append(f"{step.step_ms:.0f} ms")
        if self._title.rate is not None:
            facts.append(f"lag {step.lag_ms:.0f} ms")
        if step.answers and step.answers[0].dropped:
            facts.append(f"without {', '.join(step.answers[0].dropped)}")
        return "  ".join(facts)

    def _panel(self, step: PlayedStep, width: int) -> RenderableType:
        title, found = self._title, escape(self._title.found)
        warning = [Text(title.warning, style="bold yellow")] if title.warning else []
        upper = Table.grid(padding=(0, 3), expand=True)
        upper.add_column()
        upper.add_column(ratio=1)
        upper.add_row(self._sensors(step), self._accuracy())
        return Panel(
            Group(*warning, self._now(step), upper, Text(), _answers(step), self._totals()),
            title=f"[bold]tailwire replay[/bold]  {title.model} {title.precision}  ·  {found}",
            subtitle=f"{self._name} · {title.pace}",
            border_style="cyan",
            width=width,
        )

    def _now(self, step: PlayedStep) -> Text:
        total = None if self._player is None else self._player.num_moments
        text = Text(f"{step.time_s:6.2f} s", "bold cyan")
        text.append(f"   moment {self._score.moments_answered}")
        if total is not None:
            text.append(f", {total} in this drive")
        text.append(f"   step {step.step_ms:.0f} ms")
        if self._title.rate is not None:
            text.append(f"   lag {step.lag_ms:.0f} ms")
        return text

    def _sensors(self, step: PlayedStep) -> Table:
        grid = _plain_table()
        grid.add_column("sensor", no_wrap=True)
        for name in ("age ms", "frames", "lost"):
            grid.add_column(name, justify="right", no_wrap=True)
        used = step.answers[0].sensors if step.answers else {}
        dropped = step.answers[0].dropped if step.answers else {}
        counts = {} if self._player is None else self._player.counts
        for name in {**counts, **used, **dropped}:
            count = counts.get(name)
            style = "red" if name in dropped else "green" if name in used else "bright_black"
            age = f"{used[name].age_ms:.0f}" if name in used else "–"
            taken = "0" if count is None else str(count.pushed)
            lost = 0 if count is None else count.withheld + count.unreadable + count.refused
            grid.add_row(Text(name, style), age, taken, str(lost) if lost else "")
        return grid

    def _accuracy(self) -> Table:
        grid = _plain_table()
        columns = accuracy_columns(self._score)
        for name in ("accuracy", "n", *columns):
            grid.add_column(name, justify="left" if name == "accuracy" else "right", no_wrap=True)
        everything = self._score.said.overall
        grid.add_row(
            "all",
            str(everything.questions),
            *(share_text(column.overall) for column in columns.values()),
        )
        for kind, share in sorted(self._score.said.by_type.items()):
            cells = [share_text(column.by_type[kind]) for column in columns.values()]
            grid.add_row(kind, str(share.questions), *cells)
        return grid

    def _totals(self) -> Text:
        score = self._score
        times = percentiles(score.step_ms)
        facts = [
            f"answers {score.answers}",
            f"step p50 {times.get('p50', 0):.0f} ms, p99 {times.get('p99', 0):.0f} ms",
        ]
        if self._player is not None:
            facts.append(f"skipped {score.moments_skipped + self._player.skipped}")
            facts.append(f"late {sum(one.late for one in self._player.counts.values())}")
        return Text(" · ".join(facts), no_wrap=True, overflow="ellipsis")


def _answers(step: PlayedStep) -> Table:
    grid = _plain_table(expand=True)
    grid.add_column("question", ratio=1, no_wrap=True)
    grid.add_column("answer", width=22, no_wrap=True)
    grid.add_column("expected", width=22, no_wrap=True)
    pairs = list(zip(step.planned, step.answers, strict=True))
    for planned, answer in _evenly(pairs):
        known = planned.expected is not None
        style = ("green" if planned.expected == answer.text else "red") if known else "bold"
        grid.add_row(answer.question, Text(answer.text, style), planned.expected or "")
    return grid


def _evenly(rows: Sequence[tuple]) -> list[tuple]:  # pyright: ignore[reportMissingTypeArgument]
    """Some of the rows, of all kinds."""
    count = min(_ANSWERS, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def _plain_table(*, expand: bool = False) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        header_style="bright_black",
        padding=(0, 1),
        pad_edge=False,
        expand=expand,
    )
