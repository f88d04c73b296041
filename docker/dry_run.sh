#!/usr/bin/env bash
# Tries what Dockerfile.jetson does, as far as that needs no Jetson: the wheel of Tailwire builds and
# holds the kernels' sources, all pinned packages are there for both Pythons on aarch64, the wheel
# installs with them, the scripts are valid. Usage: docker/dry_run.sh [PYTHON]; needs PyPI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${1:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

bash -n docker/entrypoint.sh

# Of a copy: building leaves a folder behind.
mkdir "$work/source"
git ls-files -z | tar --create --null --files-from=- | tar --extract --directory "$work/source"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work" "$work/source" 2> /dev/null
wheel=$(echo "$work"/tailwire-*.whl)
# Read whole before it is searched: grep would close the pipe at its first find.
held=$("$python" -m zipfile -l "$wheel")
for source in kernels/*.cu kernels/*.h kernels/*.c; do
  grep -q "tailwire/$source " <<< "$held" || {
    echo "the wheel lacks $source" >&2
    exit 1
  }
done
echo "wheel: $(basename "$wheel"), with the sources of all kernels"

for pair in humble:310 jazzy:312; do
  ros=${pair%:*} version=${pair#*:}
  platforms=()
  for tag in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_17 manylinux2014; do
    platforms+=(--platform "${tag}_aarch64")
  done
  elsewhere=(install --quiet --dry-run --ignore-installed --target "$work/none" --only-binary=:all:
    --implementation cp --python-version "$version" "${platforms[@]}")
  "$python" -m pip "${elsewhere[@]}" --no-deps --requirement "docker/constraints-$ros.txt"
  # As in the running stage, where what is needed is found anew within the pins.
  "$python" -m pip "${elsewhere[@]}" --constraint "docker/constraints-$ros.txt" "numpy<2" "$wheel"
  echo "ROS 2 $ros: $(grep -c == "docker/constraints-$ros.txt") packages are there for Python $version on aarch64, and the wheel installs with them"
done
echo "not tried: everything that needs the images and repositories of NVIDIA and ROS"
