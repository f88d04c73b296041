"""What reports are printed with: facts, a line each, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def print_fact(name: str, text: str) -> None:
    """Print one line, the name in a column of its own; flushed, so that notes follow in order."""
    print(f"{name:<11} {' '.join(text.split())}", flush=True)


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print rows of one length, at least one; all but the first column stand to the right."""
    table = list(rows)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        name, *cells = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join((name, *cells)).rstrip())
