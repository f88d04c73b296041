"""What this machine can do at best, measured by small probes: the ceilings of the cost card.

Peak FLOP/s: one large matrix product per precision, in the engine that runs everything else, and
the products that blocks in C are made of, from registers alone.
Bandwidth: buffers far beyond the caches, read and copied by as many threads. Each probe counts its
fastest run, as a ceiling should; a machine that is busy meanwhile gives lower ones.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..kernels import native
from ..runtime.backends.onnxruntime_cpu import OnnxRuntimeEngine
from ..runtime.cost import linear_flops
from ..runtime.engine_key import machine_identity
from ..runtime.errors import CacheError
from ..runtime.files import cache_dir
from ..runtime.model_config import Precision
from ..runtime.worker_cpus import Spread

METHOD = (
    "peak FLOP/s: fastest of {runs} products [{rows}, {size}] x [{size}, {size}] in ONNX Runtime "
    "(fp32: MatMul; int8: MatMulNBits with products of integers; int4: MatMulNBits with products "
    "of floats); where blocks run in C, at int8 and int4 dot products of 16-bit integers from "
    "registers, if that is more; 2 per multiply-add. Bandwidth: fastest of {runs} passes over "
    "{megabytes} MB per thread in numpy; read: the maximum is taken, copy: bytes read and written."
)
_BLOCK = 32
#: Of dot products in registers: some milliseconds.
_ROUNDS = 2_000_000


@dataclass(frozen=True)
class ProbeSizes:
    """How large the probes are.

    Attributes:
        rows: of the product's left side.
        size: its inner and outer sizes, a multiple of 32.
        megabytes: of a thread's buffer.
        runs: timed ones.
    """

    rows: int = 512
    size: int = 1024
    megabytes: int = 64
    runs: int = 12


@dataclass(frozen=True)
class MachinePeaks:
    """Measured ceilings.

    Attributes:
        flops_per_s: by precision of the weights.
        read_bytes_per_s: of memory.
        copy_bytes_per_s: read and written together.
        method: how they were measured.
    """

    flops_per_s: dict[str, float]
    read_bytes_per_s: float
    copy_bytes_per_s: float
    method: str

    @property
    def bytes_per_s(self) -> float:
        """The higher of both bandwidths: the ceiling."""
        return max(self.read_bytes_per_s, self.copy_bytes_per_s)

    def ceiling_ms(self, flops: float, memory_bytes: float, precision: Precision) -> float:
        """The least time that a part can take: its products or its bytes, whichever is longer."""
        by_flops = flops / self.flops_per_s[precision]
        return max(by_flops, memory_bytes / self.bytes_per_s) * 1e3

    def as_json(self) -> dict[str, Any]:
        """For a result."""
        return {
            "gflop_per_s": {name: value / 1e9 for name, value in self.flops_per_s.items()},
            "read_gb_per_s": self.read_bytes_per_s / 1e9,
            "copy_gb_per_s": self.copy_bytes_per_s / 1e9,
            "method": self.method,
        }


def probe_machine(threads: int, sizes: ProbeSizes | None = None) -> MachinePeaks:
    """Measure this machine; a few seconds.

    Args:
        threads: of every probe.
        sizes: of the probes.
    """
    sizes = sizes or ProbeSizes()
    peaks = {
        precision: _product(precision, threads, sizes) for precision in ("fp32", "int8", "int4")
    }
    in_c = _registers(threads, sizes)
    peaks |= {precision: max(peaks[precision], in_c) for precision in ("int8", "int4")}
    read, copy = _bandwidth(threads, sizes)
    method = METHOD.format(**vars(sizes))
    return MachinePeaks(peaks, read, copy, method)


def _product(precision: Precision, threads: int, sizes: ProbeSizes) -> float:
    """FLOP/s of one matrix product."""
    from ..export.graph import CONTRIB, GraphBuilder

    rng = np.random.default_rng(0)
    graph = GraphBuilder("probe")
    x = graph.input("x", "float32", (sizes.rows, sizes.size))
    if precision == "fp32":
        weight = rng.standard_normal((sizes.size, sizes.size)).astype(np.float32)
        y = graph.op("MatMul", x, graph.constant(weight, "weight"))
    else:
        bits, blocks = (8 if precision == "int8" else 4), sizes.size // _BLOCK
        shape = (sizes.size, blocks, _BLOCK * bits // 8)
        codes = rng.integers(0, 256, shape, dtype=np.uint8)
        scales = np.full(sizes.size * blocks, 0.01, np.float32)
        y = graph.op(
            "MatMulNBits",
            x,
            graph.constant(codes, "codes"),
            graph.constant(scales, "scales"),
            domain=CONTRIB,
            K=sizes.size,
            N=sizes.size,
            bits=bits,
            block_size=_BLOCK,
            # As the engines are built: integers for 8 bits, floats for 4.
            accuracy_level=4 if bits == 8 else 1,
        )
    graph.output(y, "y", "float32", (sizes.rows, sizes.size))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        graph.save(path)
        engine = OnnxRuntimeEngine(path, threads=threads)
        try:
            inputs = {"x": rng.standard_normal((sizes.rows, sizes.size)).astype(np.float32)}
            seconds = _fastest(lambda: engine.run(inputs), sizes.runs)
        finally:
            engine.close()
    return linear_flops(sizes.rows, sizes.size, sizes.size) / seconds


def _registers(threads: int, sizes: ProbeSizes) -> float:
    """FLOP/s of what blocks in C are made of; 0 where they are left to the engines."""
    try:
        folder = cache_dir() / "native"
    except CacheError:
        return 0.0
    library, _ = native.load_native(native.sources("peak_products.c"), folder, machine_identity())
    if library is None:
        return 0.0
    native.declare(library, {"peak_products": ([native.COUNT], native.COUNT)})
    made: list[int] = []

    def run(_: int) -> None:
        made.append(library.peak_products(_ROUNDS))

    with ThreadPoolExecutor(threads, initializer=Spread(threads)) as pool:
        seconds = _fastest(lambda: list(pool.map(run, range(threads))), sizes.runs)
    return 2 * threads * made[0] / seconds


def _bandwidth(threads: int, sizes: ProbeSizes) -> tuple[float, float]:
    """Bytes per second, read and copied."""
    length = sizes.megabytes * 1_000_000 // 4
    sources = [np.full(length, number, np.int32) for number in range(threads)]
    targets = [np.empty_like(source) for source in sources]
    total = sum(source.nbytes for source in sources)
    with ThreadPoolExecutor(threads) as pool:
        read = _fastest(lambda: list(pool.map(np.max, sources)), sizes.runs)
        copy = _fastest(lambda: list(pool.map(np.copyto, targets, sources)), sizes.runs)
    return total / read, 2 * total / copy


def _fastest(run: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest run, after one that is not counted."""
    run()
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best
