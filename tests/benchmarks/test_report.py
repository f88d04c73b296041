"""The page shows what a folder holds, whole and offline, and says what it could not read."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tailwire.benchmarks.report.findings import MOST_STEPS, read_findings
from tailwire.benchmarks.report.page import page
from tailwire.benchmarks.report.pictures import sampled
from tailwire.benchmarks.report.svg import Scale, ticks
from tailwire.benchmarks.result_file import write_result
from tailwire.runtime.errors import ConfigError

from .report_folders import answer, frame_result, write_folder, write_run

_VOID = {"meta", "img", "br", "rect", "circle", "line", "path", "polyline"}


class Outline(HTMLParser):
    """Checks that tags are closed in order, and collects what the page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.classes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(attrs)
        if tag not in _VOID or tag in ("rect", "circle", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        self.classes += values.get("class", "").split()


def _page(root: Path) -> str:
    return page(read_findings(root), lambda step: None, version="1.0", date="2026-01-02")


def test_everything_that_a_folder_holds_is_on_the_page(tmp_path: Path) -> None:
    text = _page(write_folder(tmp_path))
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert {"accuracy", "latency", "memory", "growth", "learning", "run-demo", "methods"} <= set(
        outline.ids
    )
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.classes.count("state-reused") == 1 + 1, "a step and the key"
    assert outline.classes.count("wrong") == 2 + 1
    assert "30 ms" in text
    assert "75%" in text, "right in demo"
    # Anchors and pictures only: nothing is fetched.
    assert all(one.startswith(("#", "data:")) for one in outline.addresses)
    assert not re.search(r"https?://|@import|url\(", text)


def test_the_papers_own_figures_stand_beside_ours(tmp_path: Path) -> None:
    text = _page(write_folder(tmp_path))
    assert "Only columns beside &lt;full&gt;." in text
    row = re.search(r"<tr><td>tail-10</td>(.*?)</tr>", text[text.index("the paper&#x27;s: ") :])
    assert row is not None
    # 80 over 5 GFLOP, half of that with heads, 1 of 4 GB; N=10 of the paper: 1.58 over 0.81, 24.5
    # over 29.9.
    cells = re.findall(r"<td>(.*?)</td>", row[1])
    assert cells == ["16.0 x", "8.0 x", "25%", "1.95 x", "82%"]
    row = re.search(r"<tr><td>tail-5</td>(.*?)</tr>", text[text.index("the paper&#x27;s: ") :])
    assert row is not None and re.findall(r"<td>(.*?)</td>", row[1])[3:] == ["", ""]


def test_texts_of_others_are_no_markup(tmp_path: Path) -> None:
    text = _page(write_folder(tmp_path))
    assert "<bus>" not in text
    assert "&lt;bus&gt;" in text
    assert "a &lt;processor&gt;" in text


def test_runs_are_read_moment_by_moment(tmp_path: Path) -> None:
    write_run(tmp_path / "demo", lines=("{", '{"question": 1}'))
    found = read_findings(tmp_path)
    (run,) = found.runs
    assert [len(step.answers) for step in run.steps] == [2, 2, 2, 2]
    states = [dict(step.states) for step in run.steps]
    assert states[0] == {"cam_front": "on", "lidar_top": "off"}
    assert states[1]["cam_front"] == "reused"
    assert states[2]["lidar_top"] == "dropped"
    assert run.budget == {"flops": 12_000_000_000}
    assert run.steps[3].total_ms == 28.0
    assert found.notes == ["2 lines of demo/answers.jsonl are no answers"]
    assert [place for place, _ in sampled(run, 2)] == [0, 3]


def test_many_moments_and_many_questions_stay_readable(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "replay")
    rows = [
        answer(step, f"question {step} {n}?") for step in range(MOST_STEPS + 5) for n in range(3)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_findings(tmp_path)
    assert len(found.runs[0].steps) == MOST_STEPS
    assert found.runs[0].all_steps == MOST_STEPS + 5
    assert any("first 240 of 245" in note for note in found.notes)
    assert len(_page(tmp_path)) < 1_000_000


def test_the_newest_result_of_a_benchmark_counts(tmp_path: Path) -> None:
    machine = {"date": "2027-01-01"}
    write_result(tmp_path / "a.json", frame_result(p50_ms=7.0, machine=machine))
    write_result(tmp_path / "b.json", frame_result())
    assert read_findings(tmp_path).benchmarks["frame"]["p50_ms"] == 7.0


def test_what_cannot_be_read_is_said_on_the_page(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "old.json").write_text(json.dumps({"benchmark": "llm", "format_version": 0}))
    text = _page(tmp_path)
    assert "old.json is of format 0" in text
    assert "broken.json cannot be read" in text


def test_times_of_a_busy_machine_are_called_that(tmp_path: Path) -> None:
    calm = {"load_average_1min": 2.5, "cores": 2, "date": "2026"}
    write_result(tmp_path / "frame.json", frame_result(machine=calm))
    assert "busy machine" not in _page(tmp_path)
    busy = {**calm, "load_average_1min": 9.0, "date": "2027"}
    write_result(tmp_path / "later.json", frame_result(machine=busy))
    assert "frame (load 9 on 2 cores)" in _page(tmp_path)


def test_missing_parts_say_how_to_get_them(tmp_path: Path) -> None:
    write_result(tmp_path / "frame.json", frame_result(ceiling_ms=None))
    text = _page(tmp_path)
    for command in (
        "bench schedule",
        "bench memory",
        "bench scale",
        "bench peers",
        "bench paper",
        "tailwire demo",
    ):
        assert command in text


def test_folders_without_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        read_findings(tmp_path / "none")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigError, match="nothing here"):
        read_findings(tmp_path)


def test_scales_and_ticks() -> None:
    assert ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert ticks(3, 3) == [3]
    scale = Scale(0, 10, 100, 0)
    assert (scale(0), scale(10), scale(5)) == (100, 0, 50)
    assert Scale(1, 1, 0, 9)(1) == 0
