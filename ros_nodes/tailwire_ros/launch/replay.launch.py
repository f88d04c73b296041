"""A recorded drive and the runtime node that answers about it; ends with the drive.

ros2 launch tailwire_ros replay.launch.py bag:=/data/bags/scene-0001
ros2 launch tailwire_ros replay.launch.py bag:=/data/nuscenes scene:=scene-0061 record:=answered
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

#: Argument, default, type, and what it is.
_OF_THE_DRIVE = (
    ("scene", "", str, "name of the scene of a data set, or of a bag in a folder"),
    ("rate", "1.0", float, "seconds of the drive per second"),
    ("loop", "false", bool, "begin again at the end"),
    ("objects", "false", bool, "publish annotations of a data set as boxes"),
    ("record", "", str, "bag to write at the end, with sensors and answers"),
)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` starts."""
    share = Path(get_package_share_directory("tailwire_ros"))
    drive = Node(
        package="tailwire_ros",
        executable="replay_node",
        name="tailwire_replay",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {"path": ParameterValue(LaunchConfiguration("bag"), value_type=str)},
            *(
                {name: ParameterValue(LaunchConfiguration(name), value_type=kind)}
                for name, _, kind, _ in _OF_THE_DRIVE
            ),
        ],
        # Two replays side by side have times of their own.
        remappings=[("/tf", "tf"), ("/tf_static", "tf_static"), ("/clock", "clock")],
        output="screen",
    )
    runtime = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "bringup.launch.py")),
        launch_arguments={
            "params_file": LaunchConfiguration("params_file"),
            "namespace": LaunchConfiguration("namespace"),
            "use_sim_time": "true",
            "clock": "clock",
        }.items(),
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="a bag, or a nuScenes dataroot"),
            *(
                DeclareLaunchArgument(name, default_value=default, description=about)
                for name, default, _, about in _OF_THE_DRIVE
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=str(share / "config" / "desktop.yaml"),
                description="parameters of the runtime node",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="of the robot"),
            # The runtime's description sets the environment, for the drive too.
            runtime,
            drive,
            RegisterEventHandler(
                OnProcessExit(target_action=drive, on_exit=[EmitEvent(event=Shutdown())])
            ),
        ]
    )
