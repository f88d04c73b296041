"""Further threads of a run keep to parts of the CPUs that share nothing."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tailwire.runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from tailwire.runtime.worker_cpus import (
    CallingThread,
    Spread,
    affinities,
    allowed_cpus,
    cpu_parts,
)

needs_two_cpus = pytest.mark.skipif(
    len(allowed_cpus()) < 2, reason="needs a system that names two CPUs of this process"
)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 8, 12])
@pytest.mark.parametrize("threads", [1, 2, 3, 4, 8])
def test_parts_are_alike_and_share_nothing(count: int, threads: int) -> None:
    cpus = [3 + 2 * number for number in range(count)]
    parts = cpu_parts(cpus, threads)
    if threads == 1 or threads > count:
        assert not parts
        return
    assert len(parts) == threads
    assert [cpu for part in parts for cpu in part] == cpus
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@needs_two_cpus
def test_they_are_written_as_onnx_runtime_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5})
    assert affinities(2) == "4,5,6"
    assert affinities(3) == "3,4;5,6"
    assert affinities(1) is None
    assert affinities(7) is None


@needs_two_cpus
def test_threads_of_an_engine_run_there(tmp_path: Path) -> None:
    before = _threads()
    engine = OnnxRuntimeEngine(_graph(tmp_path), threads=2)
    born = _threads() - before
    assert len(born) == 1
    (worker,) = born
    assert worker != threading.get_native_id()
    part, deadline = set(cpu_parts(allowed_cpus(), 2)[1]), time.monotonic() + 30
    # The thread goes there itself, when it first runs.
    while os.sched_getaffinity(worker) != part and time.monotonic() < deadline:
        time.sleep(0.01)
    assert os.sched_getaffinity(worker) == part
    # The caller is where it was.
    assert tuple(sorted(os.sched_getaffinity(0))) == allowed_cpus()
    (found,) = engine.run({"x": np.ones((4, 4), np.float32)}).values()
    assert np.array_equal(found, np.full((4, 4), 4, np.float32))


@needs_two_cpus
def test_threads_of_a_pool_keep_apart() -> None:
    meet = threading.Barrier(2)

    def where(_: int) -> set[int]:
        meet.wait(30)
        return os.sched_getaffinity(0)

    with ThreadPoolExecutor(2, initializer=Spread(2)) as pool:
        found = list(pool.map(where, range(2)))
    assert found[0].isdisjoint(found[1])
    assert found[0] | found[1] == set(allowed_cpus())
    assert tuple(sorted(os.sched_getaffinity(0))) == allowed_cpus()


@needs_two_cpus
def test_a_caller_keeps_off_the_cpus_of_its_workers_for_a_while() -> None:
    mine = allowed_cpus()
    first, second, *_ = cpu_parts(mine, 2)
    calling = CallingThread(2)
    with calling.kept():
        assert os.sched_getaffinity(0) == set(first)
        # Who makes threads meanwhile still knows of all CPUs, and finds the same parts.
        assert allowed_cpus() == mine
        with ThreadPoolExecutor(2, initializer=Spread(2)) as pool:
            found = [*pool.map(lambda _: (time.sleep(0.05), os.sched_getaffinity(0))[1], range(2))]
        assert found == [set(first), set(second)] or found == [set(second), set(first)]
        with calling.kept():
            assert os.sched_getaffinity(0) == set(first)
        assert os.sched_getaffinity(0) == set(first)
    assert os.sched_getaffinity(0) == set(mine)
    with pytest.raises(KeyError), calling.kept():
        raise KeyError
    assert os.sched_getaffinity(0) == set(mine)


@needs_two_cpus
def test_a_caller_that_was_kept_elsewhere_stays_there() -> None:
    mine = allowed_cpus()
    calling = CallingThread(2)
    os.sched_setaffinity(0, mine[-1:])
    try:
        with calling.kept():
            assert os.sched_getaffinity(0) == set(mine[-1:])
        assert os.sched_getaffinity(0) == set(mine[-1:])
    finally:
        os.sched_setaffinity(0, mine)
    with CallingThread(1).kept():
        assert os.sched_getaffinity(0) == set(mine)


def test_a_system_that_names_no_cpus_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert allowed_cpus() == ()
    assert affinities(2) is None
    Spread(2)()
    with CallingThread(2).kept():
        assert allowed_cpus() == ()


def _threads() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


def _graph(folder: Path) -> Path:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ("x", "y")]
    node = helper.make_node("MatMul", ["x", "x"], ["y"])
    graph = helper.make_graph([node], "square", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path = folder / "square.onnx"
    onnx.save(model, path)
    return path
