"""How far each stage of a frame is from what the machine can do: FLOP/s and bytes/s beside peaks.

FLOPs and bytes are those of the cost card, times those of `bench frame`; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHOD = (
    "FLOPs of a stage: as counted, 2 per multiply-add of matrix products, over its median time; "
    "those of connection and tail for the rows that tokens made in the median frame, as tokens "
    "without an object make none. "
    "Bytes: its weights, each read once a frame, so what really goes through memory is more "
    "(activations, and weights of blocks that caches do not hold are read again). Peaks: of one "
    "large product at the stage's precision, and of memory, measured in the same run. The larger "
    "of both shares is the distance to the limit; a stage of many small products reaches neither. "
    "head: no part of a frame; the heads of all questions, a pass each, timed behind the frames."
)


def stage_rates(
    card: Mapping[str, Any],
    plan: Mapping[str, Any],
    stages_ms: Mapping[str, Mapping[str, float]],
    peaks: Mapping[str, Any] | None,
    precision: str,
    head_ms: float | None = None,
) -> dict[str, dict[str, float | None]]:
    """Rates of the encoders, the connection, the tail and the head.

    Args:
        card: of `cost_card`.
        plan: of the card, the one that frames ran.
        stages_ms: by stage as the runtime names it, with `median`.
        peaks: `MachinePeaks.as_json`; None leaves shares out.
        precision: of the language model.
        head_ms: of the heads of all questions of the card; None leaves them out.

    Returns:
        By stage: `flops`, `bytes`, `ms`, `gflop_per_s`, `gb_per_s`, `of_peak_flops`,
        `of_peak_bytes`.
    """
    parts = card["parts"]
    encoders = {
        f"encode {name.removeprefix('encoder ')}": (part["flops"], part["weight_bytes"], "fp32")
        for name, part in parts.items()
        if name.startswith("encoder ") and part["flops"]
    }
    connection = parts["connection"]["weight_bytes"]
    encoder_bytes = sum(size for _, size, _ in encoders.values())
    counted = {
        **encoders,
        "connect": (plan["flops_by_stage"]["connect"], connection, "fp32"),
        "tail": (
            plan["flops_by_stage"]["tail"],
            plan["weight_bytes"] - connection - encoder_bytes,
            precision,
        ),
    }
    times = {stage: one["median"] for stage, one in stages_ms.items()}
    if head_ms is not None:
        model = parts["language model"]
        passes = len(card["questions"]) * model["head_weight_bytes"]
        counted["head"] = (model["head_flops_once"], passes, precision)
        times["head"] = head_ms
    found: dict[str, dict[str, float | None]] = {}
    for stage, (flops, size, kind) in counted.items():
        ms = times.get(stage, 0.0)
        if not ms:
            continue
        gflop, gbyte = flops / ms / 1e6, size / ms / 1e6
        found[stage] = {
            "flops": flops,
            "bytes": size,
            "ms": ms,
            "gflop_per_s": gflop,
            "gb_per_s": gbyte,
            "of_peak_flops": None if peaks is None else gflop / peaks["gflop_per_s"][kind],
            "of_peak_bytes": None
            if peaks is None
            else gbyte / max(peaks["read_gb_per_s"], peaks["copy_gb_per_s"]),
        }
    return found
