"""A runtime on a clock of its own: parts take the milliseconds that a test says, on any machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.engine import Array, BoundRun, Engine
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.questions import Question
from tailwire.runtime.runtime import Runtime

from .fakes import MODALITIES, SENSORS, YES_NO, FakeRuntime, fake_runtime, picture
from .plan_requests import IndependentSensors

if TYPE_CHECKING:
    from .built_models import TinyModels

#: Answers of one token, which need no pass beyond the tail's own.
QUESTIONS = tuple(
    Question(f"Is there a {thing} near me?", YES_NO) for thing in ("bus", "car", "man")
)
_WHOLE_QUESTION = 8
GAINS = {"cam_front": 0.3, "cam_back": 0.2, "lidar_top": 0.6}


class Ticks:
    """A clock that stands still until a part takes its time."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def take(self, ms: float) -> None:
        self.seconds += ms / 1e3


class TickingEngine:
    """A real engine whose runs take what the clock is told."""

    def __init__(self, engine: Engine, machine: Machine) -> None:
        self._engine, self._machine = engine, machine
        self.input_specs, self.output_specs = engine.input_specs, engine.output_specs
        self.device = engine.device

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        # Passes of single tokens, which answers of several need, are no pass of whole questions.
        if "residual_in" in inputs and inputs["residual_in"].shape[1] >= _WHOLE_QUESTION:
            self._machine.take("tail")
        return self._engine.run(inputs)

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        return self._engine.bind(buffers)

    def close(self) -> None:
        self._engine.close()


class Machine:
    """What parts take, in milliseconds.

    Attributes:
        ms: of a frame of `camera` and `lidar`, and of questions in an engine of the language model.
        slower: factor on all of them.
    """

    def __init__(self, **ms: float) -> None:
        self.clock = Ticks()
        self.ms = {"camera": 10.0, "lidar": 20.0, "tail": 30.0} | ms
        self.slower = 1.0

    def take(self, part: str, times: float = 1.0) -> None:
        self.clock.take(self.ms[part] * times * self.slower)

    def load(self, path: Path, *, threads: int) -> Engine:
        """An `EngineLoader` for the language model."""
        return TickingEngine(OnnxRuntimeEngine(path, threads=threads), self)

    def runtime(
        self,
        tiny: TinyModels,
        folder: Path,
        *,
        questions: tuple[Question, ...] = QUESTIONS,
        gains: Mapping[str, float] | None = GAINS,
        **options: Any,
    ) -> FakeRuntime:
        """A runtime on this machine, with standing questions."""
        tiny.model("llama")
        model = LanguageModel(tiny.engines("llama"), self.load, threads=1)
        utility = None if gains is None else IndependentSensors(gains)
        fake = fake_runtime(
            model,
            folder,
            utility=utility,
            now=self.clock,
            reloadable=True,
            on_run=self.take,
            **options,
        )
        for question in questions:
            fake.runtime.watch(question)
        return fake


def cloud(seed: int = 0) -> NDArray[np.float32]:
    """One with as many points as a LiDAR that works."""
    return np.random.default_rng(seed).normal(0, 20, (500, 5)).astype(np.float32)


def frames(stamp_ms: float, sensors: tuple[str, ...] = SENSORS) -> list[SensorFrame]:
    """Another frame of every sensor at each time, none of which speaks against itself."""
    seed = round(stamp_ms)
    return [
        SensorFrame(
            sensor,
            MODALITIES[sensor],  # pyright: ignore[reportArgumentType]
            round(stamp_ms * 1e6),
            sensor,
            cloud(seed) if MODALITIES[sensor] == "lidar" else picture(seed + SENSORS.index(sensor)),
        )
        for sensor in sensors
    ]


def drive(runtime: Runtime, first: int, count: int, every_ms: float = 100.0) -> list[list[Any]]:
    """Answers of some frames in a row; `first` is the number of the first."""
    return [runtime.step(frames((first + number) * every_ms)) for number in range(count)]
