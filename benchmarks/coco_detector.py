"""A small COCO detector: MobileNetV3-CenterNet, 512 x 512, run on a whole image and on tiles.

It was trained on photographs and knows nothing of made pictures, which is what it is here for.
Boxes far away are a few pixels high when a wide image is squeezed into its square input, so the
image is also shown to it in overlapping square tiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..simulation.nuscenes.geometry import Float64
from .image_boxes import suppress
from .tfjs_graph import to_onnx

#: COCO's numbers, in the order of its 80 classes, of those that a street has.
COCO_CLASSES: Mapping[int, str] = {
    0: "person",
    1: "bicycle",
    2: "car",
    3: "motorcycle",
    5: "bus",
    7: "truck",
}
INPUT_PX = 512

_STRIDE_PX = 4
# A thing that two views found at different extents lies in itself rather than overlapping.
_DOUBLES_IOU, _DOUBLES_INSIDE = 0.5, 0.8
# How near to the edge of a tile a box ends that the edge may have cut.
_CUT_PX = 16.0
_OUTPUTS = ("tower_0/keypoints", "tower_0/wh")


@dataclass(frozen=True)
class Detection:
    """One thing that was recognised.

    Attributes:
        label: a value of `COCO_CLASSES`.
        score: 0 to 1.
        box: `x0, y0, x1, y1`, pixels.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


class CocoDetector:
    """The detector, ready to run on the CPU."""

    def __init__(self, graph: Path, weights: Path, *, threads: int = 2) -> None:
        """Rewrite the network as ONNX and load it.

        Args:
            graph: `centernet.json`, see `detector_files`.
            weights: `centernet.bin`.
            threads: of ONNX Runtime.

        Raises:
            ModelError: the files are not those of the network.
        """
        import onnxruntime

        model = to_onnx(graph.read_bytes(), weights.read_bytes(), _OUTPUTS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def detect(self, image: Image.Image, *, min_score: float) -> list[Detection]:
        """What is in an RGB image: found in the whole or in a tile, doubles removed class by class.

        Args:
            image: wider than high.
            min_score: detections below are not returned.

        Returns:
            Best first; boxes in the pixels of `image`.
        """
        found: list[Detection] = []
        for x0, x1 in views(image.width, image.height):
            found += self._detect_view(image, x0, x1, min_score)
        kept: list[Detection] = []
        for label in COCO_CLASSES.values():
            same = [detection for detection in found if detection.label == label]
            rows = suppress(
                [detection.box for detection in same],
                [detection.score for detection in same],
                _DOUBLES_IOU,
                _DOUBLES_INSIDE,
            )
            kept += [same[row] for row in rows]
        return sorted(kept, key=lambda detection: -detection.score)

    def _detect_view(
        self, image: Image.Image, x0: int, x1: int, min_score: float
    ) -> list[Detection]:
        view = image.crop((x0, 0, x1, image.height))
        scale = INPUT_PX / max(view.size)
        size = round(view.width * scale), round(view.height * scale)
        canvas = np.full((INPUT_PX, INPUT_PX, 3), 127, dtype=np.float32)
        canvas[: size[1], : size[0]] = np.asarray(view.resize(size, Image.Resampling.BILINEAR))
        heat, extents = (np.asarray(output)[0] for output in self._run(canvas[None]))
        found: list[Detection] = []
        for label, score, box in decode(heat, extents, min_score):
            x_low, y_low, x_high, y_high = box / scale
            # A thing that a tile cuts in two is found whole in its neighbour or in the whole image.
            cut_left, cut_right = x0 > 0, x1 < image.width
            if (cut_left and x_low < _CUT_PX) or (cut_right and x_high > view.width - _CUT_PX):
                continue
            corners = np.clip(
                [x_low + x0, y_low, x_high + x0, y_high],
                0,
                [image.width, image.height, image.width, image.height],
            )
            found.append(Detection(label, score, tuple(corners.tolist())))
        return found

    def _run(self, images: NDArray[np.float32]) -> list[Any]:
        return list(self._session.run(None, {"images": images}))


def views(width: int, height: int) -> list[tuple[int, int]]:
    """The columns `x0, x1` of the whole image and of its square tiles, overlapping by a third."""
    if width <= height:
        return [(0, width)]
    count = max(2, int(np.ceil((width - height) / (height * 2 / 3))) + 1)
    starts = np.linspace(0, width - height, count).round().astype(int).tolist()
    return [(0, width), *((start, start + height) for start in starts)]


def decode(
    heat: NDArray[np.float32], extents: NDArray[np.float32], min_score: float
) -> list[tuple[str, float, Float64]]:
    """Peaks of the class maps and the boxes around them (Zhou et al., 1904.07850).

    Args:
        heat: `[h, w, 80]`, scores; a peak is not less than its eight neighbours.
        extents: `[h, w, 4]`, pixels of the input from the peak to the left, upper, right and
            lower edge.
        min_score: peaks below are left out.

    Returns:
        Class, score and box in pixels of the network's input.
    """
    found = []
    for number, label in COCO_CLASSES.items():
        scores = heat[:, :, number]
        padded = np.pad(scores, 1, constant_values=-np.inf)
        neighbours = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).max(axis=(2, 3))
        for row, column in np.argwhere((scores >= min_score) & (scores >= neighbours)):
            left, top, right, bottom = extents[row, column].astype(np.float64)
            x, y = column * _STRIDE_PX, row * _STRIDE_PX
            box = np.array([x - left, y - top, x + right, y + bottom])
            found.append((label, float(scores[row, column]), box))
    return found
