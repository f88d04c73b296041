# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Standing questions, budgets and packs by service; parameters that may change and others."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file, save_file

from tailwire.runtime.errors import ConfigError
from tailwire.runtime.files import sha256_of

from .conftest import Setup, missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from tailwire_msgs import srv
from tailwire_msgs.msg import Budget, PackInfo
from tailwire_ros.runtime_node import RuntimeNode

from .nodes import QUESTIONS, Spin, make, start
from .robot import LATCHED, Robot, names, overrides, points, wait_for

FAILURE = TransitionCallbackReturn.FAILURE


def send_until(robot: Robot, check: Any) -> Any:
    """Sweeps until something is true."""

    def again() -> Any:
        robot.lidar("lidar_top", robot.now_ns(), points(0))
        time.sleep(0.03)
        return check()

    return wait_for(again)


def test_standing_questions_come_and_go(spin: Spin, environment: Setup) -> None:
    start(spin, environment)
    robot = spin(Robot())
    watched = robot.call(srv.Watch, "watch", question="Is it night?", answers=["yes", "no"])
    assert (watched.success, watched.message) == (True, "")
    send_until(robot, lambda: "Is it night?" in names(robot.answers))
    ids = {answer.question: answer.question_id for answer in robot.answers}
    assert ids["Is it night?"] == watched.question_id
    first = ids[QUESTIONS["question.bus.text"]]
    assert robot.call(srv.Unwatch, "unwatch", question_id=first).success
    # The round before may still be on its way.
    left = {QUESTIONS["question.count.text"], "Is it night?"}
    send_until(robot, lambda: names(robot.answers[-4:]) == left)
    robot.answers.clear()
    send_until(robot, lambda: len(robot.answers) >= 4)
    assert names(robot.answers) == left
    again = robot.call(srv.Unwatch, "unwatch", question_id=first)
    assert not again.success
    assert f"no standing question {first}" in again.message
    refused = robot.call(srv.Watch, "watch", question="?", answers=["a", "a"])
    assert not refused.success
    assert "repeat" in refused.message


def test_a_budget_changes_while_it_runs(spin: Spin, environment: Setup) -> None:
    start(spin, environment)
    robot = spin(Robot())
    send_until(robot, lambda: robot.answers)
    tight = robot.call(srv.SetBudget, "set_budget", budget=Budget(flops=10.0))
    assert (tight.success, tight.policy) == (True, "fixed")
    problem = send_until(robot, lambda: robot.plans and robot.plans[-1].problem)
    assert "the budget allows 10" in problem
    assert robot.plans[-1].budget.flops == 10
    robot.answers.clear()
    chosen = robot.call(
        srv.SetBudget, "set_budget", budget=Budget(latency_ms=5000.0), policy="round_robin"
    )
    assert (chosen.success, chosen.policy) == (True, "round_robin")
    send_until(robot, lambda: robot.answers and robot.plans[-1].policy == "round_robin")
    assert robot.plans[-1].budget.latency_ms == 5000
    for fields, complaint in (
        ({"budget": Budget(flops=-1.0)}, "budget.flops is -1"),
        ({"policy": "dice"}, "there is no policy 'dice'"),
    ):
        refused = robot.call(srv.SetBudget, "set_budget", **fields)
        assert not refused.success
        assert complaint in refused.message


def test_another_pack_takes_over(spin: Spin, environment: Setup, tmp_path: Path) -> None:
    folder = tmp_path / "packs" / "other"
    shutil.copytree(environment.pack, folder)
    manifest = yaml.safe_load((folder / "pack.yaml").read_text())
    manifest["name"], file = "other", manifest["connection"]["file"]
    manifest["sensors"] = [one for one in manifest["sensors"] if one["name"] != "cam_back"]
    weights = {k: v for k, v in load_file(folder / file).items() if k != "sensor.cam_back"}
    save_file(weights, folder / file)
    manifest["files"][file]["sha256"] = sha256_of(folder / file)
    (folder / "pack.yaml").write_text(yaml.safe_dump(manifest))
    (tmp_path / "packs" / "broken").mkdir()
    (tmp_path / "packs" / "broken" / "pack.yaml").write_text("name: broken")
    node = start(spin, environment, pack_folders=[str(tmp_path / "packs")])
    robot = spin(Robot())
    told: list[PackInfo] = []
    robot.create_subscription(PackInfo, "/tailwire/pack", told.append, LATCHED)
    wait_for(lambda: told and told[-1].name == "tiny")
    listed = robot.call(srv.ListPacks, "list_packs")
    assert "other" in [pack.name for pack in listed.packs]
    assert any("broken" in reason for reason in listed.refused)
    assert listed.loaded == str(environment.pack)
    send_until(robot, lambda: len(names(robot.answers)) == 2)
    ids = {answer.question: answer.question_id for answer in robot.answers}
    for wrong in ("", str(tmp_path / "nowhere"), str(tmp_path / "packs" / "broken")):
        refused = robot.call(srv.LoadPack, "load_pack", pack=wrong)
        assert not refused.success
        assert refused.message
    send_until(robot, lambda: robot.answers[-1].pack == "tiny 1")
    loaded = robot.call(srv.LoadPack, "load_pack", pack=str(folder))
    assert loaded.success, loaded.message
    assert loaded.load_s > 0
    send_until(robot, lambda: robot.answers[-1].pack == "other 1")
    for answer in robot.answers[-2:]:
        assert ids[answer.question] == answer.question_id
    wait_for(lambda: told[-1].name == "other")
    assert node.core is not None
    assert node.core.runtime.known_sensors == ("cam_front", "lidar_top")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"threads": 0}, "threads"),
        ({"threads": "two"}, "threads"),
        ({"max_age_ms": -1.0}, "max_age_ms"),
        ({"precision": "fp7"}, "precision"),
        ({"policy": "dice"}, "policy"),
        ({"budget.latency_ms": -5.0}, "budget.latency_ms"),
        ({"sensors": "cam_front"}, "sensors"),
    ],
)
def test_values_that_do_not_fit_are_one_clear_error(
    ros: None, environment: Setup, changes: dict[str, Any], complaint: str
) -> None:
    values = {**environment.parameters, **changes}
    with pytest.raises(ConfigError) as caught:
        RuntimeNode(parameter_overrides=overrides(values))
    assert complaint in str(caught.value)
    assert " Remedy: " in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model": "no-such-model"}, "no-such-model"),
        ({"pack": "/no/such/pack"}, "/no/such/pack"),
        ({"sensor.cam_frnt.topic": "eye"}, "there is no parameter 'sensor.cam_frnt.topic'"),
        ({"max_rate": 2.0}, "there is no parameter 'max_rate'"),
        ({"sensor.cam_front.kind": "video"}, "sensor.cam_front.kind"),
        ({"sensors": ["sonar"]}, "there is no sensor 'sonar'"),
        ({"question.bus.text": ""}, "question.bus"),
        ({"backend": "abacus"}, "abacus"),
    ],
)
def test_what_cannot_be_loaded_fails_the_transition_with_one_line(
    spin: Spin, environment: Setup, changes: dict[str, Any], complaint: str, capfd: Any
) -> None:
    node = make(spin, environment, **changes)
    assert node.trigger_configure() == FAILURE
    assert node.core is None
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("[ERROR]")]
    assert len(errors) == 1, errors
    assert complaint in errors[0]


def test_parameters_while_it_runs(spin: Spin, environment: Setup) -> None:
    node = start(spin, environment)
    robot = spin(Robot())
    assert node.core is not None
    set_ = {
        "budget.latency_ms": 250,
        "sensors": ["lidar_top"],
        "max_age_ms": 700.0,
        "max_rate_hz": 50.0,
    }
    for result in node.set_parameters(overrides(set_)):
        assert result.successful, result.reason
    runtime = node.core.runtime
    assert runtime.budget.latency_ms == 250
    assert runtime.sensors == ("lidar_top",)
    assert runtime.max_age_ms == 700
    for name, value, complaint in (
        ("threads", 3, "only while the node is unconfigured"),
        ("sensors", ["sonar"], "there is no sensor 'sonar'"),
        ("max_rate_hz", -1.0, "max_rate_hz"),
        ("policy", "dice", "policy"),
    ):
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful
        assert complaint in result.reason
    assert runtime.sensors == ("lidar_top",)
    send_until(robot, lambda: robot.answers)
    described = node.describe_parameter("budget.latency_ms")
    assert "0 no limit" in described.description
