"""Frame latency while the runtime learns a sensor in the background, and while it swaps.

Frames come at a fixed rate, first alone, then beside an adaptation, then through several swaps.
What is learned is made up: its cost is that of real data of the same shapes, and it can be learned,
so that the adaptation ends in a swap.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.adaptation.data import AdaptationData, KnownQuestion
from ..runtime.adaptation.outcome import AdaptationResult
from ..runtime.adaptation.request import AdaptationRequest
from ..runtime.errors import EngineError, TailwireError
from ..runtime.frames import SensorFrame
from ..runtime.pack import PackManifest
from ..runtime.runtime import Runtime
from .measure import Timings, machine_card

METHOD = (
    "One thread hands over the frames of a drive at a fixed rate, in a loop with new stamps, and "
    "answers all standing questions from each. The latency of a frame runs from the moment it was "
    "due until its answers are there, so a frame that waits for the one before it counts whole; "
    "none is skipped. alone: before the adaptation. adapting: frames due from the request to the "
    "end of the adaptation, its swap included; a second thread makes the request. at_swap: frames "
    "under way during a swap, and the first one behind it: the adaptation's own swap and those of "
    "a third thread that then goes back and forth between old and new. The added sensor's encoder "
    "runs in frames behind a swap to the new weights. missing: answers fewer than frames times "
    "questions. late: frames answered after the next one was due. cores_of_other_processes: kept "
    "busy meanwhile, from /proc/stat; where few are left, latencies say little. What is learned "
    "are tokens made at random with the answer in those of the added sensor, in the shapes of the "
    "pack."
)
_ANSWERS = ("yes", "no")
_MOMENTS, _BLOCKS = 384, 12
_WARM_UP = 5


@dataclass(frozen=True)
class FrameTime:
    """When a frame was due, begun and answered, by `time.monotonic()`, and how many answers."""

    due: float
    begun: float
    done: float
    answers: int

    @property
    def latency_ms(self) -> float:
        return (self.done - self.due) * 1e3


class Drumbeat:
    """Steps a runtime at a fixed rate."""

    def __init__(
        self, runtime: Runtime, ticks: Sequence[Sequence[SensorFrame]], rate_hz: float
    ) -> None:
        """Nothing is stepped yet.

        Args:
            runtime: with standing questions.
            ticks: frames of each tick; they repeat, with stamps that go on.
            rate_hz: ticks per second.
        """
        self._runtime, self._ticks, self._period = runtime, ticks, 1 / rate_hz
        self._number = 0
        self.period_s = self._period

    def run(self, go_on: Callable[[int], bool]) -> list[FrameTime]:
        """Step until told to stop.

        Args:
            go_on: given the frames so far; asked before each.
        """
        found: list[FrameTime] = []
        begin = time.monotonic()
        while go_on(len(found)):
            due = begin + len(found) * self._period
            frames = self._stamped()
            time.sleep(max(0.0, due - time.monotonic()))
            begun = time.monotonic()
            answers = self._runtime.step(frames)
            found.append(FrameTime(due, begun, time.monotonic(), len(answers)))
        return found

    def _stamped(self) -> list[SensorFrame]:
        """The frames of the next tick, copied so that each is encoded anew."""
        frames = self._ticks[self._number % len(self._ticks)]
        shift = round(self._number * self._period * 1e9)
        self._number += 1
        newest = max(frame.stamp_ns for frame in frames)
        # Stamps within a tick keep their distances.
        return [replace(one, stamp_ns=10**18 + shift + one.stamp_ns - newest) for one in frames]


def made_up_data(pack: PackManifest, sensors: Sequence[str], coming: str) -> AdaptationData:
    """Moments whose answers only the coming sensor tells.

    Args:
        pack: names the encoders.
        sensors: all that take part.
        coming: one of them.
    """
    rng = np.random.default_rng(0)
    tokens: dict[str, np.ndarray] = {}
    signs = rng.permutation(np.arange(_MOMENTS) % 2 * 2 - 1)
    for sensor in sensors:
        spec = pack.encoders[pack.sensor_encoders[sensor]]
        made = rng.normal(0, 0.3, (_MOMENTS, spec.tokens, spec.width))
        if sensor == coming:
            made += 2 * signs[:, None, None] * rng.normal(size=spec.width)
        # As of detectors, a part of the rows is empty.
        made[:, max(1, spec.tokens // 2) :] = 0
        tokens[sensor] = made.astype(np.float16)
    things = ("pedestrian", "car", "truck", "bus", "bicycle", "barrier", "trailer", "motorcycle")
    texts = [f"Is there another {thing} to the front left of me?" for thing in things]
    questions = [
        KnownQuestion(moment, text, _ANSWERS[int(sign < 0)], _ANSWERS)
        for moment, sign in enumerate(signs)
        for text in rng.choice(texts, 2, replace=False).tolist()
    ]
    blocks = [f"block {moment * _BLOCKS // _MOMENTS}" for moment in range(_MOMENTS)]
    return AdaptationData(tokens, blocks, questions)


def bench_adaptation_latency(
    runtime: Runtime,
    ticks: Sequence[Sequence[SensorFrame]],
    request: AdaptationRequest,
    *,
    questions: int,
    rate_hz: float,
    frames: int,
    swaps: int,
    threads: int,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure the three phases.

    Args:
        runtime: with standing questions, and the sensors of before switched on.
        ticks: frames of all sensors.
        request: adds one sensor.
        questions: standing ones.
        rate_hz: frames per second.
        frames: of the phase alone.
        swaps: after the adaptation.
        threads: that the runtime was loaded with, for the record.
        progress: told what is measured.

    Raises:
        TailwireError: the adaptation broke off.
    """
    (coming,) = request.add
    before = runtime.sensors
    beat = Drumbeat(runtime, ticks, rate_hz)
    beat.run(lambda done: done < _WARM_UP)
    progress("frames alone")
    others = OtherProcesses()
    alone = beat.run(lambda done: done < frames)
    busy = {"alone": others.cores()}
    progress("frames beside an adaptation")
    learning = _Learning(runtime, request, made_up_data(runtime.pack, (*before, coming), coming))
    adapting = beat.run(learning.goes_on)
    result = learning.result()
    busy["adapting"] = others.cores()
    progress(f"frames through {swaps} swaps")
    swapping = _Swapping(runtime, swaps, 2.5 / rate_hz)
    swapped = beat.run(lambda done: swapping.goes_on())
    moments = [*learning.swaps, *swapping.moments]
    at_swap = _around([*adapting, *swapped], moments)
    every = [*alone, *adapting, *swapped]
    late = {
        name: sum(one.done > one.due + beat.period_s for one in part)
        for name, part in (("alone", alone), ("adapting", adapting), ("swaps", swapped))
    }
    ms = {name: _summary(part) for name, part in (("alone", alone), ("adapting", adapting))}
    ms["at_swap"] = _summary(at_swap)
    return {
        "benchmark": "adaptation-latency",
        "p99_alone_ms": ms["alone"]["p99"],
        "p99_adapting_ms": ms["adapting"]["p99"],
        "max_at_swap_ms": ms["at_swap"]["max"],
        "p99_ratio": round(ms["adapting"]["p99"] / ms["alone"]["p99"], 3),
        "ms": ms,
        "swap_ms": [round((end - begin) * 1e3, 2) for begin, end in moments],
        "missing": len(every) * questions - sum(one.answers for one in every),
        "late": late,
        "cores_of_other_processes": busy,
        "adaptation": _told(result),
        "settings": {
            "model": runtime.model.manifest.name,
            "precision": runtime.model.manifest.precision,
            "pack": f"{result.mode} {coming}",
            "tail_blocks": runtime.tail_blocks,
            "questions": questions,
            "sensors": list(before),
            "rate_hz": rate_hz,
            "batch": request.batch,
            "training_threads": request.threads,
            "nice": request.nice,
        },
        "machine": machine_card(threads, ("torch",)),
        "method": METHOD,
    }


class OtherProcesses:
    """How many cores others keep busy: with few left for us, latencies say little."""

    def __init__(self) -> None:
        self._before = self._now()

    def cores(self) -> float | None:
        """On average since the last call; None where the system does not tell."""
        before, self._before = self._before, self._now()
        if before is None or self._before is None:
            return None
        wall, total, own = (now - then for now, then in zip(self._before, before, strict=True))
        return round(max(0.0, (total - own) / wall), 2)

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds: of the clock, of all busy cores, of this process."""
        try:
            first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
            ticks = [int(field) for field in first[1:9]]
            # user, nice, system, idle, iowait, irq, softirq, steal; see proc(5).
            idle = ticks[3] + ticks[4]
            busy = (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):
            return None
        own = os.times()
        return time.monotonic(), busy, own.user + own.system


class _Learning:
    """An adaptation that is asked for by a thread of its own: the request takes seconds."""

    def __init__(self, runtime: Runtime, request: AdaptationRequest, data: AdaptationData) -> None:
        self._error: TailwireError | None = None
        self._result: AdaptationResult | None = None
        self._frames_after = 0
        #: Begin and end of its swap, if there was one.
        self.swaps: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._run, args=(runtime, request, data))
        self._thread.start()

    def _run(self, runtime: Runtime, request: AdaptationRequest, data: AdaptationData) -> None:
        try:
            adaptation = runtime.adapt(request, data)
            self._result = adaptation.result()
        except TailwireError as error:
            self._error = error
            return
        if adaptation.swapped_at is not None:
            self.swaps.append(adaptation.swapped_at)

    def goes_on(self, done: int) -> bool:
        """Until it is over, and two frames more."""
        self._frames_after += not self._thread.is_alive()
        return self._frames_after <= 2

    def result(self) -> AdaptationResult:
        self._thread.join()
        if self._result is None:
            raise self._error or EngineError("the adaptation broke off", field="adapt")
        return self._result


class _Swapping:
    """Goes back and forth between what serves and what served, in a thread of its own."""

    def __init__(self, runtime: Runtime, swaps: int, every_s: float) -> None:
        self._runtime, self._swaps, self._every_s = runtime, swaps, every_s
        self._frames_after = 0
        self.moments: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        rng = np.random.default_rng(0)
        # Where the adaptation was refused, a swap to weights of the same content.
        serving = self._runtime.serving
        same = serving.connection.with_weights(serving.connection.weights)
        other = replace(serving, connection=same)
        for _ in range(self._swaps):
            # At any moment of a frame, not always the same.
            time.sleep(self._every_s * (0.5 + rng.random()))
            begin = time.monotonic()
            try:
                self._runtime.roll_back()
            except TailwireError:
                self._runtime.serve(other)
            self.moments.append((begin, time.monotonic()))

    def goes_on(self) -> bool:
        """Until the last swap, and two frames more."""
        self._frames_after += not self._thread.is_alive()
        return self._frames_after <= 2


def _around(frames: Sequence[FrameTime], swaps: Sequence[tuple[float, float]]) -> list[FrameTime]:
    """Frames that were due or under way during a swap, and the first one begun behind each."""
    found: dict[int, FrameTime] = {}
    for begin, end in swaps:
        for number, one in enumerate(frames):
            if one.due <= end and one.done >= begin:
                found[number] = one
        behind = [number for number, one in enumerate(frames) if one.begun > end]
        found.update({number: frames[number] for number in behind[:1]})
    return list(found.values())


def _summary(frames: Sequence[FrameTime]) -> dict[str, float]:
    times = np.array([one.latency_ms for one in frames])
    found = Timings(times).summary() | {"max": float(times.max())}
    return {name: round(value, 2) for name, value in found.items()}


def _told(result: AdaptationResult) -> dict[str, Any]:
    names = ("outcome", "stopped", "choice", "steps", "samples_per_s", "training_s", "wall_s")
    told = {name: getattr(result, name) for name in names}
    return told | {"memory_bytes": result.memory_bytes, "memory_method": result.memory_method}
