"""A run over time: sensors on and off, answers right and wrong, FLOPs under the budget, latency."""

from __future__ import annotations

from collections.abc import Sequence

from .charts import Chart, Rows
from .findings import Run, RunAnswer, RunStep, SensorState
from .svg import Drawing, Scale, number

#: With more distinct questions than this, moments are counted instead of drawn row by row.
_MOST_ROWS = 12
_LEFT, _RIGHT, _ROW = 270.0, 950.0, 18.0
_STATES: dict[SensorState, str] = {
    "on": "encoded",
    "reused": "last tokens reused",
    "dropped": "wanted, and could not be used",
    "off": "off",
}


def timeline(run: Run) -> Chart:
    """Draw a run."""
    many = len(run.questions) > _MOST_ROWS
    answer_rows = 3 if many else len(run.questions)
    top_answers = 26 + _ROW * len(run.sensors) + 30
    top_flops = top_answers + _ROW * answer_rows + 34
    height = top_flops + 190
    drawing = Drawing(960, height, f"Run {run.name} over {len(run.steps)} moments")
    x = Scale(0, len(run.steps), _LEFT, _RIGHT)
    gap = min(1.0, 0.12 * (x(1) - x(0)))
    drawing.text(_LEFT, 14, "sensors", "label strong")
    for place, sensor in enumerate(run.sensors):
        y = 22 + _ROW * place
        drawing.text(_LEFT - 10, y + 12, sensor, "tick end")
        for number_, step in enumerate(run.steps):
            state = step.states[sensor]
            drawing.rect(
                x(number_),
                y,
                x(1) - x(0) - gap,
                _ROW - 4,
                f"state-{state}",
                f"moment {number_ + 1}, {sensor}: {_STATES[state]}",
            )
    drawing.text(_LEFT, top_answers - 8, "answers", "label strong")
    if many:
        _counted_answers(drawing, run.steps, x, top_answers)
    else:
        _answer_rows(drawing, run, x, top_answers, gap)
    _lines(drawing, run, x, top_flops)
    for value in x.ticks(10):
        drawing.text(x(value), height - 6, number(value), "tick middle")
    drawing.text(_LEFT - 10, height - 6, "moment", "tick end")
    return Chart(
        str(drawing),
        _rows(run),
        [
            ("state-on", "encoded"),
            ("state-reused", "reused"),
            ("state-dropped", "could not be used"),
            ("state-off", "off"),
            ("right", "✓ right"),
            ("wrong", "✕ wrong"),
            ("unknown", "nobody knows"),
        ],
    )


def verdict(answer: RunAnswer) -> str:
    """`right`, `wrong` or `unknown`, as classes of the style are called."""
    return "unknown" if answer.right is None else "right" if answer.right else "wrong"


def _answer_rows(drawing: Drawing, run: Run, x: Scale, top: float, gap: float) -> None:
    for place, question in enumerate(run.questions):
        y = top + _ROW * place
        drawing.text(_LEFT - 10, y + 12, _short(question), "tick end")
        for number_, step in enumerate(run.steps):
            for answer in step.answers:
                if answer.question == question:
                    _mark(drawing, answer, x(number_), y, x(1) - x(0) - gap, number_)


def _mark(
    drawing: Drawing, answer: RunAnswer, x: float, y: float, width: float, moment: int
) -> None:
    """By shape and by colour: a bar for what is right, a cross for what is wrong."""
    kind = verdict(answer)
    beside = "" if answer.expected is None else f", right is {answer.expected}"
    held = ", an earlier answer again" if answer.held else ""
    tip = f"moment {moment + 1}, {answer.question} {answer.text}{beside}{held}"
    middle = y + (_ROW - 4) / 2
    if kind == "right":
        drawing.rect(x, y, width, _ROW - 4, "right", tip)
    elif kind == "wrong":
        drawing.rect(x, y, width, _ROW - 4, "wrong", tip)
        reach = min(4.0, width / 2)
        at = x + width / 2
        drawing.path(
            f"M{at - reach:.1f} {middle - reach:.1f}L{at + reach:.1f} {middle + reach:.1f}"
            f"M{at - reach:.1f} {middle + reach:.1f}L{at + reach:.1f} {middle - reach:.1f}",
            "cross",
        )
    else:
        drawing.circle(x + width / 2, middle, 2.5, "unknown", tip)


def _counted_answers(drawing: Drawing, steps: Sequence[RunStep], x: Scale, top: float) -> None:
    """Right above, wrong below, as shares of what was asked at a moment."""
    most = max(len(step.answers) for step in steps)
    height = 3 * _ROW - 6
    drawing.text(_LEFT - 10, top + 12, f"of up to {most} questions", "tick end")
    for number_, step in enumerate(steps):
        kinds = [verdict(answer) for answer in step.answers]
        y = top
        for kind in ("right", "unknown", "wrong"):
            share = kinds.count(kind) / most
            tip = f"moment {number_ + 1}: {kinds.count(kind)} {kind}"
            if share:
                drawing.rect(x(number_), y, x(1) - x(0) - 0.5, share * height, kind, tip)
            y += share * height


def _lines(drawing: Drawing, run: Run, x: Scale, top: float) -> None:
    gflop = [step.flops / 1e9 for step in run.steps]
    budget = run.budget.get("flops")
    _line(drawing, gflop, None if budget is None else budget / 1e9, x, top, "GFLOP", "budget")
    deadline = run.budget.get("latency_ms")
    times = [step.total_ms for step in run.steps]
    _line(drawing, times, deadline, x, top + 84, "ms a frame", "deadline")
    for number_, step in enumerate(run.steps):
        if step.cut is not None or step.late_ms is not None:
            told = step.cut or f"{step.late_ms:.0f} ms late"
            drawing.circle(
                x(number_ + 0.5), top + 78, 3, "fill c2", f"moment {number_ + 1}: {told}"
            )


def _line(
    drawing: Drawing,
    values: Sequence[float],
    limit: float | None,
    x: Scale,
    top: float,
    name: str,
    limit_name: str,
) -> None:
    y = Scale(0, 1.1 * max([*values, limit or 0.0, 1e-9]), top + 62, top)
    for value in y.ticks(2):
        drawing.line(x.begin, y(value), x.end, y(value), "grid")
        drawing.text(x.begin - 10, y(value) + 4, number(value), "tick end")
    drawing.text(16, top + 34, name, "label strong")
    points: list[tuple[float, float]] = []
    for place, value in enumerate(values):
        points += [(x(place), y(value)), (x(place + 1), y(value))]
    drawing.polyline(points, "curve c1")
    if limit is not None:
        drawing.line(x.begin, y(limit), x.end, y(limit), "level")
        drawing.text(x.end, y(limit) - 4, f"{limit_name} {number(limit)}", "tick end")


def _rows(run: Run) -> Rows:
    rows: Rows = [("moment", "sensors on", "tail", "GFLOP", "ms", "right", "wrong", "unknown")]
    for place, step in enumerate(run.steps, start=1):
        on = [name for name, state in step.states.items() if state in ("on", "reused")]
        kinds = [verdict(answer) for answer in step.answers]
        rows.append(
            (
                str(place),
                ", ".join(on) or "none",
                str(step.tail_blocks),
                f"{step.flops / 1e9:.2f}",
                f"{step.total_ms:.0f}",
                *(str(kinds.count(kind)) for kind in ("right", "wrong", "unknown")),
            )
        )
    return rows


def _short(text: str, most: int = 42) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
