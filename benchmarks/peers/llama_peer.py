"""llama.cpp as a peer: its environment, its process, and the same weights at its precisions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ...runtime.errors import EngineError, ModelError
from ...runtime.files import cache_dir

#: Built from source on the machine, so with all instructions that it has.
REQUIREMENT = "llama-cpp-python==0.3.36"

_WORKER = Path(__file__).with_name("llama_cpp_worker.py")


def peer_python() -> Path:
    """Interpreter of the peers' environment."""
    return cache_dir() / "peers" / "llama-cpp" / "bin" / "python"


def install(progress: Callable[[str], None]) -> Path:
    """Make the peers' environment if it is not there; compiles for some minutes.

    Raises:
        EngineError: the environment cannot be made.
    """
    python = peer_python()
    try:
        if (
            python.exists()
            and not subprocess.run(
                [python, "-c", "import llama_cpp"], capture_output=True, check=False
            ).returncode
        ):
            return python
        progress(f"installing {REQUIREMENT} into {python.parent.parent} (compiles, minutes)")
        subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", REQUIREMENT], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(
            f"llama.cpp cannot be installed: {error}",
            field=str(python),
            remedy=f"run '{python} -m pip install {REQUIREMENT}' by hand and read its output",
        ) from error
    return python


class LlamaCpp:
    """A llama.cpp process that decodes on request."""

    def __init__(self, python: Path, model: Path, threads: int) -> None:
        """Start it.

        Raises:
            EngineError: it does not start.
        """
        self._process = subprocess.Popen(
            [python, _WORKER, model, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.version = str(self._read().get("version"))

    def decode(self, prompt: Sequence[int], tokens: int) -> dict[str, Any]:
        """Milliseconds (`ms`) and ids (`tokens`) of greedily decoded tokens."""
        assert_stdin = self._process.stdin
        if assert_stdin is None:
            raise EngineError("the peer has no input", field="llama.cpp")
        assert_stdin.write(json.dumps({"prompt": list(prompt), "tokens": tokens}) + "\n")
        assert_stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise EngineError(
                f"llama.cpp ended with code {self._process.wait()}",
                field="llama.cpp",
                remedy="run 'tailwire bench decode --install-peers' again",
            )
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=30)


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
