"""The runtime node on a robot.

    ros2 launch tailwire_ros bringup.launch.py
    ros2 launch tailwire_ros bringup.launch.py namespace:=robot1 params_file:=my.yaml

The parameter file decides everything; the arguments are what differs between two robots that share
one. Topics are relative: with a namespace they are those of one robot, transforms included.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

_PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` starts."""
    config = Path(get_package_share_directory("tailwire_ros")) / "config"
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "params_file",
                default_value=str(config / "orin.yaml"),
                description="parameters of the node; desktop.yaml is for a PC",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="of the robot"),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", description="follow /clock"
            ),
            DeclareLaunchArgument(
                "clock", default_value="/clock", description="topic of a simulated clock"
            ),
            DeclareLaunchArgument("log_level", default_value="info", description="of the node"),
            # Unless the user has one: the default of Fast DDS loses pieces of point clouds.
            SetEnvironmentVariable(
                _PROFILE, EnvironmentVariable(_PROFILE, default_value=str(config / "fastdds.xml"))
            ),
            Node(
                package="tailwire_ros",
                executable="runtime_node",
                name="tailwire",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("params_file"), {"use_sim_time": use_sim_time}],
                # Robots side by side have transforms of their own.
                remappings=[
                    ("/tf", "tf"),
                    ("/tf_static", "tf_static"),
                    ("/clock", LaunchConfiguration("clock")),
                ],
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
                output="screen",
            ),
        ]
    )
