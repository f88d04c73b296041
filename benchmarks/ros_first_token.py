"""The core's own first token: frames in, first piece of text out, in this process without ROS.

What the action `Ask` needs beyond it is what the node costs.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..assembly import open_runtime
from ..runtime.decoding import TextPiece
from ..runtime.frames import SensorFrame
from ..runtime.questions import Question
from ..runtime.runtime import Runtime

#: Between two questions, seconds of the drive: every sensor has something new.
_GAP_NS = 500_000_000


def core_first_tokens(
    drive: Path,
    scene: str,
    parameters: Mapping[str, str],
    question: str,
    number: int,
) -> list[float]:
    """Milliseconds from the question to the first piece of text, engines and frames at hand.

    Args:
        drive: nuScenes dataroot or bag.
        scene: of the drive; empty takes the first.
        parameters: of the runtime node, as `-p` takes them.
        question: answered in free text.
        number: of times; the first of all is not counted.

    Raises:
        TailwireError: the drive or the engines cannot be opened.
    """
    from tailwire_ros.drive_messages import DriveMessages
    from tailwire_ros.settings import SETTINGS, runtime_config

    values = {name: setting.default for name, setting in SETTINGS.items()}
    for name, text in parameters.items():
        if name in values:
            values[name] = type(values[name])(text)
    # The nodes import the installed package by its name, which a type checker takes for another.
    frames: Iterator[Any] = DriveMessages(drive, scene).source.frames()
    config: Any = runtime_config(values)
    found: list[float] = []
    with open_runtime(config) as runtime:
        held: list[SensorFrame] = []
        next_ns = 0
        for frame in frames:
            if frame.sensor not in runtime.known_sensors:
                continue
            held.append(frame)
            next_ns = next_ns or frame.stamp_ns + _GAP_NS
            if frame.stamp_ns < next_ns:
                continue
            next_ns += _GAP_NS
            found.append(_first_ms(runtime, held, question))
            held.clear()
            if len(found) > number:
                break
    return found[1:]


def _first_ms(runtime: Runtime, frames: Sequence[SensorFrame], question: str) -> float:
    for frame in frames:
        runtime.push(frame)
    begun_s = time.perf_counter()
    pieces = runtime.stream((), Question(question))
    for piece in pieces:
        if not isinstance(piece, TextPiece) or piece.text:
            break
    took_ms = 1e3 * (time.perf_counter() - begun_s)
    pieces.close()  # pyright: ignore[reportAttributeAccessIssue]
    return took_ms
