"""What mPnP-LLM (2312.07886) reports about switching sensors, to stand beside figures of ours.

The table is the one of the authors' web page for OPT-1.3B, the headlines are those of the abstract;
the paper's full text was not at hand. Nothing here is measured by us.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

SOURCE = (
    "mPnP-LLM (arXiv 2312.07886, MobiCom 2025): table for OPT-1.3B of the authors' web page and "
    "headlines of the abstract"
)

#: Night half of nuScenes-QA-mini that a switch learns, and passes over it, as the code has them.
SAMPLES, EPOCHS = 659, 8


@dataclass(frozen=True)
class PaperRow:
    """One method of the table.

    Attributes:
        method: as the table calls it.
        tail_blocks: N, or None for input-level methods.
        day: accuracy in %, cameras by day.
        night: cameras at night.
        added: at night with the LiDAR beside the cameras (C->C+L).
        replaced: at night with the LiDAR instead (C->L).
        pflops: of a switch.
        gigabytes: highest GPU memory.
    """

    method: str
    tail_blocks: int | None
    day: float
    night: float
    added: float
    replaced: float
    pflops: float
    gigabytes: float


TABLE: Sequence[PaperRow] = (
    PaperRow("Full LLM", None, 32.5, 30.2, 3.5, 3.5, 1.58, 29.9),
    PaperRow("PromptFuse", None, 33.3, 26.9, 24.9, 39.2, 1.09, 26.0),
    PaperRow("eP-ALM", None, 34.7, 24.6, 36.0, 44.7, 1.11, 27.6),
    PaperRow("N=4", 4, 25.2, 21.1, 22.3, 24.9, 0.68, 23.2),
    PaperRow("N=7", 7, 40.1, 34.1, 25.6, 26.3, 0.74, 23.9),
    PaperRow("N=10", 10, 49.1, 41.1, 27.0, 41.9, 0.81, 24.5),
    PaperRow("N=13", 13, 49.2, 40.1, 38.5, 46.4, 0.87, 23.1),
    PaperRow("N=16", 16, 50.3, 43.4, 41.7, 46.9, 0.93, 25.9),
    PaperRow("N=19", 19, 50.7, 41.0, 44.0, 46.1, 0.99, 23.9),
    PaperRow("N=22", 22, 47.8, 39.2, 41.7, 47.5, 1.05, 26.0),
)

#: "Up to": FLOPs of baselines over the method's at equal accuracy, memory saved, points gained.
FLOPS_RATIO, MEMORY_SAVED, POINTS_GAINED = 3.7, 0.30, 4.0

COMPARABLE = (
    "Comparable: what each column counts (floating-point operations of forward and backward passes "
    "of a switch, peak memory while training, exact-match accuracy at night) and how rows of one "
    "table relate to its full fine-tuning. Not comparable: absolute figures. The paper trains "
    "OPT-1.3B (24 blocks) on an RTX A6000, in bfloat16 with batches of 16, counts the frozen "
    "vision encoder and the head in every step and states memory of the GPU; ours is "
    "SmolLM2-135M (30 blocks) on this machine, encoders run once and outside training, heads are "
    "cached unless the column says otherwise, and memory is that of a process. Its questions split "
    "by question, so scenes of training and test are the same; ours split by scene. The 3.7 is a "
    "reading of curves at equal accuracy: at equal samples its own table has 1.5 to 2.3 over full "
    "fine-tuning and 1.04 to 1.6 over PromptFuse."
)


def paper_json() -> dict[str, Any]:
    """The table and the headlines, with each row beside full fine-tuning."""
    full = TABLE[0]
    return {
        "source": SOURCE,
        "table": [
            {
                **asdict(row),
                "flops_ratio_vs_full": full.pflops / row.pflops,
                "memory_ratio_vs_full": row.gigabytes / full.gigabytes,
            }
            for row in TABLE
        ],
        "headlines": {
            "flops_ratio_equal_accuracy": FLOPS_RATIO,
            "memory_saved": MEMORY_SAVED,
            "points_gained": POINTS_GAINED,
        },
        "samples": SAMPLES,
        "epochs": EPOCHS,
    }
