"""Whether a detector trained on photographs recognises what made and real drives show.

Nothing here trains or adapts the detector. Hit rates of made images mean something beside those
of real images, taken at the same resolution, with the same rules for what counts.
"""

from __future__ import annotations

import io
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..runtime.errors import ConfigError, SensorError
from ..simulation.nuscenes.reader import NuScenes
from ..simulation.nuscenes.records import Sample
from .coco_detector import Detection
from .image_boxes import areas, iou, overlaps
from .recognition_targets import IMAGE_SIZE, KINDS, Kind, Target, targets_of

MIN_SCORE = 0.3
HIT_IOU = 0.5
LAX_IOU = 0.3

_HEIGHT_BANDS_PX = {"25-50": 50.0, "50-100": 100.0, "100+": math.inf}


class Detector(Protocol):
    """What finds things in images."""

    def detect(self, image: Image.Image, *, min_score: float) -> list[Detection]:
        """Detections in an RGB image, best first."""
        ...


@dataclass(frozen=True)
class SeenImage:
    """One camera image, what is in it, and what was recognised.

    Attributes:
        sample: the keyframe.
        camera: e.g. `cam_front`.
        image: RGB, of `IMAGE_SIZE`.
        targets: annotated boxes.
        detections: best first.
        detect_ms: what detecting took.
    """

    sample: Sample
    camera: str
    image: Image.Image
    targets: Sequence[Target]
    detections: Sequence[Detection]
    detect_ms: float


@dataclass
class Tally:
    """Counts of one kind over the images of one data set."""

    count: int = 0
    hits: int = 0
    lax_hits: int = 0
    false_positives: int = 0
    scores: list[float] = field(default_factory=list)
    seen_as: Counter[str] = field(default_factory=Counter)
    by_height: dict[str, list[int]] = field(default_factory=dict)

    def summary(self, images: int) -> dict[str, Any]:
        """The figures as they are written to the report."""
        low, high = wilson_interval(self.hits, self.count)
        return {
            "count": self.count,
            "hits": self.hits,
            "hit_rate": round(self.hits / self.count, 3) if self.count else None,
            "interval_95": [round(low, 3), round(high, 3)],
            "lax_hits": self.lax_hits,
            "lax_hit_rate": round(self.lax_hits / self.count, 3) if self.count else None,
            "mean_score_of_hits": round(float(np.mean(self.scores)), 3) if self.scores else None,
            "false_positives_per_image": round(self.false_positives / images, 3)
            if images
            else None,
            "hits_of_count_by_height_px": self.by_height,
            "seen_as": dict(self.seen_as.most_common()),
        }


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """95 % confidence interval of a rate (Wilson, 1927); 0 to 1 where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    z = 1.959964
    rate = hits / count
    centre = rate + z * z / (2 * count)
    spread = z * math.sqrt(rate * (1 - rate) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def matches(
    targets: Sequence[Target], detections: Sequence[Detection], min_iou: float
) -> dict[int, int]:
    """Pair detections with targets, one to one; better scores choose first.

    Args:
        targets: those that may be hit.
        detections: best first.
        min_iou: pairs overlap at least this much.

    Returns:
        Row of a detection to the row of its target.
    """
    table = iou([d.box for d in detections], [t.box for t in targets])
    pairs: dict[int, int] = {}
    for row in range(len(detections)):
        free = [column for column in range(len(targets)) if column not in pairs.values()]
        best = max(free, key=lambda column: table[row, column], default=None)
        if best is not None and table[row, best] >= min_iou:
            pairs[row] = best
    return pairs


def tally_image(
    tally: Tally, kind: Kind, targets: Sequence[Target], detections: Sequence[Detection]
) -> None:
    """Add one image to the counts of a kind.

    A detection is a false positive if it overlaps no annotated box of the kind by IoU 0.3 and no
    more than half of it lies in one; boxes that do not count, being small or hidden, excuse it too.

    Args:
        tally: is added to.
        kind: which boxes and classes.
        targets: all annotated boxes of the image.
        detections: all detections of the image, best first.
    """
    own = [target for target in targets if kind.has(target.category)]
    counted = [target for target in own if target.counts]
    right = [detection for detection in detections if detection.label in kind.labels]
    hits = matches(counted, right, HIT_IOU)
    tally.count += len(counted)
    tally.hits += len(hits)
    tally.lax_hits += len(matches(counted, right, LAX_IOU))
    tally.scores += [right[row].score for row in hits]
    for place, target in enumerate(counted):
        band = tally.by_height.setdefault(_height_band(target.height_px), [0, 0])
        band[0] += place in hits.values()
        band[1] += 1
        tally.seen_as[_seen_as(target, detections)] += 1
    boxes = [target.box for target in own]
    for detection in right:
        inside = overlaps([detection.box], boxes)[0] / max(areas([detection.box])[0], 1e-9)
        excused = (iou([detection.box], boxes)[0] >= LAX_IOU) | (inside > 0.5)
        tally.false_positives += not excused.any()


def look(drive: NuScenes, detector: Detector, samples: Sequence[Sample]) -> Iterator[SeenImage]:
    """Show the camera images of keyframes to a detector.

    Args:
        drive: the data set.
        detector: what looks.
        samples: the keyframes.

    Raises:
        SensorError: an image is missing or cannot be decoded.
        DataError: the annotations are wrong.
    """
    for sample in samples:
        annotations = drive.annotations(sample.token)
        for sensor in drive.sensors:
            if not sensor.startswith("cam"):
                continue
            record = drive.sample_data(sensor, sample.token)
            try:
                with Image.open(io.BytesIO(bytes(drive.read(record).payload))) as file:
                    image = file.convert("RGB").resize(IMAGE_SIZE, Image.Resampling.BOX)
            except (UnidentifiedImageError, OSError) as error:
                raise SensorError(
                    f"the image cannot be decoded: {error}",
                    field=record.filename,
                    remedy="restore the file, or leave this keyframe out",
                ) from error
            start = time.perf_counter()
            detections = detector.detect(image, min_score=MIN_SCORE)
            elapsed_ms = (time.perf_counter() - start) * 1e3
            targets = targets_of(drive, record, annotations)
            yield SeenImage(sample, sensor, image, targets, detections, elapsed_ms)


def spread_samples(drive: NuScenes, count: int) -> list[Sample]:
    """Keyframes evenly spread over all scenes of a data set, at most `count` of them.

    Raises:
        ConfigError: `count` is less than 1.
    """
    if count < 1:
        raise ConfigError(f"{count} is too small", field="keyframes", remedy="give at least 1")
    samples = [sample for scene in drive.scenes for sample in drive.samples(scene)]
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[place] for place in places]


def bench_recognition(
    drives: Mapping[str, NuScenes],
    detector: Detector,
    *,
    keyframes: int,
    on_image: Callable[[str, SeenImage], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure hit rates of a detector on data sets, the same way on each.

    Args:
        drives: name for the report and data set.
        detector: what looks.
        keyframes: of each data set, evenly spread.
        on_image: is given each image and what was found in it, e.g. to draw it.
        progress: called with (keyframes done, keyframes in all).

    Returns:
        What `tailwire bench recognition --json` prints, without detector and machine.

    Raises:
        SensorError: an image is missing or cannot be decoded.
        DataError: the annotations of a data set are wrong.
        ConfigError: `keyframes` is less than 1.
    """
    chosen = {name: spread_samples(drive, keyframes) for name, drive in drives.items()}
    total, done = sum(map(len, chosen.values())), 0
    results: dict[str, Any] = {}
    for name, drive in drives.items():
        tallies = {kind: Tally() for kind in KINDS}
        times_ms: list[float] = []
        for sample in chosen[name]:
            for seen in look(drive, detector, [sample]):
                times_ms.append(seen.detect_ms)
                for kind, tally in tallies.items():
                    tally_image(tally, KINDS[kind], seen.targets, seen.detections)
                if on_image is not None:
                    on_image(name, seen)
            done += 1
            if progress is not None:
                progress(done, total)
        results[name] = {
            "keyframes": len(chosen[name]),
            "images": len(times_ms),
            "detect_ms_per_image": round(float(np.median(times_ms)), 1) if times_ms else None,
            "kinds": {kind: tally.summary(len(times_ms)) for kind, tally in tallies.items()},
        }
    return {"benchmark": "recognition", "settings": _settings(keyframes), "data": results}


def _settings(keyframes: int) -> dict[str, Any]:
    return {
        "keyframes": keyframes,
        "image_px": list(IMAGE_SIZE),
        "min_score": MIN_SCORE,
        "hit_iou": HIT_IOU,
        "lax_iou": LAX_IOU,
    }


def _height_band(height_px: float) -> str:
    return next(name for name, below_px in _HEIGHT_BANDS_PX.items() if height_px < below_px)


def _seen_as(target: Target, detections: Sequence[Detection]) -> str:
    """The class of the best-scored detection on a target, whatever it is."""
    table = iou([target.box], [detection.box for detection in detections])[0]
    return next(
        (
            detection.label
            for detection, overlap in zip(detections, table, strict=True)
            if overlap >= HIT_IOU
        ),
        "nothing",
    )
