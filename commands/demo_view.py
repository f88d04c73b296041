"""Draws the demo: a table that is redrawn on a terminal, one line per step elsewhere."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..runtime.errors import ConfigError, without_remedy
from ..runtime.files import readable_bytes
from ..runtime.metrics import peak_memory_bytes
from .demo_record import DemoRecord, JudgedAnswer, SensorState, Tally
from .demo_script import Script

WIDTH = 110

_STYLES: dict[SensorState, str] = {
    "on": "green",
    "reused": "yellow",
    "dropped": "red",
    "off": "bright_black",
}
_MARKS: dict[SensorState, str] = {"on": "■", "reused": "▪", "dropped": "×", "off": "·"}
#: Mark, style and word of an answer that is right, wrong, or that nobody can judge.
_VERDICTS: dict[bool | None, tuple[str, str, str]] = {
    True: ("✓", "green", "right"),
    False: ("✗", "red", "wrong"),
    None: ("?", "bright_black", "?"),
}


@dataclass(frozen=True)
class _Columns:
    """Widths that depend on the terminal's."""

    history: int
    stage_bar: int
    answer: int


_WIDE = _Columns(history=25, stage_bar=16, answer=20)
#: For the 80 x 24 of a terminal that nobody has made larger.
_NARROW = _Columns(history=10, stage_bar=0, answer=10)
_WIDE_FROM = 100
#: Lines of a terminal that has room for empty ones.
_AIRY_FROM = 32


@dataclass(frozen=True)
class DemoTitle:
    """What does not change while the demo runs.

    Attributes:
        model: name of the language model.
        precision: of the language model.
        num_blocks: of the whole language model.
        pack: name and version of the pack.
        pack_trained: whether answers mean anything.
        drive: what is driven.
        steps: length of the demo.
    """

    model: str
    precision: str
    num_blocks: int
    pack: str
    pack_trained: bool
    drive: str
    steps: int

    @property
    def warning(self) -> str:
        """Says that answers mean nothing, or nothing."""
        if self.pack_trained:
            return ""
        return f"untrained pack ({self.pack}): answers mean nothing yet"


class Display:
    """Shows the steps of a demo as they are taken; use it in a `with` block.

    On a terminal a table is redrawn; elsewhere each step is a line.
    """

    def __init__(
        self, title: DemoTitle, script: Script, record: DemoRecord, *, redraw: bool
    ) -> None:
        """Show nothing yet.

        Args:
            title: what does not change.
            script: what happens to the sensors.
            record: the steps; grows between two calls of `show`.
            redraw: False writes lines even on a terminal.
        """
        self._title, self._script, self._record = title, script, record
        self._console = Console(highlight=False)
        fit = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False) if redraw and fit else None

    @property
    def redraws(self) -> bool:
        """Whether there is a table that is redrawn."""
        return self._live is not None

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        else:
            title = self._title
            print(f"tailwire demo: {title.model} {title.precision}, {title.pack}, {title.drive}")
            if title.warning:
                print(f"warning: {title.warning}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self) -> None:
        """Show the newest step."""
        if self._live is not None:
            size = self._console.size
            table = _table(
                self._title,
                self._script,
                self._record,
                min(WIDTH, size.width),
                airy=size.height >= _AIRY_FROM,
            )
            self._live.update(table, refresh=True)
        else:
            print(_line(self._title, self._script, self._record), flush=True)


def _line(title: DemoTitle, script: Script, record: DemoRecord) -> str:
    states = ", ".join(
        f"{count} {state}"
        for state in ("on", "reused", "dropped", "off")
        if (count := record.count(state))
    )
    answers = " | ".join(map(_spoken, record.answers))
    phase = script.phases[script.place(record.steps - 1)].title
    return (
        f"step {record.steps:>2}/{title.steps}  {record.condition}, {phase}: {states}  "
        f"{record.frame_ms[-1]:.0f} ms  {record.answers[0].flops / 1e9:.1f} GFLOP  {answers}"
    )


def _spoken(answer: JudgedAnswer) -> str:
    verdict = _VERDICTS[answer.right][2]
    if answer.right is False:
        verdict += f" ({answer.expected})"
    return f"{answer.text} {answer.confidence:.2f} {verdict}"


def save_picture(path: Path, title: DemoTitle, script: Script, record: DemoRecord) -> None:
    """Write the table after the newest step as an SVG.

    Raises:
        ConfigError: the file cannot be written.
    """
    console = Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(_table(title, script, record, WIDTH, airy=True))
    try:
        path.write_text(console.export_svg(title="tailwire demo"), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"the picture cannot be written: {error.strerror}",
            field=str(path),
            remedy="name a file in a folder that can be written with --capture",
        ) from error


def _table(
    title: DemoTitle, script: Script, record: DemoRecord, width: int, *, airy: bool
) -> RenderableType:
    columns = _WIDE if width >= _WIDE_FROM else _NARROW
    upper = Table.grid(padding=(0, 3), expand=True)
    upper.add_column()
    upper.add_column(ratio=1)
    upper.add_row(_sensors(record, columns), _stages(record, columns))
    gap = [Text()] if airy else []
    warning = [Text(title.warning, style="bold yellow")] if title.warning else []
    return Panel(
        Group(
            *warning,
            _phases(script, record),
            *gap,
            upper,
            Text(),
            _questions(record, columns, wrap=airy),
            *gap,
            _totals(title, record, columns),
            _trouble(record),
        ),
        title=f"[bold]tailwire demo[/bold]  {title.model} {title.precision}  ·  "
        f"{title.drive}, {record.condition}",
        subtitle=f"step {record.steps} of {title.steps}",
        border_style="cyan",
        width=width,
    )


def _phases(script: Script, record: DemoRecord) -> Text:
    now = script.place(record.steps - 1)
    text = Text()
    for place, phase in enumerate(script.phases):
        style = "bold reverse cyan" if place == now else ("" if place < now else "bright_black")
        text.append(f" {phase.title} ", style)
        if place < len(script.phases) - 1:
            text.append(" › ", "bright_black")
    return text


def _sensors(record: DemoRecord, columns: _Columns) -> Table:
    grid = _plain_table()
    grid.add_column("sensor", no_wrap=True)
    grid.add_column("now", width=7, no_wrap=True)
    grid.add_column("age ms", width=6, justify="right", no_wrap=True)
    legend = Text(" ").join(Text(f"{_MARKS[s]}{s}", _STYLES[s]) for s in _MARKS)
    heading = legend if columns is _WIDE else f"last {columns.history}"
    grid.add_column(heading, width=columns.history, no_wrap=True)
    for name, sensor in record.sensors.items():
        state = sensor.states[-1]
        age = "" if sensor.age_ms is None else f"{sensor.age_ms:.0f}"
        history = Text()
        for past in sensor.states[-columns.history :]:
            history.append(_MARKS[past], _STYLES[past])
        grid.add_row(name, Text(state, _STYLES[state]), age, history)
    return grid


def _stages(record: DemoRecord, columns: _Columns) -> Table:
    stages = record.answers[0].timings_ms
    longest = max(stages.values(), default=1.0)
    grid = _plain_table()
    grid.add_column("stage", no_wrap=True)
    grid.add_column("ms", width=6, justify="right", no_wrap=True)
    grid.add_column("", width=columns.stage_bar, no_wrap=True)
    for stage, ms in stages.items():
        grid.add_row(stage, f"{ms:.1f}", Text(_bar(ms / longest, columns.stage_bar), "cyan"))
    grid.add_row(Text("all", "bold"), Text(f"{record.frame_ms[-1]:.1f}", "bold"), "")
    return grid


def _questions(record: DemoRecord, columns: _Columns, *, wrap: bool) -> Table:
    grid = _plain_table(expand=True)
    # Where lines are few, the end of a long question is given up and not the last lines.
    grid.add_column("standing question", ratio=1, no_wrap=not wrap, overflow="ellipsis")
    grid.add_column("answer", width=columns.answer + 2, no_wrap=True)
    grid.add_column("truth", width=columns.answer, no_wrap=True)
    grid.add_column("sure", no_wrap=True)
    grid.add_column("right", justify="right", no_wrap=True, width=5)
    grid.add_column("blind", justify="right", no_wrap=True, width=5)
    for answer, tally in zip(record.answers, record.tallies, strict=True):
        mark, style, _ = _VERDICTS[answer.right]
        grid.add_row(
            answer.question,
            Text(f"{mark} ", style).append(answer.text, f"bold {style}"),
            Text(answer.expected or "?", "" if answer.expected else "bright_black"),
            f"{answer.confidence:.2f}",
            _share(tally.right, tally),
            Text(_share(tally.blind, tally), "bright_black"),
        )
    return grid


def _share(count: int, tally: Tally) -> str:
    return f"{count / tally.known:.0%}" if tally.known else ""


def _totals(title: DemoTitle, record: DemoRecord, columns: _Columns) -> Text:
    frame, total = record.answers[0], record.overall
    score = []
    if total.known:
        score = [
            f"right {total.right / total.known:.0%} of {total.known}, "
            f"blind {total.blind / total.known:.0%}"
        ]
    facts = [
        *score,
        f"frame p50 {record.median_ms:.0f} ms",
        f"{frame.flops / 1e9:.1f} GFLOP",
        f"tail {frame.plan.tail_blocks} of {title.num_blocks} blocks",
        f"late {record.late}",
        f"dropped {record.dropped}",
    ]
    if columns is _WIDE:
        facts.append(f"peak RSS {readable_bytes(peak_memory_bytes())}")
    return Text(" · ".join(facts), no_wrap=True, overflow="ellipsis")


def _trouble(record: DemoRecord) -> Text:
    # Always one line, so that the table does not jump.
    reasons = [without_remedy(reason) for reason in record.answers[0].dropped.values()]
    text = "; ".join(" ".join(reason.split()) for reason in reasons)
    return Text(text, "red", no_wrap=True, overflow="ellipsis")


def _plain_table(*, expand: bool = False) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        header_style="bright_black",
        padding=(0, 1),
        pad_edge=False,
        expand=expand,
    )


def _bar(share: float, width: int) -> str:
    return "━" * max(1, round(share * width)) if share > 0 and width else ""
