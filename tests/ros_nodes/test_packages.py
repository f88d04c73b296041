# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The two packages as colcon and launch read them: manifests, parameter files, launch files."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tailwire.runtime.errors import ConfigError
from tailwire_ros.settings import (
    QUESTION_SETTINGS,
    SENSOR_SETTINGS,
    SETTINGS,
    budget_from,
    problem,
    runtime_config,
)

ROS_NODES = Path(__file__).resolve().parents[2] / "ros_nodes"
CONFIGS = sorted((ROS_NODES / "tailwire_ros" / "config").glob("*.yaml"))
LAUNCH = sorted((ROS_NODES / "tailwire_ros" / "launch").glob("*.launch.py"))


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Parameters by their dotted names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_parameter_files_hold_known_parameters_that_fit(path: Path) -> None:
    nodes = yaml.safe_load(path.read_text())
    values = {name: setting.default for name, setting in SETTINGS.items()}
    for name, value in flat(nodes["/**"]["ros__parameters"]):
        assert name in SETTINGS
        assert not problem(name, SETTINGS[name], value)
        # ROS reads 50 as another type than 50.0, and refuses it for a parameter of that type.
        assert type(value) is type(SETTINGS[name].default)
        values[name] = value
    config = runtime_config(values)
    assert config.precision == values["precision"]
    assert budget_from(values) == config.budget


def test_engines_are_those_of_the_parameters_and_else_of_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}
    for name in ("TAILWIRE_BACKEND", "TAILWIRE_ENGINES"):
        monkeypatch.delenv(name, raising=False)
    assert (runtime_config(values).backend, runtime_config(values).engines) == (
        "onnxruntime-cpu",
        None,
    )
    monkeypatch.setenv("TAILWIRE_BACKEND", "tensorrt")
    monkeypatch.setenv("TAILWIRE_ENGINES", "/exports/pack")
    config = runtime_config(values)
    assert (config.backend, config.engines) == ("tensorrt", "/exports/pack")
    values |= {"backend": "onnxruntime-portable", "engines": "robot", "tail_engines": ["int4=b"]}
    config = runtime_config(values)
    assert (config.backend, config.engines) == ("onnxruntime-portable", "robot")
    assert config.tail_engines == {"int4": "b"}
    for pair, message in (("int4", "names no precision and folder"), ("fp8=b", "tail_engines")):
        with pytest.raises(ConfigError, match=message):
            runtime_config({**values, "tail_engines": [pair]})


def test_defaults_fit_their_own_ranges() -> None:
    for table in (SETTINGS, QUESTION_SETTINGS):
        for name, setting in table.items():
            assert not problem(name, setting, setting.default)
            assert setting.about
    assert all(setting.about for setting in SENSOR_SETTINGS.values())


@pytest.mark.parametrize("name", ["tailwire_msgs", "tailwire_ros"])
def test_manifests_name_what_is_imported(name: str) -> None:
    root = ElementTree.parse(ROS_NODES / name / "package.xml").getroot()
    assert root.findtext("name") == name
    assert root.findtext("license") == "Apache-2.0"
    named = {one.text for one in root if one.tag.endswith("depend")}
    if name == "tailwire_ros":
        sources = (ROS_NODES / name / name).glob("*.py")
        used = {
            line.split()[1].split(".")[0]
            for source in sources
            for line in source.read_text().splitlines()
            if line.strip().startswith(("from ", "import ")) and "_msgs" in line.split()[1]
        }
        assert used <= named
        assert "rclpy" in named


@pytest.mark.parametrize("path", LAUNCH, ids=lambda path: path.name)
def test_launch_files_are_executed(path: Path) -> None:
    if importlib.util.find_spec("launch_ros") is None:
        pytest.skip("launch_ros is not on PyPI; source a ROS 2 installation")
    from launch.actions import DeclareLaunchArgument

    spec = importlib.util.spec_from_file_location(path.stem.partition(".")[0], path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    entities = module.generate_launch_description().entities
    declared = {one.name for one in entities if isinstance(one, DeclareLaunchArgument)}
    assert {"params_file", "namespace"} <= declared
