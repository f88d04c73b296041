"""What an engine is found by: everything that it was made from and made for.

Keys of engines that are on disk live in their manifests; see `engine_store.py`.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path

#: x86 features that array code is compiled for. The rest of that list (power saving, mitigations)
#: changes with the kernel and would throw good engines away. ARM lists nothing but features.
_X86_ARRAY_FEATURE = re.compile(r"s?sse|avx|amx|fma|f16c|bmi")


def machine_identity(accelerator: str = "", *, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What an engine's machine code depends on: architecture, CPU model, its array features.

    Args:
        accelerator: for engines of a GPU, its name and compute capability.
        cpuinfo: where Linux describes the processor.
    """
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    models: set[str] = set()
    features: set[str] = set()
    for line in lines:
        field, _, value = (part.strip() for part in line.partition(":"))
        if field in ("model name", "CPU implementer", "CPU part"):
            models.add(value)
        elif field == "flags":
            features.update(flag for flag in value.split() if _X86_ARRAY_FEATURE.match(flag))
        elif field == "Features":
            features.update(value.split())
    described = "+".join(sorted(models)) or platform.processor() or "unknown CPU"
    digest = hashlib.sha256(" ".join(sorted(features)).encode()).hexdigest()[:12]
    parts = (platform.machine(), described, f"features {digest}", accelerator)
    return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine was made from and made for; one that differs is another engine.

    Attributes:
        source_sha256: content hash of the weights.
        recipe: name and version of the graph and of how it is built, e.g. `tail10-v3`.
        precision: e.g. `int8`.
        library: what runs it, with its version, e.g. `onnxruntime 1.32.0`.
        machine: see `machine_identity`.
    """

    source_sha256: str
    recipe: str
    precision: str
    library: str
    machine: str

    @property
    def folder_name(self) -> str:
        """A readable beginning and 16 hex digits of the hash of the whole key."""
        readable = re.sub(r"[^a-z0-9.]+", "-", f"{self.recipe}-{self.precision}".lower())
        content = json.dumps(asdict(self), sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return f"{readable[:48].strip('-.') or 'engine'}-{digest}"
