"""The page itself: one HTML file with its style, script, drawings and pictures inside.

Nothing is fetched, so it works from a disk, behind a firewall, and in ten years.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .charts import Chart, Rows
from .findings import Findings
from .sections import Moment, Pictures, Section, sections, tiles

#: What a benchmark may add itself to the load of a machine before that is called busy.
_OWN_LOAD = 1.0
_VERDICTS = {"right": "✓ right", "wrong": "✕ wrong", "unknown": "nobody knows"}


def page(found: Findings, pictures: Pictures, *, version: str, date: str) -> str:
    """The HTML of a page.

    Args:
        found: what is shown.
        pictures: makes sample frames.
        version: of Tailwire.
        date: of the page.
    """
    parts = sections(found, pictures)
    folder = Path(__file__).parent
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = (folder / "page.js").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{escape(one.name)}">{escape(one.title)}</a>' for one in parts)
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Tailwire: {escape(found.folder.name)}</title><style>{style}</style></head>",
            f"<body><header><h1>{escape(found.folder.name)}</h1>",
            f"<p>Tailwire {escape(version)}, page of {escape(date)}</p>",
            '<button id="theme" type="button">light or dark</button></header>',
            f'<nav aria-label="sections">{links}</nav><main>',
            _tiles(tiles(found)),
            _busy(found),
            *map(_section, parts),
            _methods(found),
            f"</main><script>{script}</script></body></html>\n",
        )
    )


def _tiles(shown: Sequence[tuple[str, str, str]]) -> str:
    boxes = "".join(
        f'<div class="tile"><span>{escape(what)}</span><strong>{escape(figure)}</strong>'
        f"<small>{escape(of)}</small></div>"
        for what, figure, of in shown
    )
    return f'<div class="tiles">{boxes}</div>' if boxes else ""


def _busy(found: Findings) -> str:
    """Says which times were measured while others had the cores."""
    busy = [
        f"{name} (load {machine['load_average_1min']:g} on {machine['cores']} cores)"
        for name, result in found.benchmarks.items()
        if (machine := result.get("machine") or {}).get("load_average_1min")
        and machine["load_average_1min"] > machine.get("cores", 1) + _OWN_LOAD
    ]
    if not busy:
        return ""
    told = escape(", ".join(busy))
    return f'<p class="missing">Times of a busy machine, to be read side by side only: {told}.</p>'


def _section(section: Section) -> str:
    lead = f"<p>{escape(section.lead)}</p>" if section.lead else ""
    missing = (
        '<p class="missing">Not in this folder. To have it: '
        f"<code>{escape(section.missing)}</code></p>"
        if section.missing
        else ""
    )
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    charts = "".join(_chart(caption, chart) for caption, chart in section.charts)
    moments = "".join(map(_moment, section.moments))
    frames = f'<h3>Sample frames</h3><div class="frames">{moments}</div>' if moments else ""
    return (
        f'<section id="{escape(section.name)}"><h2>{escape(section.title)}</h2>{lead}{charts}'
        f"{note}{frames}{missing}</section>"
    )


def _chart(caption: str, chart: Chart) -> str:
    key = "".join(
        f'<span><i class="swatch {kind}"></i>{escape(name)}</span>' for kind, name in chart.key
    )
    key = f'<div class="key">{key}</div>' if key else ""
    if not chart.drawing:
        return f"<figure><figcaption>{escape(caption)}</figcaption>{table(chart.rows)}</figure>"
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption>{key}<div class="scroll">'
        f"{chart.drawing}</div><details><summary>figures</summary>{table(chart.rows)}</details>"
        "</figure>"
    )


def table(rows: Rows) -> str:
    """A table whose first row names the columns."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:]
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _moment(moment: Moment) -> str:
    image = (
        f'<img src="{moment.image}" alt="what the cameras saw, {escape(moment.title)}">'
        if moment.image
        else '<p class="missing">the drive is not at hand: name it with --nuscenes</p>'
    )
    rows = "".join(
        f"<tr><td>{escape(question)}</td><td>{escape(text)}</td><td>{escape(expected)}</td>"
        f'<td class="{kind}-text">{_VERDICTS[kind]}</td></tr>'
        for question, text, expected, kind in moment.rows
    )
    return (
        f'<article class="moment"><h4>{escape(moment.title)}</h4>{image}<div class="scroll"><table>'
        "<thead><tr><th>question</th><th>answer</th><th>right is</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></article>"
    )


def _methods(found: Findings) -> str:
    """Where every figure comes from, and what could not be read."""
    parts: list[str] = []
    for name, result in found.benchmarks.items():
        machine: Mapping[str, Any] = result.get("machine") or {}
        told = {
            "method": result.get("method", ""),
            "settings": _pairs(result.get("settings") or {}),
            "machine": _pairs(machine),
        }
        rows = "".join(
            f"<dt>{key}</dt><dd>{escape(str(value))}</dd>" for key, value in told.items() if value
        )
        parts.append(f"<details><summary>bench {escape(name)}</summary><dl>{rows}</dl></details>")
    notes = "".join(f"<li>{escape(note)}</li>" for note in found.notes)
    notes = f"<h3>Not shown</h3><ul>{notes}</ul>" if notes else ""
    return f'<section id="methods"><h2>Methods and machines</h2>{"".join(parts)}{notes}</section>'


def _pairs(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in values.items())
