"""What the page says, section by section; a part that is missing says how to get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .charts import Chart, Point, Rows, bars, growth_lines, pareto, stacked, waterfall
from .findings import Findings, Run, RunStep
from .learning import LEAD, learning_charts
from .pictures import sampled
from .timeline import timeline, verdict

#: Makes a picture of a step; None where there is none.
Pictures = Callable[[RunStep], str | None]
_PICTURES_OF_A_RUN = 6


@dataclass(frozen=True)
class Moment:
    """A sample frame with its questions.

    Attributes:
        title: which moment.
        image: `data:` address, None without a picture.
        rows: question, answer, what is right, verdict.
    """

    title: str
    image: str | None
    rows: Rows


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: an anchor.
        title: as read.
        lead: one or two sentences.
        charts: in order, with a caption each.
        moments: sample frames.
        note: a longer remark behind the charts.
        missing: how to get what is not there, empty if all is.
    """

    name: str
    title: str
    lead: str = ""
    charts: Sequence[tuple[str, Chart]] = ()
    moments: Sequence[Moment] = field(default_factory=list)
    missing: str = ""
    note: str = ""


def tiles(found: Findings) -> list[tuple[str, str, str]]:
    """The few figures on top: what, the figure, and what it is of."""
    shown: list[tuple[str, str, str]] = []
    frame = found.benchmarks.get("frame")
    if frame:
        shown.append(
            (
                "frame, sensors to answers",
                f"{frame['p50_ms']:.0f} ms",
                f"p99 {frame['p99_ms']:.0f} ms",
            )
        )
        settings = frame["settings"]
        asked = f"{len(settings['sensors'])} sensors, {settings['questions']} questions"
        shown.append(("operations a frame", f"{frame['flops'] / 1e9:.1f} GFLOP", asked))
        peak = frame["peak_memory_bytes"]
        shown.append(("peak memory", f"{peak / 1e6:.0f} MB", frame["memory_method"]))
    peers = found.benchmarks.get("peers") or {}
    standing = found.benchmarks.get("standing") or {}
    if peers.get("llm_time_ratio_vs_best_peer"):
        ratio, best = peers["llm_time_ratio_vs_best_peer"], peers.get("best_peer", "")
        shown.append(("less language-model time", f"{ratio:.1f} x", f"than {best}"))
    elif standing.get("speedup_vs_best_input_level"):
        ratio = standing["speedup_vs_best_input_level"]
        best = standing["best_input_level"].replace("_", " ")
        shown.append(("less language-model time", f"{ratio:.1f} x", f"than input level, {best}"))
    paper = found.benchmarks.get("paper") or {}
    if paper.get("flops_ratio_equal_samples"):
        ratio = f"{paper['flops_ratio_equal_samples']:.0f} x"
        shown.append(("less to learn a sensor", ratio, "operations of full fine-tuning"))
    for name, one in found.evaluations.items():
        blind = one.get("blind_accuracy")
        beside = "" if blind is None else f"question alone {blind:.1%}"
        shown.append((f"right answers ({name})", f"{one['accuracy']:.1%}", beside))
    for run in found.runs:
        right, known = run_score(run)
        if known:
            shown.append((f"right in {run.name}", f"{right / known:.0%}", f"{right} of {known}"))
    return shown[:8]


def sections(found: Findings, pictures: Pictures) -> list[Section]:
    """All sections in the order of the page."""
    return [
        _accuracy(found),
        _latency(found),
        _memory(found),
        _model(found),
        _peers(found),
        _growth(found),
        _learning(found),
        *(_run(run, pictures) for run in found.runs),
        *([] if found.runs else [_no_run()]),
    ]


def run_score(run: Run) -> tuple[int, int]:
    """How many answers of a run are right, of those that anybody knows."""
    known = [a.right for step in run.steps for a in step.answers if a.right is not None]
    return sum(known), len(known)


def _accuracy(found: Findings) -> Section:
    charts: list[tuple[str, Chart]] = []
    if found.schedule:
        charts.append(
            ("Policies and fixed plans over budgets (bench schedule)", _schedule(found.schedule))
        )
    dots = [point for run in found.runs for point in _plans_of(run)]
    levels = _levels(found)
    if not found.schedule and dots:
        text = "Plans that ran (demo, replay): mean FLOPs and share of right answers of each"
        charts.append((text, pareto({}, dots, levels, "a plan that ran")))
    elif not found.schedule and levels:
        charts.append(("Right answers (eval)", bars({k: 100 * v for k, v in levels.items()}, "%")))
    missing = (
        ""
        if found.schedule
        else "tailwire bench schedule --dataroot DIR --out here (the curve over budgets)"
    )
    lead = "Each point is a way to spend operations on a frame; up and to the left is better."
    return Section("accuracy", "Accuracy against FLOPs", lead, charts, missing=missing)


def _schedule(figures: Mapping[str, Any]) -> Chart:
    def point(one: Mapping[str, Any], name: str) -> Point:
        return Point(name, one["mean_gflop"], one["accuracy"], one.get("accuracy_interval_95"))

    curves = {
        name: [point(p, f"budget {p['budget_gflop']:.1f}") for p in curve]
        for name, curve in figures["curves"].items()
    }
    best = figures.get("best_fixed") or []
    curves["best fixed plans"] = [point(p, str(p["policy"])) for p in best]
    fixed = [point(p, str(p["plan"])) for p in figures.get("fixed") or []]
    levels = {
        name: figures[key]
        for name, key in (("question only", "blind_accuracy"), ("majority", "majority_accuracy"))
        if figures.get(key) is not None
    }
    return pareto(curves, fixed, levels)


def _levels(found: Findings) -> dict[str, float]:
    """Accuracies without a cost."""
    levels: dict[str, float] = {}
    for one in found.evaluations.values():
        for name, key in (
            ("annotated objects", "objects_bound"),
            ("evaluated", "accuracy"),
            ("question only", "blind_accuracy"),
        ):
            if one.get(key) is not None:
                levels.setdefault(name, one[key])
    return levels


def _plans_of(run: Run) -> list[Point]:
    """Plans that a run used, with what they cost and how often they were right."""
    groups: dict[str, list[RunStep]] = {}
    for step in run.steps:
        on = [name for name, state in step.states.items() if state in ("on", "reused")]
        groups.setdefault(f"{_summed(on)}, tail {step.tail_blocks}", []).append(step)
    points: list[Point] = []
    for name, steps in groups.items():
        known = [a.right for step in steps for a in step.answers if a.right is not None]
        if known:
            gflop = sum(step.flops for step in steps) / len(steps) / 1e9
            told = f"{run.name}: {name} ({len(known)} answers)"
            points.append(Point(told, gflop, sum(known) / len(known)))
    return points


def _summed(sensors: Sequence[str]) -> str:
    cameras = sum(name.startswith("cam") for name in sensors)
    rest = [name for name in sensors if not name.startswith("cam")]
    words = [f"{cameras} camera{'s' * (cameras != 1)}"] if cameras else []
    return " + ".join([*words, *rest]) or "no sensor"


def _latency(found: Findings) -> Section:
    frame = found.benchmarks.get("frame")
    if frame is None:
        return Section(
            "latency",
            "Latency of a frame",
            missing="tailwire bench frame --save FILE in this folder",
        )
    settings = frame["settings"]
    lead = (
        f"{len(settings['sensors'])} sensors, {settings['questions']} standing questions, tail of "
        f"{settings['tail_blocks']} blocks at {settings['precision']}: median "
        f"{frame['p50_ms']:.0f} ms, p99 {frame['p99_ms']:.0f} ms ({frame['p99_over_p50']:.2f} x), "
        f"over {settings['frames']} frames of {settings.get('drive', 'a drive')}."
    )
    chart = waterfall(frame["stages_ms"], frame["ms"], frame.get("ceiling_ms"))
    return Section(
        "latency", "Latency of a frame", lead, [("Medians, one behind the other", chart)]
    )


def _memory(found: Findings) -> Section:
    memory, card = found.benchmarks.get("memory"), found.benchmarks.get("card")
    charts: list[tuple[str, Chart]] = []
    if memory:
        methods = memory["methods"]
        charts.append(
            (
                "Peak, by the method it was read with",
                bars(
                    {name: one["peak_bytes"] / 1e6 for name, one in methods.items()},
                    "MB",
                    {name: f"{name}: {one['method']}" for name, one in methods.items()},
                ),
            )
        )
        parts = {name: size / 1e6 for name, size in memory["counted_by_part"].items()}
        total = memory["peak_memory_bytes"] / 1e6
        charts.append(
            (
                "What of the peak is counted (weights, heads, prefixes)",
                stacked(parts, total, "back end, interpreter, buffers", "MB"),
            )
        )
    elif card:
        parts = {name: size / 1e6 for name, size in card["memory"].items()}
        charts.append(("Counted by part", stacked(parts, sum(parts.values()), "rest", "MB")))
    missing = "" if memory else "tailwire bench memory --save FILE (measured peaks)"
    lead = "No single figure is the memory of a process, so each method is named."
    return Section("memory", "Memory", lead, charts, missing=missing)


def _model(found: Findings) -> Section:
    llm, standing = found.benchmarks.get("llm"), found.benchmarks.get("standing")
    charts: list[tuple[str, Chart]] = []
    if standing:
        times = {k.replace("_", " "): v["median"] for k, v in standing["ms"].items()}
        charts.append(("A frame of standing questions, language model alone", bars(times, "ms")))
    if llm:
        speeds = {k: v["decode"]["tokens_per_s"] for k, v in llm["by_precision"].items()}
        charts.append(("Decoding", bars(speeds, "tokens/s")))
        first = {
            f"{k}, prompt of {n}": one["ttft_ms"]
            for k, v in llm["by_precision"].items()
            for n, one in v["prefill"].items()
        }
        charts.append(("Time to first token", bars(first, "ms")))
    missing = "" if charts else "tailwire bench llm --save FILE, bench standing --save FILE"
    return Section("model", "Language model", "", charts, missing=missing)


def _peers(found: Findings) -> Section:
    peers = found.benchmarks.get("peers")
    if peers is None:
        return Section("peers", "Peers", missing="tailwire bench peers --install-peers --save FILE")
    charts: list[tuple[str, Chart]] = []
    for task, title in (
        ("five_questions_ms", "Five standing questions, a frame"),
        ("one_question_ms", "One standing question, a frame"),
        ("decode_tokens_per_s", "Decoding"),
    ):
        values = {name: one[task] for name, one in peers["peers"].items() if one.get(task)}
        if values:
            unit = "ms" if task.endswith("_ms") else "tokens/s"
            others = [name for name in values if not name.startswith("tailwire")]
            charts.append((title, bars(values, unit, others=others)))
    table: Rows = [("", "cannot do")]
    table += [
        (name, "; ".join(one["cannot"]))
        for name, one in peers["peers"].items()
        if one.get("cannot")
    ]
    table += [(name, f"not measured: {why}") for name, why in peers.get("missing", {}).items()]
    if len(table) > 1:
        charts.append(("What each cannot do", Chart("", table)))
    return Section("peers", "Peers", "Same weights, same threads, one run.", charts)


def _growth(found: Findings) -> Section:
    scale = found.benchmarks.get("scale")
    if scale is None:
        return Section("growth", "How costs grow", missing="tailwire bench scale --save FILE")
    lead = "One thing grows at a time; medians of interleaved rounds."
    return Section(
        "growth", "How costs grow", lead, [("Milliseconds", growth_lines(scale["axes"]))]
    )


def _learning(found: Findings) -> Section:
    title, paper = "Learning a sensor", found.benchmarks.get("paper")
    if paper is None:
        return Section("learning", title, missing="tailwire bench paper --save FILE")
    charts = learning_charts(paper)
    return Section("learning", title, LEAD, charts, note=paper["comparable"])


def _run(run: Run, pictures: Pictures) -> Section:
    right, known = run_score(run)
    score = f"{right} of {known} answers right" if known else "nobody knows what is right"
    warning = "" if run.pack_trained else " The pack is not trained, so its answers mean nothing."
    times = sorted(step.total_ms for step in run.steps)
    lead = (
        f"{run.pack}, {run.all_steps} moments, {score}; median {times[len(times) // 2]:.0f} ms a "
        f"frame.{warning}"
    )
    moments = [
        Moment(
            f"moment {place + 1}{f', {step.drive}' if step.drive else ''}",
            pictures(step),
            [(a.question, a.text, a.expected or "–", verdict(a)) for a in step.answers[:8]],
        )
        for place, step in sampled(run, _PICTURES_OF_A_RUN)
    ]
    return Section(
        f"run-{run.name.replace('/', '-')}",
        f"Run: {run.name}",
        lead,
        [("Over time; point at anything to read it", timeline(run))],
        moments,
    )


def _no_run() -> Section:
    return Section("run", "A run over time", missing="tailwire demo --out DIR or replay --out DIR")
