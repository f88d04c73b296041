#!/usr/bin/env bash
# Tries what Dockerfile.jetson does, as far as that needs no Jetson: the pinned packages resolve for
# both Pythons on aarch64, the wheel of Tailwire builds and holds the kernels' sources, the scripts
# are valid. Usage: docker/dry_run.sh [PYTHON]; needs PyPI.
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
for kernel in range_image bev_grid image_input prefix_pack top_rows; do
  "$python" -m zipfile -l "$wheel" | grep -q "kernels/$kernel.cu" || {
    echo "the wheel lacks kernels/$kernel.cu" >&2
    exit 1
  }
done
echo "wheel: $(basename "$wheel")"

for pair in humble:310 jazzy:312; do
  ros=${pair%:*} version=${pair#*:}
  platforms=()
  for tag in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_17 manylinux2014; do
    platforms+=(--platform "${tag}_aarch64")
  done
  "$python" -m pip install --quiet --dry-run --ignore-installed --no-deps --target "$work/none" \
    --only-binary=:all: --implementation cp --python-version "$version" "${platforms[@]}" \
    --requirement "docker/constraints-$ros.txt"
  echo "ROS 2 $ros: $(grep -c == "docker/constraints-$ros.txt") packages are there for Python $version on aarch64"
done
echo "not tried: everything that needs the images and repositories of NVIDIA and ROS"
