"""Hits, misses and false alarms, counted on hand-made cases and on a small written data set."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tailwire.benchmarks.coco_detector import Detection
from tailwire.benchmarks.recognition import (
    SeenImage,
    Tally,
    bench_recognition,
    matches,
    spread_samples,
    tally_image,
    wilson_interval,
)
from tailwire.benchmarks.recognition_pictures import drawn, save_picture
from tailwire.benchmarks.recognition_targets import KINDS, Target, targets_of
from tailwire.runtime.errors import ConfigError, SensorError
from tailwire.simulation.nuscenes import NuScenes, NuScenesWriter

Box = tuple[float, float, float, float]

STAMP_NS = 1_600_000_000_000_000_000
HALF_SECOND_NS = 500_000_000
FORWARD = (0.5, -0.5, 0.5, -0.5)


def car(*box: float, counts: bool = True) -> Target:
    return Target("vehicle.car", box, counts)  # pyright: ignore[reportArgumentType]


def seen(label: str, score: float, *box: float) -> Detection:
    return Detection(label, score, box)  # pyright: ignore[reportArgumentType]


def tallied(kind: str, targets: Sequence[Target], detections: Sequence[Detection]) -> Tally:
    tally = Tally()
    tally_image(tally, KINDS[kind], targets, detections)
    return tally


class TestWilson:
    def test_known_values(self) -> None:
        # Newcombe (1998), table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for hits, count, low, high in (
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ):
            np.testing.assert_allclose(wilson_interval(hits, count), (low, high), atol=5e-5)

    def test_nothing_counted_says_nothing(self) -> None:
        assert wilson_interval(0, 0) == (0, 1)


class TestCounting:
    def test_the_better_score_takes_the_target(self) -> None:
        targets = [car(0, 0, 10, 10), car(2, 0, 12, 10)]
        detections = [seen("car", 0.9, 2, 0, 12, 10), seen("car", 0.8, 2, 0, 12, 10)]
        assert matches(targets, detections, 0.5) == {0: 1, 1: 0}
        assert matches(targets, detections, 0.9) == {0: 1}
        assert matches([], detections, 0.5) == {}
        assert matches(targets, [], 0.5) == {}

    def test_hits_misses_and_what_they_were_taken_for(self) -> None:
        targets = [car(0, 0, 40, 30), car(100, 0, 140, 60), car(200, 0, 240, 120)]
        detections = [seen("truck", 0.7, 100, 0, 140, 60), seen("car", 0.6, 0, 0, 40, 30)]
        tally = tallied("car", targets, detections)
        assert (tally.count, tally.hits, tally.lax_hits, tally.false_positives) == (3, 1, 1, 0)
        assert tally.scores == [0.6]
        assert tally.seen_as == {"car": 1, "truck": 1, "nothing": 1}
        assert tally.by_height == {"25-50": [1, 1], "50-100": [0, 1], "100+": [0, 1]}
        assert tallied("any_vehicle", targets, detections).hits == 2
        # To the row of trucks it is a false alarm: no truck is there.
        assert tallied("truck", targets, detections).false_positives == 1

    def test_a_loose_box_is_a_lax_hit(self) -> None:
        # 40 x 40 within 40 x 100: IoU 0.4.
        tally = tallied("car", [car(0, 0, 40, 100)], [seen("car", 0.5, 0, 0, 40, 40)])
        assert (tally.hits, tally.lax_hits, tally.false_positives) == (0, 1, 0)

    def test_boxes_that_do_not_count_excuse_and_earn_nothing(self) -> None:
        hidden = car(0, 0, 40, 40, counts=False)
        detections = [seen("car", 0.5, 0, 0, 40, 40), seen("car", 0.5, 30, 0, 70, 40)]
        tally = tallied("car", [hidden], detections)
        assert (tally.count, tally.hits, tally.false_positives) == (0, 0, 1)

    def test_a_part_within_a_box_is_no_false_alarm(self) -> None:
        tally = tallied("car", [car(0, 0, 100, 100)], [seen("car", 0.5, 0, 0, 10, 10)])
        assert (tally.hits, tally.false_positives) == (0, 0)

    def test_the_summary(self) -> None:
        tally = tallied("car", [car(0, 0, 40, 30)], [seen("car", 0.6, 0, 0, 40, 30)])
        summary = tally.summary(images=4)
        assert summary["hit_rate"] == 1
        assert summary["interval_95"] == [0.207, 1]
        assert summary["false_positives_per_image"] == 0
        assert Tally().summary(images=0)["hit_rate"] is None

    def test_kinds(self) -> None:
        assert KINDS["bus"].has("vehicle.bus.bendy")
        assert not KINDS["car"].has("vehicle.cart")
        assert not KINDS["pedestrian"].has("human.pedestrian.stroller")


def camera_set(root: Path) -> NuScenes:
    """Two keyframes of a camera 100 px in focal length, with cars ahead in each."""
    file = io.BytesIO()
    Image.new("RGB", (160, 90), (90, 120, 60)).save(file, format="JPEG")
    with NuScenesWriter(root) as writer:
        intrinsic = np.array([[100.0, 0, 80], [0, 100.0, 45], [0, 0, 1]])
        writer.add_sensor("CAM_FRONT", "camera", (0, 0, 1.0), FORWARD, intrinsic)
        writer.begin_scene("scene-0001", "", logfile="l", location="h", date_captured="2020-09-13")
        for number in range(2):
            stamp_ns = STAMP_NS + number * HALF_SECOND_NS
            pose = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)
            writer.begin_sample(stamp_ns)
            writer.add_frame("CAM_FRONT", stamp_ns, file.getvalue(), *pose)
            for name, x, y, points, visibility in (
                ("plain", 11.0, 0.0, 5, "v80-100"),
                ("behind it", 16.0, 0.2, 5, "v80-100"),
                ("no point", 11.0, 6.0, 0, "v80-100"),
                ("hidden", 11.0, -6.0, 5, "v0-40"),
                ("far", 80.0, 20.0, 5, "v80-100"),
                ("cut off", 8.0, 7.5, 5, "v80-100"),
                ("at our back", -10.0, 0.0, 5, "v80-100"),
            ):
                writer.add_annotation(
                    name,
                    "vehicle.car",
                    [],
                    (x, y, 1.0),
                    (2.0, 2.0, 2.0),
                    (1.0, 0.0, 0.0, 0.0),
                    num_lidar_pts=points,
                    visibility=visibility,
                )
    return NuScenes.open(root)


class TestTargets:
    def test_which_boxes_count(self, tmp_path: Path) -> None:
        drive = camera_set(tmp_path / "set")
        (sample, _) = drive.samples(drive.scenes[0])
        camera = drive.sample_data("cam_front", sample.token)
        found = targets_of(drive, camera, drive.annotations(sample.token))
        # The near face of the first is at 10 m: 20 px of 160 x 90 wide, 100 px of 800 x 450.
        (plain,) = [target for target in found if target.counts]
        np.testing.assert_allclose(plain.box, (350, 175, 450, 275))
        assert plain.height_px == pytest.approx(100)
        assert len(found) == 6


class Seer:
    """Reports the one car that counts, and records what it was shown."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def detect(self, image: Image.Image, *, min_score: float) -> list[Detection]:
        self.sizes.append(image.size)
        return [seen("car", min_score + 0.1, 350, 175, 450, 275), seen("bus", 0.3, 0, 0, 60, 60)]


class TestBench:
    def test_report_of_two_sets(self, tmp_path: Path) -> None:
        drives = {name: camera_set(tmp_path / name) for name in ("one", "two")}
        detector, shown, steps = Seer(), [], []

        def on_image(name: str, image: SeenImage) -> None:
            shown.append((name, image.camera))

        result = bench_recognition(
            drives,
            detector,
            keyframes=9,
            on_image=on_image,
            progress=lambda done, total: steps.append((done, total)),
        )
        assert detector.sizes == [(800, 450)] * 4
        assert shown == [("one", "cam_front")] * 2 + [("two", "cam_front")] * 2
        assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
        part = result["data"]["two"]
        assert (part["keyframes"], part["images"]) == (2, 2)
        figures = part["kinds"]["car"]
        assert (figures["count"], figures["hits"]) == (2, 2)
        assert figures["mean_score_of_hits"] == 0.4
        assert part["kinds"]["bus"]["false_positives_per_image"] == 1
        assert part["kinds"]["pedestrian"]["hit_rate"] is None

    def test_keyframes_are_spread(self, tmp_path: Path) -> None:
        drive = camera_set(tmp_path / "set")
        assert [s.stamp_ns for s in spread_samples(drive, 1)] == [STAMP_NS]
        assert len(spread_samples(drive, 5)) == 2
        with pytest.raises(ConfigError, match="keyframes"):
            spread_samples(drive, 0)

    def test_an_image_that_cannot_be_decoded(self, tmp_path: Path) -> None:
        drive = camera_set(tmp_path / "set")
        for path in (drive.dataroot / "samples" / "CAM_FRONT").iterdir():
            path.write_bytes(b"\xff\xd8\xff nothing \xff\xd9")
        with pytest.raises(SensorError, match="cannot be decoded"):
            bench_recognition({"set": drive}, Seer(), keyframes=1)


class TestPictures:
    def test_boxes_are_drawn_and_saved(self, tmp_path: Path) -> None:
        shown: list[Any] = []
        drive = camera_set(tmp_path / "set")
        bench_recognition(
            {"a": drive}, Seer(), keyframes=1, on_image=lambda _, image: shown.append(image)
        )
        picture = np.asarray(drawn(shown[0])).astype(int)
        before = np.asarray(shown[0].image).astype(int)
        assert np.abs(picture[225, 350] - before[225, 350]).max() > 50
        assert (picture[300:, 380:420] == before[300:, 380:420]).all()
        path = save_picture(tmp_path / "pictures", "../evil name", shown[0])
        assert path.parent == tmp_path / "pictures"
        with Image.open(path) as saved:
            assert saved.size == (800, 450)
