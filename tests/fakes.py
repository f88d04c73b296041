"""A small runtime whose encoders are numpy: real language model and connection engines behind it.

Three sensors, two modalities. Everything is seeded and quick; nothing is downloaded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.connection_graphs import build_connection
from tailwire.export.count import count_macs
from tailwire.export.tail_weights import tail_weights
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.connections import Connection, ConnectionSpec, weight_shapes
from tailwire.runtime.encoder_specs import BevInput
from tailwire.runtime.encoders import CameraInput, Encoder, EncoderSpec, LidarInput
from tailwire.runtime.engine import Array, BoundRun, Engine, EngineLoader, TensorSpec
from tailwire.runtime.errors import EngineError
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.model_config import LanguageModelConfig
from tailwire.runtime.pack import BaseModelSpec, FileSpec, PackManifest, PromptSpec, SensorSpec
from tailwire.runtime.parts import RuntimeParts
from tailwire.runtime.perception import Perception
from tailwire.runtime.plans import Answer
from tailwire.runtime.questions import NUSCENES_QA_ANSWERS
from tailwire.runtime.reloadable_engine import ReloadableEngine
from tailwire.runtime.runtime import Runtime
from tailwire.runtime.scheduler import FixedPolicy, UtilityModel

Float = NDArray[np.float32]

WIDTH = 8
SENSORS = ("cam_front", "cam_back", "lidar_top")
MODALITIES = {"cam_front": "camera", "cam_back": "camera", "lidar_top": "lidar"}
YES_NO = ("yes", "no")
COUNTS = tuple(str(count) for count in range(11))
#: Standing questions: answers of one token, with shared first tokens, of many tokens.
QUESTIONS = (
    ("Are there any pedestrians in front of me?", YES_NO),
    ("How many cars are there?", COUNTS),
    ("What is the thing to the back left of me?", NUSCENES_QA_ANSWERS),
)
ENCODER_FLOPS = {"camera": 1_000_003, "lidar": 2_000_003}
SPECS = {
    "camera": EncoderSpec(
        modality="camera",
        kind="onnx",
        input=CameraInput(height=12, width=16),
        tokens=3,
        width=WIDTH,
        file="camera.onnx",
        licence="Apache-2.0",
        source="tests",
    ),
    "lidar": EncoderSpec(
        modality="lidar",
        kind="onnx",
        input=LidarInput(height=8, width=64),
        tokens=2,
        width=WIDTH,
        file="lidar.onnx",
        licence="Apache-2.0",
        source="tests",
    ),
}
#: The LiDAR's encoder gives objects, which can be carried forward in time.
OBJECT_SPECS = SPECS | {
    "lidar": EncoderSpec(
        modality="lidar",
        kind="bev_detector",
        input=BevInput(range_m=16.0, cell_m=2.0, previous_ms=(200, 700)),
        tokens=3,
        width=64,
        file="lidar.safetensors",
        licence="Apache-2.0",
        source="tests",
    )
}


class FakeEncoderEngine:
    """Tokens are a fixed random projection of the input; frames and runs are counted."""

    device = "cpu"

    def __init__(self, spec: EncoderSpec) -> None:
        self.input_specs = [TensorSpec("x", (-1, *spec.input.shape), "float32")]
        self.output_specs = [TensorSpec("y", (-1, spec.tokens, spec.width), "float32")]
        size = int(np.prod(spec.input.shape))
        rng = np.random.default_rng(len(spec.file))
        self._weights = rng.normal(0, 4 / np.sqrt(size), (size, spec.tokens, spec.width))
        self.batches: list[int] = []
        self.fails = False
        self.closed = False
        self.on_run: Callable[[int], None] = lambda frames: None

    @property
    def frames(self) -> int:
        """How many frames have been encoded."""
        return sum(self.batches)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if self.closed or self.fails:
            raise EngineError("the engine is closed or broken")
        images = np.asarray(inputs["x"], np.float64)
        self.batches.append(len(images))
        self.on_run(len(images))
        # One by one, so that a frame's tokens are the same bits in every batch.
        tokens = [np.tensordot(image.reshape(-1), self._weights, 1) for image in images]
        return {"y": np.tanh(np.stack(tokens)).astype(np.float32)}

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


class CountingEngine:
    """A real engine that notes the shapes of every run, for counting operations on the graph."""

    def __init__(self, path: Path, *, threads: int, runs: list[tuple[Path, dict[str, Any]]]):
        self._engine = OnnxRuntimeEngine(path, threads=threads)
        self._path = path
        self._runs = runs
        self.input_specs = self._engine.input_specs
        self.output_specs = self._engine.output_specs
        self.device = self._engine.device

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self._runs.append((self._path, {name: a.shape for name, a in inputs.items()}))
        return self._engine.run(inputs)

    def bind(self, buffers: Mapping[str, Array]) -> BoundRun:
        names = {spec.name for spec in self.input_specs}
        inputs = {name: array for name, array in buffers.items() if name in names}
        return _CountingRun(self._engine.bind(buffers), inputs, self._path, self._runs)

    def close(self) -> None:
        self._engine.close()


class _CountingRun:
    """Buffers of caches have room for later tokens, so their filled length is read at each run."""

    def __init__(
        self,
        bound: BoundRun,
        inputs: dict[str, Array],
        path: Path,
        runs: list[tuple[Path, dict[str, Any]]],
    ) -> None:
        self._bound, self._inputs, self._path, self._runs = bound, inputs, path, runs

    def rebind(self, name: str, buffer: Array) -> None:
        self._bound.rebind(name, buffer)
        self._inputs[name] = buffer

    def run(self) -> None:
        shapes: dict[str, Any] = {name: array.shape for name, array in self._inputs.items()}
        for name, shape in shapes.items():
            if name.startswith("past_") and len(shape) == 4:
                filled = int(self._inputs["past_and_new_minus_1"].item())
                shapes[name] = (*shape[:2], filled, shape[3])
        self._runs.append((self._path, shapes))
        self._bound.run()


class Counter:
    """Counts the FLOPs of all engines that it loaded, on their graphs."""

    def __init__(self) -> None:
        self._runs: list[tuple[Path, dict[str, Any]]] = []

    def load(self, path: Path, *, threads: int) -> Engine:
        """An `EngineLoader`."""
        return CountingEngine(path, threads=threads, runs=self._runs)

    def start(self) -> None:
        """Forget what has run so far."""
        self._runs.clear()

    @property
    def files(self) -> list[str]:
        """Names of the graphs that ran, in order."""
        return [path.name for path, _ in self._runs]

    def flops(self) -> int:
        """Operations since `start`."""
        return sum(
            # Texts that attend apart are at least two.
            2 * graph_macs(path, shapes, then=shapes.get("unpack", (1, 1))[0] > 1)
            for path, shapes in self._runs
        )


def graph_macs(path: Path, shapes: Mapping[str, Any], *, then: bool = False) -> int:
    """Multiply-adds of the graph in a file, for the shapes of those inputs that it has.

    `then` is the branch of every `If`.
    """
    model = onnx.load(str(path), load_external_data=False)
    return count_macs(
        _with_known_sizes(model, shapes),
        {value.name: shapes[value.name] for value in model.graph.input},
        then=then,
    )


def _with_known_sizes(model: onnx.ModelProto, shapes: Mapping[str, Any]) -> onnx.ModelProto:
    """The graph with numbers where it asks for a sensor input's size and cuts something by it.

    ONNX infers no shapes behind a Slice whose end is computed.
    """
    if "rows" not in shapes:
        return model
    slices = {node.input[2] for node in model.graph.node if node.op_type == "Slice"}
    for node in list(model.graph.node):
        if node.op_type == "Shape" and node.output[0] in slices:
            kept = np.asarray([1 + shapes["rows"][0]], np.int64)
            model.graph.node.remove(node)
            model.graph.initializer.append(numpy_helper.from_array(kept, node.output[0]))
    return model


def connection_spec(kind: str = "plain", **changes: Any) -> ConnectionSpec:
    """A small connection for tails of up to four blocks."""
    sizes: dict[str, Any] = {"tail_blocks": 4, "hidden": 12, "width": 16, "layers": 2, "heads": 4}
    return ConnectionSpec(kind=kind, **{**sizes, **changes})  # pyright: ignore[reportArgumentType]


def connection_weights(
    spec: ConnectionSpec,
    config: LanguageModelConfig,
    seed: int = 0,
    specs: Mapping[str, EncoderSpec] = SPECS,
    modalities: Mapping[str, str] = MODALITIES,
) -> dict[str, Float]:
    """Random weights without zeros, so that a forgotten bias or norm is found out."""
    shapes = weight_shapes(
        spec,
        config,
        {name: (encoder.tokens, encoder.width) for name, encoder in specs.items()},
        modalities,
    )
    rng = np.random.default_rng(seed)
    weights: dict[str, Float] = {}
    for name, shape in shapes.items():
        scale = 0.5 if len(shape) == 1 or name.startswith("sensor.") else 1.5 * shape[0] ** -0.5
        centre = 1.0 if ".norm" in name and not name.endswith(".b") else 0.0
        weights[name] = rng.normal(centre, scale, shape).astype(np.float32)
    return weights


def make_connection(
    folder: Path,
    spec: ConnectionSpec,
    config: LanguageModelConfig,
    weights: Mapping[str, Float] | None = None,
    load_engine: EngineLoader = OnnxRuntimeEngine,
) -> Connection:
    """Build the engine of a connection into a folder and put weights behind it."""
    path = folder / f"{spec.kind}-{spec.width}-{spec.layers}.onnx"
    if not path.exists():
        build_connection(spec, config, path)
    given = connection_weights(spec, config) if weights is None else weights
    return Connection(spec, config, load_engine(path, threads=1), given)


def manifest_for(
    config: LanguageModelConfig,
    spec: ConnectionSpec,
    *,
    trained: bool = False,
    specs: Mapping[str, EncoderSpec] = SPECS,
) -> PackManifest:
    """The manifest of a pack that nobody has on disk."""
    files = [*(encoder.file for encoder in specs.values()), spec.file]
    return PackManifest(
        format=1,
        name="fake",
        version="1",
        description="for tests",
        trained=trained,
        licences=("Apache-2.0",),
        base_model=BaseModelSpec.of("tiny", config),
        prompt=PromptSpec(template="{question} Answer:", answer_prefix=" "),
        sensors=tuple(SensorSpec(name=s, encoder=MODALITIES[s]) for s in SENSORS),
        encoders=dict(specs),
        connection=spec,
        tail_blocks=min(2, spec.tail_blocks),
        files={name: FileSpec(sha256="0" * 64) for name in files},
    )


@dataclass
class FakeRuntime:
    """A runtime and what tests look at behind it.

    Attributes:
        runtime: ready for frames; its language model belongs to the caller.
        engines: of the encoders, by modality.
        connection: in use at the start.
        perception: in use.
    """

    runtime: Runtime
    engines: dict[str, FakeEncoderEngine]
    connection: Connection
    perception: Perception
    folder: Path = field(repr=False)


#: Makes runtimes as `fake_runtime` does, with the standing questions if `watch` is not False.
MakeRuntime = Callable[..., FakeRuntime]


def fake_runtime(
    model: LanguageModel,
    folder: Path,
    spec: ConnectionSpec | None = None,
    *,
    weights: Mapping[str, Float] | None = None,
    trained: bool = False,
    load_engine: EngineLoader = OnnxRuntimeEngine,
    checkpoint: Path | None = None,
    pack_folder: Path | None = None,
    reloadable: bool = False,
    utility: UtilityModel | None = None,
    on_run: Callable[[str, int], None] | None = None,
    specs: Mapping[str, EncoderSpec] = SPECS,
    **options: Any,
) -> FakeRuntime:
    """Put a runtime together around a language model.

    Args:
        model: any; groups of it must begin where the connection's deepest tail does.
        folder: for the connection's engine.
        spec: of the connection, `connection_spec()` if not given.
        weights: of the connection, random if not given.
        trained: what the pack says.
        load_engine: loads the connection's engine.
        checkpoint: folder of the language model, for runtimes that adapt.
        pack_folder: where its pack is said to lie.
        reloadable: whether encoders can be unloaded; they hold nothing that could be freed.
        utility: how often plans are right.
        on_run: told of every run of an encoder, with its modality and the number of frames.
        specs: of the encoders.
        options: of `Runtime`.
    """
    spec = spec or connection_spec()
    engines = {name: FakeEncoderEngine(encoder) for name, encoder in specs.items()}
    for name, engine in engines.items():
        if on_run is not None:
            engine.on_run = functools.partial(on_run, name)
    encoders = {
        name: Encoder(
            specs[name], ReloadableEngine(lambda e=engine: e, name) if reloadable else engine
        )
        for name, engine in engines.items()
    }
    perception = Perception(encoders, MODALITIES, threads=2)
    if weights is None:
        weights = connection_weights(spec, model.config, specs=specs)
    connection = make_connection(folder, spec, model.config, weights, load_engine)
    parts = RuntimeParts(
        model=model,
        pack=manifest_for(model.config, spec, trained=trained, specs=specs),
        perception=perception,
        connection=connection,
        policy=FixedPolicy(),
        encoder_flops=ENCODER_FLOPS,
        tail_weights=None
        if checkpoint is None
        else lambda blocks: tail_weights(open_checkpoint(checkpoint), blocks),
        pack_folder=pack_folder,
        utility=utility,
    )
    return FakeRuntime(Runtime(parts, **options), engines, connection, perception, folder)


def said(answers: Iterable[Answer]) -> list[tuple[str, float]]:
    return [(answer.text, answer.confidence) for answer in answers]


def close(answers: Iterable[Answer], others: Iterable[Answer]) -> bool:
    """Equal but for rounding: batches of another size sum in another order."""
    first, second = said(answers), said(others)
    return [t for t, _ in first] == [t for t, _ in second] and np.allclose(
        [c for _, c in first], [c for _, c in second], atol=1e-5
    )


def picture(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)


def jpeg(seed: int = 0) -> bytes:
    file = BytesIO()
    Image.fromarray(picture(seed)).save(file, format="JPEG")
    return file.getvalue()


def cloud(seed: int = 0) -> Float:
    return np.random.default_rng(seed).normal(size=(100, 5)).astype(np.float32)


def frame(sensor: str, stamp_ms: float = 0, payload: Any = None, seed: int = 0) -> SensorFrame:
    """A frame of one of the sensors; its payload follows from the seed and the sensor."""
    modality = MODALITIES.get(sensor, "camera")
    if payload is None:
        number = 10 * seed + (SENSORS.index(sensor) if sensor in SENSORS else 9)
        payload = cloud(number) if modality == "lidar" else picture(number)
    return SensorFrame(sensor, modality, round(stamp_ms * 1e6), f"{sensor}_link", payload)  # pyright: ignore[reportArgumentType]


def frames(
    stamp_ms: float = 0, seed: int = 0, sensors: Sequence[str] = SENSORS
) -> list[SensorFrame]:
    """A frame of every sensor, at one time."""
    return [frame(sensor, stamp_ms, seed=seed) for sensor in sensors]
