# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The runtime node over real DDS: sensors in, answers out, and all that may go wrong between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire.assembly import open_runtime
from tailwire.runtime.errors import EngineError
from tailwire.runtime.frames import SensorFrame

from .conftest import Setup, missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo

from tailwire_msgs.msg import Answer
from tailwire_ros.conversion import time_message
from tailwire_ros.runtime_node import RuntimeNode

from .nodes import QUESTIONS, Spin, make, start, state
from .robot import BEST_EFFORT, RELIABLE, Robot, jpeg, points, wait_for

if TYPE_CHECKING:
    from rclpy.qos import QoSProfile

SUCCESS = TransitionCallbackReturn.SUCCESS


@pytest.mark.parametrize("qos", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
def test_answers_are_those_of_the_core(spin: Spin, environment: Setup, qos: QoSProfile) -> None:
    # Answered once, when the last frame is there: the LiDAR triggers.
    start(spin, environment, trigger="lidar_top")
    robot = spin(Robot(qos=qos))
    now = robot.now_ns()
    frames = [
        robot.camera("cam_front", now - 40_000_000, jpeg(1)),
        robot.camera("cam_back", now - 30_000_000, jpeg(2)),
    ]
    wait_for(lambda: robot.values("sensor cam_back").get("received") == "1")
    wait_for(lambda: robot.values("sensor cam_front").get("received") == "1")
    frames.append(robot.lidar("lidar_top", now, points(3)))
    answers = wait_for(lambda: len(robot.answers) >= 2 and robot.answers)
    with open_runtime(environment.config) as runtime:
        for name in ("bus", "count"):
            runtime.watch(QUESTIONS[f"question.{name}.text"], QUESTIONS[f"question.{name}.answers"])
        expected = runtime.step(frames)
    for number, (answer, wanted) in enumerate(zip(answers, expected, strict=True), 1):
        assert answer.question_id == number
        assert (answer.question, answer.text) == (wanted.question, wanted.text)
        assert answer.confidence == pytest.approx(wanted.confidence, abs=1e-5)
        assert answer.sensors == ["cam_front", "cam_back", "lidar_top"]
        assert list(answer.sensor_ages_ms) == [40.0, 30.0, 0.0]
        stamp = answer.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == now - 40_000_000
        assert answer.header.frame_id == "base_link"
        assert answer.flops == wanted.flops
        assert answer.latency_ms > 0
        assert "tail" in answer.stages
    plan = wait_for(lambda: robot.plans and robot.plans[-1])
    assert (plan.policy, plan.questions, plan.problem) == ("fixed", 2, "")
    assert plan.actions == ["run", "run", "run"]


def listens(node: RuntimeNode) -> bool:
    """Whether the middleware knows of a subscription to the LiDAR."""
    topics = node.get_subscriber_names_and_types_by_node("tailwire", "/")
    return "/lidar_top/points" in [name for name, _ in topics]


def test_life_cycle_twice_leaves_nothing_behind(spin: Spin, environment: Setup) -> None:
    node = make(spin, environment)
    threads = set(threading.enumerate())
    for _ in range(2):
        assert state(node) == State.PRIMARY_STATE_UNCONFIGURED
        assert node.trigger_configure() == SUCCESS
        runtime = node.core.runtime if node.core else None
        assert runtime is not None
        assert node.trigger_activate() == SUCCESS
        assert state(node) == State.PRIMARY_STATE_ACTIVE
        wait_for(lambda: listens(node))
        assert node.trigger_deactivate() == SUCCESS
        wait_for(lambda: not listens(node))
        assert node.trigger_cleanup() == SUCCESS
        assert node.core is None
        with pytest.raises(Exception, match="closed"):
            runtime.ask((), "?", ["a", "b"])
        left = {one.name for one in set(threading.enumerate()) - threads if "tailwire" in one.name}
        assert not left
    assert node.trigger_shutdown() == SUCCESS


def test_a_sensor_that_falls_silent_and_returns(spin: Spin, environment: Setup) -> None:
    start(spin, environment, max_age_ms=400.0)
    robot = spin(Robot())
    cloud = points(0)

    def both() -> None:
        robot.camera("cam_front", robot.now_ns(), jpeg(1))
        robot.lidar("lidar_top", robot.now_ns(), cloud)

    def only_lidar() -> None:
        robot.lidar("lidar_top", robot.now_ns(), cloud)

    def until(send: Callable[[], None], check: Callable[[], object]) -> None:
        def again() -> object:
            send()
            time.sleep(0.05)
            return check()

        wait_for(again)

    def newest() -> Answer | None:
        return robot.answers[-1] if robot.answers else None

    until(both, lambda: (one := newest()) and one.sensors == ["cam_front", "lidar_top"])
    assert any("cam_back: it has sent no frame yet" in reason for reason in newest().dropped)  # pyright: ignore[reportOptionalMemberAccess]
    until(both, lambda: (s := robot.status("sensor cam_front")) and s.level == b"\0")
    until(only_lidar, lambda: newest().sensors == ["lidar_top"])  # pyright: ignore[reportOptionalMemberAccess]
    assert any("cam_front: its frame is" in reason for reason in newest().dropped)  # pyright: ignore[reportOptionalMemberAccess]
    until(only_lidar, lambda: robot.status("sensor cam_front").level == b"\1")
    assert "silent" in robot.status("sensor cam_front").message
    until(both, lambda: newest().sensors == ["cam_front", "lidar_top"])  # pyright: ignore[reportOptionalMemberAccess]
    until(both, lambda: robot.status("sensor cam_front").level == b"\0")


def test_a_gap_between_two_diagnostics_is_reported_all_the_same(
    spin: Spin, environment: Setup
) -> None:
    start(spin, environment, max_age_ms=300.0, diagnostics_period_s=2.0)
    robot = spin(Robot())
    told: list[Any] = []

    def keep(array: DiagnosticArray) -> None:
        told.extend(one for one in array.status if one.name.endswith("sensor cam_front"))

    robot.create_subscription(DiagnosticArray, "/diagnostics", keep, 10)

    def sent(*, camera: bool) -> list[str]:
        if camera:
            robot.camera("cam_front", robot.now_ns(), jpeg(1))
        robot.lidar("lidar_top", robot.now_ns(), points(0))
        time.sleep(0.03)
        return robot.answers[-1].sensors if robot.answers else []

    wait_for(lambda: sent(camera=True) and told and told[-1].level == b"\0")
    told.clear()
    wait_for(lambda: sent(camera=False) == ["lidar_top"])
    wait_for(lambda: sent(camera=True) == ["cam_front", "lidar_top"])
    wait_for(lambda: sent(camera=True) and any(one.level == b"\1" for one in told))
    warned = next(one for one in told if one.level == b"\1")
    # On a busy machine the diagnostics may fall into the gap.
    assert "missing from" in warned.message or "silent" in warned.message
    values = {one.key: one.value for one in warned.values}
    assert int(values["rounds without it"]) > 0
    wait_for(lambda: sent(camera=True) and told[-1].level == b"\0")


@pytest.mark.parametrize(("every_s", "gives"), [(0.05, True), (0.0, False)])
def test_freed_memory_is_given_back(
    spin: Spin,
    environment: Setup,
    monkeypatch: pytest.MonkeyPatch,
    every_s: float,
    gives: bool,
) -> None:
    given = threading.Event()
    monkeypatch.setattr("tailwire_ros.runtime_node.trim", given.set)
    make(spin, environment, give_back_s=every_s)
    assert given.wait(20 if gives else 0.5) is gives


def test_no_answer_for_long_is_an_error(spin: Spin, environment: Setup) -> None:
    start(spin, environment, silence_s=0.3)
    robot = spin(Robot())
    status = wait_for(lambda: (s := robot.status("answers")) and s.level == b"\2" and s)
    assert "no frame has come" in status.message
    assert robot.values("loaded")["pack"] == "tiny 1"
    assert "MB" in next(iter(robot.values("machine")))
    hashes = {key for key in robot.values("loaded") if key.endswith("sha256")}
    assert {"encoder camera sha256", "encoder lidar sha256", "connection sha256"} < hashes
    robot.lidar("lidar_top", robot.now_ns(), points(0))
    wait_for(lambda: robot.answers)
    plan = wait_for(lambda: robot.values("answers").get("plan"))
    assert plan == f"run lidar_top; {robot.plans[-1].tail_blocks} tail blocks, fp32"


def test_what_is_no_frame_is_dropped_and_counted(spin: Spin, environment: Setup) -> None:
    start(spin, environment, **{"sensor.cam_back.kind": "image"})
    robot = spin(Robot())
    now = robot.now_ns()
    noise = bytes(np.random.default_rng(0).integers(0, 256, 48, dtype=np.uint8))
    for fields in (
        {"height": 4, "width": 4, "step": 12, "encoding": "rgb8", "data": noise[:40]},
        {"height": 4, "width": 4, "step": 12, "encoding": "yuv411", "data": noise},
        {"height": 2**31, "width": 2**31, "step": 12, "encoding": "rgb8", "data": noise},
        {"height": 0, "width": 0, "step": 0, "encoding": "mono8", "data": b""},
    ):
        robot.raw("cam_back", now, **fields)
    robot.camera("cam_front", now, b"no picture")
    robot.camera("cam_front", now, jpeg(0)[:200])
    robot.camera("cam_front", 0, jpeg(0))
    robot.camera("cam_front", now + 3_600_000_000_000, jpeg(0))
    broken = points(0)
    broken[:] = np.nan
    robot.lidar("lidar_top", now, broken)
    robot.lidar("lidar_top", now, points(0)[:0])

    def dropped(sensor: str) -> tuple[str, ...]:
        values = robot.values(f"sensor {sensor}")
        kinds = ("bad", "without stamp", "from the future")
        return tuple(values.get(f"dropped, {kind}", "") for kind in kinds)

    wait_for(lambda: dropped("cam_back") == ("4", "0", "0"))
    wait_for(lambda: dropped("cam_front") == ("2", "1", "1"))
    wait_for(lambda: dropped("lidar_top") == ("2", "0", "0"))
    assert "ahead of the clock" in robot.values("sensor cam_front")["newest problem"]
    assert not robot.answers
    # The node is alive.
    robot.raw("cam_back", now, height=4, width=4, step=12, encoding="bgr8", data=noise)
    robot.lidar("lidar_top", now, points(0))
    answer = wait_for(lambda: robot.answers and robot.answers[-1])
    wait_for(lambda: robot.answers[-1].sensors == ["cam_back", "lidar_top"])
    assert answer.header.stamp == time_message(now)


def test_a_simulated_clock_is_followed_while_it_is_wanted(spin: Spin, environment: Setup) -> None:
    node = make(spin, environment, use_sim_time=True)
    robot = spin(Robot())
    assert node.now_ns() == 0

    def shows(stamp_ns: int) -> bool:
        robot.send("/clock", Clock(clock=time_message(stamp_ns)))
        time.sleep(0.02)
        return node.now_ns() == stamp_ns

    wait_for(lambda: shows(5 * 10**9))
    node.set_parameters([Parameter("use_sim_time", value=False)])
    assert not shows(6 * 10**9) and node.now_ns() > 10**18
    node.set_parameters([Parameter("use_sim_time", value=True)])
    wait_for(lambda: shows(7 * 10**9))


def test_time_that_jumps_back_starts_anew(spin: Spin, environment: Setup) -> None:
    start(spin, environment, use_sim_time=True)
    robot = spin(Robot())

    def tick(stamp_ns: int) -> None:
        robot.send("/clock", Clock(clock=time_message(stamp_ns)))

    first = 1_000_000_000_000
    for step in range(5):
        tick(first + step * 10**8)
    cloud = points(1)

    def answered(stamp_ns: int) -> bool:
        return any(answer.header.stamp == time_message(stamp_ns) for answer in robot.answers)

    def send(stamp_ns: int) -> bool:
        tick(stamp_ns)
        robot.lidar("lidar_top", stamp_ns, cloud)
        time.sleep(0.05)
        return answered(stamp_ns)

    wait_for(lambda: send(first + 5 * 10**8))
    # The bag begins again: nothing of before may count as newer.
    wait_for(lambda: send(first))
    assert robot.answers[-1].sensors == ["lidar_top"]
    assert list(robot.answers[-1].sensor_ages_ms) == [0.0]


def test_two_robots_side_by_side(spin: Spin, environment: Setup) -> None:
    start(spin, environment, "/one")
    start(spin, environment, "/two")
    robots = [spin(Robot("/one")), spin(Robot("/two"))]
    now = robots[0].now_ns()
    for place, robot in enumerate(robots):
        robot.lidar("lidar_top", now + place, points(place))
    for place, robot in enumerate(robots):
        wait_for(lambda: len(robot.answers) >= 2)  # noqa: B023 - it is called at once
        stamps = {(a.header.stamp.sec, a.header.stamp.nanosec) for a in robot.answers}
        assert stamps == {divmod(now + place, 10**9)}


def test_a_flood_of_frames_is_answered_from_the_newest(spin: Spin, environment: Setup) -> None:
    node = start(spin, environment)
    robot = spin(Robot())
    cloud, last = points(0), 0
    for _ in range(600):
        last = robot.now_ns()
        robot.lidar("lidar_top", last, cloud)
        robot.camera("cam_front", last, jpeg(0))

    def newest() -> bool:
        return any(answer.header.stamp == time_message(last) for answer in robot.answers)

    wait_for(newest)
    values = robot.values("answers")
    assert node.core is not None
    assert int(values["rounds failed"]) == 0
    assert len(robot.answers) < 2 * 1200


def test_where_sensors_sit_reaches_the_core(spin: Spin, environment: Setup) -> None:
    node = start(spin, environment)
    robot = spin(Robot())
    robot.mount("lidar_top", "cam_front_optical")
    held: list[SensorFrame] = []
    assert node.core is not None
    push = node.core.runtime.push
    node.core.runtime.push = lambda frame: held.append(frame) or push(frame)

    def seen() -> SensorFrame | None:
        robot.lidar("lidar_top", robot.now_ns(), points(0))
        time.sleep(0.05)
        return next((frame for frame in held if frame.geometry is not None), None)

    frame = wait_for(seen)
    assert frame.geometry is not None
    np.testing.assert_array_equal(frame.geometry.ego_from_sensor[:3, 3], [0, 0, 1])
    info = CameraInfo(height=48, width=80)
    info.k = [50.0, 0.0, 40.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0]
    held.clear()

    def projected() -> SensorFrame | None:
        robot.send("cam_front/camera_info", info)
        robot.camera("cam_front", robot.now_ns(), jpeg(0))
        time.sleep(0.05)
        return next((f for f in held if f.geometry and f.geometry.intrinsic is not None), None)

    frame = wait_for(projected)
    assert frame.geometry is not None
    assert frame.geometry.image_size == (80, 48)


def test_engines_that_break_lead_through_the_error_state_and_up_again(
    spin: Spin, environment: Setup
) -> None:
    node = start(spin, environment)
    robot = spin(Robot())
    node.parameters._values["autostart"] = True  # pyright: ignore[reportPrivateUsage]
    assert node.core is not None
    first = node.core.runtime

    def broken(*_: object) -> None:
        raise EngineError("the device is lost", field="cuda", remedy="reset it")

    first.step = broken

    def sent() -> bool:
        robot.lidar("lidar_top", robot.now_ns(), points(0))
        time.sleep(0.05)
        core = node.core
        return core is not None and core.runtime is not first

    wait_for(sent)
    wait_for(lambda: state(node) == State.PRIMARY_STATE_ACTIVE)
    robot.answers.clear()

    def answered() -> bool:
        robot.lidar("lidar_top", robot.now_ns(), points(0))
        time.sleep(0.05)
        return bool(robot.answers)

    wait_for(answered)
