"""The peers: their environments, how they take the same weights, and what they cannot do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...runtime.errors import EngineError
from ...runtime.files import cache_dir
from . import llama_peer
from .environment import PeerEnvironment
from .peer_process import PeerProcess, worker_script

# Later versions call the argument `past_key_values` of the worker something else.
_TORCH = ("torch>=2.6", "transformers>=5,<5.40", "gguf>=0.17", "accelerate>=1")
_GENAI = PeerEnvironment(
    "onnxruntime-genai",
    ("onnxruntime-genai==0.18.0", "onnx-ir", "onnx>=1.18", *_TORCH),
    "onnxruntime_genai, torch",
)
_NO_SENSORS = (
    "LiDAR: no encoder of it, tokens must come from outside",
    "a budget: nothing chooses which encoders run in a frame",
)


@dataclass(frozen=True)
class PeerSpec:
    """A peer at one precision.

    Attributes:
        name: as in results.
        environment: that it runs in.
        worker: its file.
        arguments: of the worker, made from the GGUF file, the threads and the tail's depth; may
            convert the weights, and tells what it does.
        cannot: what a robot would want of it.
        weights: how they relate to the file.
    """

    name: str
    environment: PeerEnvironment
    worker: str
    arguments: Callable[[Path, str, int, int, Callable[[str], None]], Sequence[str]]
    cannot: Sequence[str]
    weights: str

    def start(
        self, gguf: Path, sha256: str, threads: int, tail: int, progress: Callable[[str], None]
    ) -> PeerProcess:
        """Start the worker.

        Args:
            gguf: the checkpoint.
            sha256: of it, for files made from it.
            threads: of the peer.
            tail: depth of the paper's tail.
            progress: told what is being converted.

        Raises:
            EngineError: it cannot load the model.
        """
        arguments = self.arguments(gguf, sha256, threads, tail, progress)
        script = worker_script(self.worker)
        return PeerProcess(self.name, self.environment.python, script, arguments)


def _as_it_is(
    gguf: Path, sha256: str, threads: int, tail: int, progress: Callable[[str], None]
) -> Sequence[str]:
    del sha256, progress
    return (str(gguf), str(threads), str(tail))


def _as_q8_0(
    gguf: Path, sha256: str, threads: int, tail: int, progress: Callable[[str], None]
) -> Sequence[str]:
    return (str(q8_0_file(gguf, sha256, progress)), str(threads), str(tail))


def q8_0_file(gguf: Path, sha256: str, progress: Callable[[str], None]) -> Path:
    """The same weights as Q8_0, written once."""
    wide = cache_dir() / "peers" / f"{sha256[:16]}.Q8_0.gguf"
    if not wide.exists():
        progress("writing the same weights as Q8_0")
        wide.parent.mkdir(parents=True, exist_ok=True)
        llama_peer.write_q8_0(gguf, wide)
    return wide


def _as_genai(
    gguf: Path, sha256: str, threads: int, tail: int, progress: Callable[[str], None]
) -> Sequence[str]:
    del tail
    target = cache_dir() / "peers" / f"{sha256[:16]}.onnxruntime-genai-int4"
    if not (target / "genai_config.json").exists():
        progress("building the model of onnxruntime-genai (minutes)")
        target.parent.mkdir(parents=True, exist_ok=True)
        script = Path(__file__).with_name("build_onnxruntime_genai.py")
        made = subprocess.run(
            [_GENAI.python, script, gguf, target], capture_output=True, text=True, check=False
        )
        if made.returncode:
            last = (made.stderr.strip().splitlines() or ["no message"])[-1]
            raise EngineError(
                f"its model builder fails: {last}",
                field="onnxruntime-genai",
                remedy="leave it out with --peers",
            )
    return (str(target), str(threads))


_OPENVINO = PeerEnvironment(
    "openvino-genai", ("openvino-genai==2026.4.1.0", "numpy"), "openvino_genai"
)
_TEXT_FIRST = (
    "switching sensors: a sensor's tokens are computed again behind every question's text, in all "
    "blocks",
)
_OPENVINO_CANNOT = (
    *_NO_SENSORS,
    "short texts kept: its prefix cache works in whole blocks of tokens",
    *_TEXT_FIRST,
)

PEERS: tuple[PeerSpec, ...] = (
    PeerSpec(
        "llama.cpp Q8_0",
        llama_peer.ENVIRONMENT,
        "llama_cpp_worker.py",
        _as_q8_0,
        (*_NO_SENSORS, *_TEXT_FIRST),
        "those of the file, written as Q8_0",
    ),
    PeerSpec(
        "llama.cpp Q4_1",
        llama_peer.ENVIRONMENT,
        "llama_cpp_worker.py",
        _as_it_is,
        (*_NO_SENSORS, *_TEXT_FIRST),
        "the file itself",
    ),
    PeerSpec(
        "openvino-genai Q8_0",
        _OPENVINO,
        "openvino_worker.py",
        _as_q8_0,
        _OPENVINO_CANNOT,
        "those of the file, written as Q8_0",
    ),
    PeerSpec(
        "openvino-genai Q4_1",
        _OPENVINO,
        "openvino_worker.py",
        _as_it_is,
        _OPENVINO_CANNOT,
        "the file itself, in what OpenVINO makes of it",
    ),
    PeerSpec(
        "onnxruntime-genai int4",
        _GENAI,
        "onnxruntime_genai_worker.py",
        _as_genai,
        (
            *_NO_SENSORS,
            "text first in one batch: only a single sequence can go back to its text",
            *_TEXT_FIRST,
        ),
        "those of the file, rounded again to 4 bits by its model builder",
    ),
    PeerSpec(
        "transformers fp32, as in the paper",
        PeerEnvironment("transformers", _TORCH, "torch, transformers"),
        "transformers_worker.py",
        _as_it_is,
        (
            *_NO_SENSORS,
            "text kept between frames: rows of zeros below the tail are attended to, so all text "
            "changes with the number of sensor tokens",
        ),
        "those of the file, dequantised to float32",
    ),
)
