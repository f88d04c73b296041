"""Where each part of a pack would run on this machine, and why there: for `tailwire doctor`.

What is found out about the machine itself is in `machine_report.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .machine_report import Finding
from .native_blocks import processor_is_tuned_for
from .pack import PackManifest

#: What becomes of a frame when a device has no memory left, and how much of that was seen.
MEMORY_FALLBACK = (
    "When a device's memory runs out: a build is tried again with half the workspace, down to 32 "
    "MiB; a run gives back what it can and is made once more; then that graph goes on in ONNX "
    "Runtime on the CPU with the same inputs, and no frame is lost. The log, the node's "
    "diagnostics and Runtime.engines_on_cpu name it. Tested with stand-ins that have no memory "
    "left; not yet seen on a GPU."
)

_DEVICE_BACKENDS = ("tensorrt", "onnxruntime-tensorrt", "onnxruntime-cuda")
_COMPILED = "compiled kernels"


@dataclass(frozen=True)
class Placed:
    """Where one part runs.

    Attributes:
        part: of the pack, e.g. `encoder camera` or `tail`.
        by_default: with the default back end.
        exported: with the best back end for exports that works here.
    """

    part: str
    by_default: str
    exported: str


@dataclass(frozen=True)
class Device:
    """What would run exported graphs.

    Attributes:
        backend: its name; that of the CPU where no device can be used.
        detail: the device, or why none is used.
        works: whether there is a device.
    """

    backend: str
    detail: str
    works: bool

    @property
    def told(self) -> str:
        """In one line."""
        if self.works:
            return f"device, {self.backend} ({self.detail})"
        return f"CPU, {self.backend}: {self.detail}"


def best_device(backends: Sequence[Finding]) -> Device:
    """The first back end of a device that works, the native one before the providers.

    Args:
        backends: see `machine_report.backend_findings`.
    """
    found = {one.name: one for one in backends}
    for name in _DEVICE_BACKENDS:
        if name in found and found[name].works:
            return Device(name, found[name].detail, True)
    lacks = [found[name].lacks for name in _DEVICE_BACKENDS if name in found]
    return Device("onnxruntime-portable", ", ".join(lacks) or "no device was looked for", False)


def placed_parts(
    pack: PackManifest, machine: Sequence[Finding], backends: Sequence[Finding]
) -> list[Placed]:
    """Every part of a pack, in the order of a frame.

    Args:
        pack: the pack.
        machine: see `machine_report.machine_findings`.
        backends: see `machine_report.backend_findings`.
    """
    compiled = any(one.name == _COMPILED and one.works for one in machine)
    kernels = "compiled kernels" if compiled else "numpy, since no compiler gave kernels"
    device = best_device(backends)
    native = "CPU, onnxruntime-cpu"
    in_c = compiled and processor_is_tuned_for()
    blocks = "CPU, compiled blocks at int8 and int4, else onnxruntime-cpu" if in_c else native
    on_device = device.works and device.backend == "tensorrt"
    found = [
        Placed(
            "pictures and sweeps",
            f"CPU, {kernels}",
            f"CPU, {kernels}; not on a device yet, what they give is copied there",
        )
    ]
    for name, spec in pack.encoders.items():
        found.append(
            Placed(f"encoder {name}", native, device.told)
            if spec.needs_engine
            else Placed(f"encoder {name}", "CPU, numpy: it has no engine", "as by default")
        )
    found += [
        Placed(
            "gates and prefixes",
            f"CPU, {kernels}",
            "device, CUDA kernels, if nvcc is there or modules lie ready"
            if on_device
            else "as by default",
        ),
        Placed("connection", native, device.told),
        *(Placed(part, blocks, device.told) for part in ("head", "tail", "logits")),
        Placed("decisions", "CPU", "as by default"),
    ]
    return found
