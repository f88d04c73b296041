"""A process that disturbs: it says when, and is gone afterwards."""

from __future__ import annotations

import itertools
import time

from tailwire.benchmarks.disturbance import Disturbance, overlaps


def test_it_tells_when_it_was_on_and_ends_with_its_block() -> None:
    with Disturbance(3, span_s=(0.005, 0.01)) as other:
        begun = time.monotonic()
        while len(other.spans) < 3 and time.monotonic() - begun < 30:
            time.sleep(0.01)
        process = other._process
    assert process is not None
    assert process.poll() is not None
    spans = other.spans
    assert len(spans) >= 3
    for (start, end), (following, _) in itertools.pairwise(spans):
        assert start < end < following
    kept = len(other.spans)
    time.sleep(0.05)
    assert len(other.spans) == kept


def test_overlaps_are_those_of_open_intervals() -> None:
    spans = [(1.0, 2.0), (4.0, float("inf"))]
    assert not overlaps(spans, 0.0, 1.0)
    assert overlaps(spans, 0.5, 1.5)
    assert overlaps(spans, 1.2, 1.3)
    assert not overlaps(spans, 2.0, 4.0)
    assert overlaps(spans, 9.0, 9.5)
