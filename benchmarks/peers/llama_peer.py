"""llama.cpp as a peer: its environment, its process, and the same weights at its precisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ...runtime.errors import ModelError
from .environment import PeerEnvironment
from .peer_process import PeerProcess, worker_script

#: Built from source on the machine, so with all instructions that it has.
REQUIREMENT = "llama-cpp-python==0.3.36"

ENVIRONMENT = PeerEnvironment("llama-cpp", (REQUIREMENT,), "llama_cpp")


def peer_python() -> Path:
    """Interpreter of the peer's environment."""
    return ENVIRONMENT.python


def install(progress: Callable[[str], None]) -> Path:
    """Make the peer's environment if it is not there; compiles for some minutes.

    Raises:
        EngineError: the environment cannot be made.
    """
    ENVIRONMENT.install(progress)
    return ENVIRONMENT.python


class LlamaCpp:
    """A llama.cpp process that decodes on request."""

    def __init__(self, python: Path, model: Path, threads: int) -> None:
        """Start it.

        Raises:
            EngineError: it does not start.
        """
        self._process = PeerProcess(
            "llama.cpp",
            python,
            worker_script("llama_cpp_worker.py"),
            (str(model), str(threads)),
        )
        self.version = str(self._process.about.get("version"))

    def decode(self, prompt: Sequence[int], tokens: int) -> dict[str, Any]:
        """Milliseconds (`ms`) and ids (`tokens`) of greedily decoded tokens."""
        return self._process.ask("decode", prompt=list(prompt), tokens=tokens)

    def close(self) -> None:
        """End the process."""
        self._process.close()


def write_q8_0(source: Path, target: Path) -> None:
    """Write the weights of a GGUF file again as Q8_0 (32 per block), all else unchanged.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        reader = gguf.GGUFReader(source)
    except (ValueError, OSError) as error:
        raise ModelError(
            f"the GGUF file cannot be read: {error}", field=str(source), remedy="fetch it again"
        ) from error
    partial = target.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        value = field.contents()
        if name == "general.file_type":
            value = int(gguf.LlamaFileType.MOSTLY_Q8_0)
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, kind, sub_type=sub)
    for tensor in reader.tensors:
        quantised = tensor.tensor_type not in (
            gguf.GGMLQuantizationType.F32,
            gguf.GGMLQuantizationType.Q8_0,
        )
        if not quantised:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        dense = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(tensor.name, gguf.quantize(dense, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(target)
