"""The ament_python package of the nodes; `colcon build` and pip both read it."""

from pathlib import Path

from setuptools import setup

PACKAGE = "tailwire_ros"


def files(pattern: str) -> list[str]:
    """Files of this folder, as setuptools wants them."""
    return [str(path) for path in sorted(Path().glob(pattern))]


setup(
    name=PACKAGE,
    version="0.1.0",
    packages=[PACKAGE],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (
            f"share/{PACKAGE}/launch",
            files("launch/*.launch.py"),
        ),
        (f"share/{PACKAGE}/config", files("config/*.yaml") + files("config/*.xml")),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="Tailwire maintainers",
    maintainer_email="maintainers@tailwire.example",
    description="Nodes of Tailwire: sensors in, answers out, inside a compute budget",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            f"runtime_node = {PACKAGE}.runtime_node:main",
            f"replay_node = {PACKAGE}.replay_node:main",
            f"recorder_node = {PACKAGE}.recorder_node:main",
        ],
    },
)
