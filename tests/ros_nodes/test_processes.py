# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The nodes as users start them: processes of their own that find each other over DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tailwire.simulation.bags import open_bag, write_bag
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.sketch_drive import make_sketch_drive

from .conftest import Setup, missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

from action_msgs.msg import GoalStatus

from tailwire_ros.conversion import stamp_ns

from .nodes import QUESTIONS, Spin
from .robot import Robot, points, wait_for

ROS_NODES = Path(__file__).resolve().parents[2] / "ros_nodes"
PROFILE = ROS_NODES / "tailwire_ros" / "config" / "fastdds.xml"
Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drive")
    data = NuScenes.open(make_sketch_drive(root / "sketch", seconds=2.5))
    write_bag(data, data.scenes[0], root / "bag")
    return root / "bag"


@pytest.fixture
def begin(environment: Setup, tmp_path: Path) -> Iterator[Begin]:
    """Starts nodes as processes; their output is in files."""
    started: list[subprocess.Popen[str]] = []

    def call(node: str, parameters: dict[str, Any], *arguments: str) -> subprocess.Popen[str]:
        number = len(started)
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
        code = f"import sys; from tailwire_ros.{node} import main; sys.exit(main())"
        with (tmp_path / f"{number}.log").open("w") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", code, "--ros-args", "--params-file", file, *arguments],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env={**os.environ, "FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE)},
                )
            )
        return started[-1]

    yield call
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def parameters(setup: Setup, **changes: Any) -> dict[str, Any]:
    """As a parameter file holds them, nested at the dots."""
    nested: dict[str, Any] = {}
    for name, value in {**setup.parameters, **QUESTIONS, "autostart": True, **changes}.items():
        *folders, last = name.split(".")
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return nested


def test_a_replayed_drive_is_answered_and_recorded(
    spin: Spin, environment: Setup, begin: Begin, bag: Path, tmp_path: Path
) -> None:
    robot = spin(Robot())
    runtime = begin("runtime_node", parameters(environment, use_sim_time=True))
    # The drive is short: a node that still loads its engines would miss it.
    wait_for(lambda: "ready: " in (tmp_path / "0.log").read_text(), "the node to be ready")
    out = tmp_path / "answered"
    replay = begin(
        "replay_node", {"path": str(bag), "rate": 1.0, "record": str(out), "settle_s": 2.0}
    )
    assert replay.wait(120) == 0, (tmp_path / "1.log").read_text()
    assert runtime.poll() is None, (tmp_path / "0.log").read_text()
    frames = list(open_bag(bag).frames(["cam_front", "cam_back", "lidar_top"]))
    stamps = {frame.sensor: set[int]() for frame in frames}
    for frame in frames:
        stamps[frame.sensor].add(frame.stamp_ns)
    assert len(robot.answers) >= 2
    for answer in robot.answers:
        newest = stamp_ns(answer.header.stamp) + round(1e6 * max(answer.sensor_ages_ms))
        assert answer.sensors
        for sensor, age_ms in zip(answer.sensors, answer.sensor_ages_ms, strict=True):
            # Ages come in float32, stamps are whole microseconds.
            used = newest - round(1e6 * age_ms)
            assert min(abs(used - stamp) for stamp in stamps[sensor]) < 100_000
        assert not answer.held
    last = robot.answers[-1]
    end = max(frame.stamp_ns for frame in frames)
    assert end - stamp_ns(last.header.stamp) < 1_000_000_000
    assert last.sensors == ["cam_front", "cam_back", "lidar_top"]
    counts = open_bag(out).report.counts
    # Each listener finds the node at its own time.
    assert counts["/tailwire/answers"] >= 2
    assert counts["/tailwire/answer_text"] == counts["/tailwire/answers"]
    assert counts["/lidar_top/points"] == len(stamps["lidar_top"])


def test_a_cancel_reaches_another_process(
    spin: Spin, environment: Setup, begin: Begin, tmp_path: Path
) -> None:
    robot = spin(Robot())
    begin("runtime_node", parameters(environment))
    robot.lidar("lidar_top", robot.now_ns(), points(0))
    told: list[Any] = []
    # The tiny model goes on until it is stopped or has no more positions.
    goal = {"question": "What is it?", "max_new_tokens": 150}
    done: Any = None
    for _ in range(20):
        told.clear()
        handle = robot.ask(lambda message: told.append(message.feedback), **goal)
        wait_for(lambda: len(told) > 2, (tmp_path / "0.log").read_text())
        handle.cancel_goal_async()
        done = robot.result(handle)
        if done.status == GoalStatus.STATUS_CANCELED:
            break
    assert done.status == GoalStatus.STATUS_CANCELED
    assert done.result.message == "cancelled"
    assert not done.result.complete


@pytest.mark.parametrize(
    ("node", "changes", "complaint"),
    [
        ("runtime_node", {"threads": 0}, "threads"),
        ("runtime_node", {"pack": "/no/such/pack"}, "/no/such/pack"),
        ("runtime_node", {"sensor.cam_frnt.topic": "eye"}, "sensor.cam_frnt.topic"),
        ("replay_node", {"path": "/no/such/drive"}, "/no/such/drive"),
    ],
)
def test_bad_parameters_end_the_process_with_one_error(
    environment: Setup,
    begin: Begin,
    tmp_path: Path,
    node: str,
    changes: dict[str, Any],
    complaint: str,
) -> None:
    given = parameters(environment, **changes) if node == "runtime_node" else changes
    process = begin(node, given)
    assert process.wait(90) == 1
    output = (tmp_path / "0.log").read_text()
    errors = [line for line in output.splitlines() if "error: " in line or "[ERROR]" in line]
    assert len(errors) == 1, output
    assert complaint in errors[0]
    assert " Remedy: " in errors[0]
    assert "Traceback" not in output


@pytest.mark.parametrize("when", ["starting", "running"])
def test_an_interrupt_ends_the_node_well(
    spin: Spin, environment: Setup, begin: Begin, tmp_path: Path, when: str
) -> None:
    robot = spin(Robot())
    process = begin("runtime_node", parameters(environment))
    if when == "running":
        # Sensors are reported on by an active node only.
        wait_for(lambda: robot.status("sensor lidar_top"))
        assert robot.ask(question="What is it?", max_new_tokens=150).accepted
    else:
        wait_for(lambda: robot.status("answers"))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert "Traceback" not in (tmp_path / "0.log").read_text()
