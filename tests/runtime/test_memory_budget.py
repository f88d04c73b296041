"""A limit of memory is kept by the whole process, measured apart from what plans believe of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tailwire.export.connection_graphs import build_connection
from tailwire.runtime.connections import ConnectionSpec
from tailwire.runtime.encoders import CameraInput, EncoderSpec, LidarInput
from tailwire.runtime.metrics import begin_peak

from ..packs import write_small_pack

if TYPE_CHECKING:
    from ..built_models import TinyModels

MB = 1_000_000
#: Far above what else the process takes and gives back meanwhile.
WEIGHTS_BYTES = 48 * MB
CAMERAS = ("cam_0", "cam_1", "cam_2", "cam_3")
#: Each has an encoder of its own.
SENSORS = (*CAMERAS, "lidar")

#: Opens a runtime, takes frames, and says what it held, by a thread that looks every millisecond.
SCRIPT = """
import json, sys, threading, time
from pathlib import Path
import numpy as np
from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.export.connection_graphs import build_connection
from tailwire.runtime.connections import Connection
from tailwire.runtime.encoders import Encoder
from tailwire.runtime.frames import SensorFrame
from tailwire.runtime.language_model import LanguageModel
from tailwire.runtime.metrics import resident_memory_bytes
from tailwire.runtime.pack import load_pack
from tailwire.runtime.parts import RuntimeParts
from tailwire.runtime.perception import Perception
from tailwire.runtime.plans import Budget
from tailwire.runtime.reloadable_engine import ReloadableEngine
from tailwire.runtime.runtime import Runtime
from tailwire.runtime.scheduler import FixedPolicy

engines, pack_folder, at_start, later = sys.argv[1:]
limited = int(at_start) > 0

def load(path, threads=1):
    return OnnxRuntimeEngine(path, threads=threads, keeps_memory=not limited)

def parts():
    pack = load_pack(Path(pack_folder))
    manifest = pack.manifest
    model = LanguageModel(Path(engines), load, threads=1)
    encoders = {}
    for name, spec in manifest.encoders.items():
        path = Path(pack_folder) / spec.file
        engine = ReloadableEngine(lambda p=path: load(p), name, keeps_memory=not limited)
        if limited:
            engine.unload()
        encoders[name] = Encoder(spec, engine)
    connection = Connection(manifest.connection, model.config,
                            load(Path(pack_folder) / "connection.onnx"), pack.connection_weights)
    return RuntimeParts(
        model, manifest, Perception(encoders, manifest.sensor_encoders, 1), connection,
        FixedPolicy(), dict.fromkeys(encoders, 1000))

highest, stop = [0], threading.Event()

def watch():
    while not stop.is_set():
        highest[0] = max(highest[0], resident_memory_bytes())
        time.sleep(0.001)

def frames(number):
    rng = np.random.default_rng(number)
    stamp = number * 100_000_000
    for name in ("cam_0", "cam_1", "cam_2", "cam_3"):
        yield SensorFrame(name, "camera", stamp, name, rng.integers(0, 255, (24, 32, 3), np.uint8))
    cloud = rng.normal(0, 20, (500, 5)).astype(np.float32)
    yield SensorFrame("lidar", "lidar", stamp, "lidar", cloud)

def steps(runtime, first, count):
    for number in range(first, first + count):
        (answer,) = runtime.step(frames(number))
        ran = [name for name, action in answer.plan.sensors.items() if action == "run"]
        seen.append({"ran": ran, "sensors": list(answer.sensors), "plan": answer.plan.memory_bytes,
                     "loaded": runtime.encoders_in_memory, "text": answer.text})

seen = []
threading.Thread(target=watch, daemon=True).start()
budget = Budget(memory_bytes=int(at_start) or None)
with Runtime(parts(), policy="round_robin", budget=budget) as runtime:
    runtime.watch("Is there a bus?", ("yes", "no"))
    steps(runtime, 0, 20)
    before = {"highest": highest[0], "resident": resident_memory_bytes(), "steps": len(seen)}
    if int(later):
        runtime.budget = Budget(memory_bytes=int(later))
        steps(runtime, 20, 1)
        highest[0] = 0
        steps(runtime, 21, 20)
    stop.set()
print(json.dumps({"before": before, "highest": highest[0], "seen": seen}))
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not begin_peak(), reason="needs peaks that can be set back"
)


def heavy_encoder(path: Path, size: int, tokens: int, width: int, shape: tuple[int, ...]) -> None:
    """Two products with a wide middle, whose weights are `WEIGHTS_BYTES`."""
    middle = WEIGHTS_BYTES // (4 * size)
    rng = np.random.default_rng(0)
    into = rng.standard_normal((size, middle), np.float32) / 100
    out = rng.standard_normal((middle, tokens * width), np.float32) / 100
    constants = {
        "flat": np.array([-1, size], np.int64),
        "into": into,
        "out": out,
        "rows": np.array([-1, tokens, width], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["a"]),
        helper.make_node("MatMul", ["a", "into"], ["b"]),
        helper.make_node("Tanh", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "out"], ["d"]),
        helper.make_node("Reshape", ["d", "rows"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", tokens, width])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))


@pytest.fixture(scope="module")
def pack(tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heavy-pack")
    specs: dict[str, EncoderSpec] = {}
    for name in SENSORS:
        given = (
            LidarInput(height=8, width=64) if name == "lidar" else CameraInput(height=12, width=16)
        )
        spec = EncoderSpec(
            modality="lidar" if name == "lidar" else "camera",
            kind="onnx",
            input=given,
            tokens=3,
            width=8,
            file=f"{name}.onnx",
            licence="Apache-2.0",
            source="tests",
        )
        heavy_encoder(folder / spec.file, int(np.prod(given.shape)), 3, 8, given.shape)
        specs[name] = spec
    connection = ConnectionSpec(kind="plain", tail_blocks=3, hidden=8, width=8, layers=1, heads=2)
    config = tiny.model("llama").config
    build_connection(connection, config, folder / "connection.onnx")
    return write_small_pack(
        folder, config, connection, specs, {sensor: sensor for sensor in SENSORS}
    )


@pytest.fixture(scope="module")
def run(pack: Path, tiny: TinyModels) -> Any:
    """Runs the script in a process of its own."""

    def call(at_start: int = 0, later: int = 0) -> Any:
        words = [str(tiny.engines("llama")), str(pack), str(at_start), str(later)]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return call


@pytest.fixture(scope="module")
def unlimited(run: Any) -> Any:
    found = run()
    assert all(all(step["loaded"].values()) for step in found["seen"])
    return found


def test_a_limit_at_the_start_is_kept_from_the_start(run: Any, unlimited: Any) -> None:
    limit = int(0.7 * unlimited["before"]["resident"])
    found = run(at_start=limit)
    assert found["highest"] <= limit
    check_sensors_take_turns(found["seen"], limit)


def test_a_limit_that_comes_later_is_kept_by_unloading(run: Any, unlimited: Any) -> None:
    limit = int(0.7 * unlimited["before"]["resident"])
    found = run(later=limit)
    assert found["before"]["resident"] > limit
    assert found["highest"] <= limit
    check_sensors_take_turns(found["seen"][found["before"]["steps"] :], limit)


def check_sensors_take_turns(steps: list[Any], limit: int) -> None:
    """They do not fit all at once, so they come and go, and nothing that has no time is lost."""
    assert {name for step in steps for name in step["ran"]} == set(SENSORS)
    for step in steps:
        assert not all(step["loaded"].values())
        assert step["plan"] <= limit
        assert step["text"] in ("yes", "no")
    assert all(set(step["sensors"]) == set(SENSORS) for step in steps[len(SENSORS) :])
