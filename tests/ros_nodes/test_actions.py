# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Asking and adapting as actions: streamed, cancelled in the middle, too late, refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailwire.assembly import open_runtime
from tailwire.runtime.decoding import TextPiece
from tailwire.runtime.questions import Question

from .conftest import Setup, missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.lifecycle import TransitionCallbackReturn

from tailwire_msgs import srv
from tailwire_msgs.action import Adapt
from tailwire_ros.runtime_node import RuntimeNode

from .nodes import QUESTIONS, Spin, start
from .robot import Robot, jpeg, points, wait_for

SUCCESS = TransitionCallbackReturn.SUCCESS
TEXT = "What is in front of me?"


def sighted(spin: Spin, environment: Setup, **changes: Any) -> tuple[RuntimeNode, Robot, list[Any]]:
    """An active node that has seen a camera and the LiDAR, and those frames."""
    node = start(spin, environment, **changes)
    robot = spin(Robot())
    now = robot.now_ns()
    frames = [
        robot.camera("cam_front", now, jpeg(1)),
        robot.lidar("lidar_top", now, points(2)),
    ]
    wait_for(lambda: robot.values("sensor cam_front").get("received") == "1")
    wait_for(lambda: robot.values("sensor lidar_top").get("received") == "1")
    return node, robot, frames


def test_free_text_is_streamed_as_the_core_says_it(spin: Spin, environment: Setup) -> None:
    _, robot, frames = sighted(spin, environment)
    told: list[Any] = []
    handle = robot.ask(lambda message: told.append(message.feedback), question=TEXT)
    assert handle.accepted
    done = robot.result(handle)
    assert done.status == GoalStatus.STATUS_SUCCEEDED
    with open_runtime(environment.config) as runtime:
        expected = runtime.ask(frames, Question(TEXT))
    result = done.result
    assert (result.complete, result.message) == (True, "")
    assert (result.answer.question, result.answer.text) == (TEXT, expected.text)
    assert result.answer.sensors == ["cam_front", "lidar_top"]
    assert 0 < result.first_piece_ms <= result.total_ms
    assert [one.stage for one in told[:2]] == ["waiting", "looking"]
    wait_for(lambda: any(one.stage == "answering" for one in told))
    # A client that has the result hears no more of what came before it.
    text = ""
    for one in told[2:]:
        text += one.piece
        assert one.text == text
    assert expected.text.startswith(text.strip())


def test_allowed_answers_and_other_sensors_for_one_question(spin: Spin, environment: Setup) -> None:
    node, robot, frames = sighted(spin, environment)
    question: dict[str, Any] = {
        "question": "Is there a bus?",
        "answers": ["yes", "no"],
        "sensors": ["lidar_top"],
    }
    result = robot.result(robot.ask(**question)).result
    with open_runtime(environment.config.model_copy(update={"sensors": ("lidar_top",)})) as runtime:
        expected = runtime.ask(frames, "Is there a bus?", ["yes", "no"])
    assert (result.complete, result.answer.text) == (True, expected.text)
    assert result.answer.confidence == pytest.approx(expected.confidence, abs=1e-5)
    assert result.answer.sensors == ["lidar_top"]
    assert node.core is not None
    assert node.core.runtime.sensors == ("cam_front", "cam_back", "lidar_top")


@pytest.mark.parametrize(
    ("goal", "complaint"),
    [
        ({"question": " "}, "the question is empty"),
        ({"question": TEXT, "answers": ["a", "a"]}, "allowed answers repeat"),
        ({"question": TEXT, "sensors": ["sonar"]}, "there is no sensor 'sonar'"),
        ({"question": TEXT * 60}, "tokens"),
    ],
)
def test_a_goal_that_cannot_be_answered_is_aborted_with_the_reason(
    spin: Spin, environment: Setup, goal: dict[str, Any], complaint: str
) -> None:
    start(spin, environment)
    robot = spin(Robot())
    done = robot.result(robot.ask(**goal))
    assert done.status == GoalStatus.STATUS_ABORTED
    assert not done.result.complete
    assert complaint in done.result.message


class Gate:
    """Stops the runtime's stream behind its third piece until it is opened."""

    def __init__(self, node: RuntimeNode) -> None:
        assert node.core is not None
        runtime = node.core.runtime
        self._stream = runtime.stream
        self.opened, self.reached = threading.Event(), threading.Event()
        self.ended = threading.Event()
        runtime.stream = self

    def __call__(self, *given: Any) -> Iterator[Any]:
        try:
            for number, piece in enumerate(self._stream(*given)):
                yield piece
                if number == 2:
                    self.reached.set()
                    self.opened.wait(30)
        finally:
            self.ended.set()


def test_a_cancel_is_seen_while_an_answer_streams(spin: Spin, environment: Setup) -> None:
    node, robot, _ = sighted(spin, environment)
    gate = Gate(node)
    told: list[Any] = []
    handle = robot.ask(lambda m: told.append(m.feedback), question=TEXT, max_new_tokens=40)
    assert gate.reached.wait(30)
    cancelled = handle.cancel_goal_async()
    wait_for(cancelled.done)
    assert cancelled.result().goals_canceling
    # The runtime is still in the middle of a piece.
    done = robot.result(handle)
    assert not gate.opened.is_set()
    assert done.status == GoalStatus.STATUS_CANCELED
    assert (done.result.complete, done.result.message) == (False, "cancelled")
    wait_for(lambda: told and told[-1].text == done.result.answer.text)
    gate.opened.set()
    assert gate.ended.wait(30)
    # The next one is answered.
    assert robot.result(robot.ask(question=TEXT, max_new_tokens=3)).result.complete


def test_a_deadline_ends_an_answer(spin: Spin, environment: Setup) -> None:
    node, robot, _ = sighted(spin, environment)
    gate = Gate(node)
    handle = robot.ask(question=TEXT, deadline_ms=300.0)
    done = robot.result(handle)
    assert done.status == GoalStatus.STATUS_ABORTED
    assert "deadline of 300 ms" in done.result.message
    assert not done.result.complete
    gate.opened.set()


def test_standing_questions_are_answered_while_one_streams(spin: Spin, environment: Setup) -> None:
    node, robot, _ = sighted(spin, environment)
    assert node.core is not None
    runtime = node.core.runtime
    stream, over = runtime.stream, threading.Event()

    def slow(*given: Any) -> Iterator[Any]:
        """Goes on until standing questions have been answered."""
        pieces = list(stream(*given))
        yield pieces[0]
        for _ in range(3000):
            time.sleep(0.01)
            if over.is_set():
                break
            yield TextPiece("la ", 1.0, last=False)
        yield pieces[-1]

    runtime.stream = slow
    told: list[Any] = []
    handle = robot.ask(lambda message: told.append(message.feedback), question=TEXT)
    wait_for(lambda: told and "la la" in told[-1].text)
    robot.answers.clear()

    def answered() -> bool:
        robot.lidar("lidar_top", robot.now_ns(), points(5))
        time.sleep(0.05)
        return len(robot.answers) > 4

    wait_for(answered)
    before = told[-1].text
    # The text has gone on beside them.
    wait_for(lambda: len(told[-1].text) > len(before))
    over.set()
    assert robot.result(handle).result.complete


def test_deactivation_ends_goals(spin: Spin, environment: Setup) -> None:
    node, robot, _ = sighted(spin, environment)
    gate = Gate(node)
    handle = robot.ask(question=TEXT)
    assert gate.reached.wait(30)
    future = handle.get_result_async()
    threading.Timer(0.2, gate.opened.set).start()
    assert node.trigger_deactivate() == SUCCESS
    assert gate.ended.wait(30)
    if future.done():
        assert future.result().result.message == "the node is being deactivated"
    assert node.trigger_activate() == SUCCESS


def test_learning_from_what_was_taught(spin: Spin, environment: Setup, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="adaptation needs torch")
    # Finding a service may take longer than frames are young.
    start(spin, environment, sensors=["cam_front"], max_age_ms=60_000.0)
    robot = spin(Robot())

    def send(number: int) -> None:
        now = robot.now_ns()
        robot.camera("cam_front", now, jpeg(number))
        robot.lidar("lidar_top", now, points(number))
        time.sleep(0.05)

    # Waits until the node is known to listen, which it may be before it hears.
    send(0)
    time.sleep(0.5)
    for number in range(16):
        send(number)
        for place, name in enumerate(("bus", "count")):
            allowed = QUESTIONS[f"question.{name}.answers"]
            taught = robot.call(
                srv.Teach,
                "teach",
                question=QUESTIONS[f"question.{name}.text"],
                answer=allowed[number % len(allowed)],
                block=f"{number // 3}",
            )
            assert (taught.success, taught.message) == (True, "")
            assert taught.lessons == 2 * number + place + 1
    client = ActionClient(robot, Adapt, "/tailwire/adapt")
    assert client.wait_for_server(30)
    told: list[Any] = []
    out = tmp_path / "adapted"
    goal = Adapt.Goal(add=["lidar_top"], epochs=2.0, time_s=60.0, report_only=True, out=str(out))
    accepted = client.send_goal_async(goal, lambda message: told.append(message.feedback))
    wait_for(accepted.done)
    done = robot.result(accepted.result())
    assert done.status == GoalStatus.STATUS_SUCCEEDED, done.result.reason
    assert done.result.outcome in ("accepted", "refused"), done.result.reason
    assert done.result.steps > 0
    assert 0 <= done.result.accuracy_before <= 1
    assert 0 <= done.result.accuracy_after <= 1
    # What cannot be is refused with the reason.
    accepted = client.send_goal_async(Adapt.Goal(add=["sonar"]))
    wait_for(accepted.done)
    done = robot.result(accepted.result())
    assert done.status == GoalStatus.STATUS_ABORTED
    assert done.result.outcome == "refused"
    assert "there is no sensor 'sonar'" in done.result.reason
    client.destroy()
