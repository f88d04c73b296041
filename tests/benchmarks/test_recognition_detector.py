"""The detector: decoding, tiles, the fetching of its files, and the real one where it is."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailwire.benchmarks import detector_files as files_module
from tailwire.benchmarks.coco_detector import COCO_CLASSES, CocoDetector, decode, views
from tailwire.benchmarks.detector_files import (
    CENTERNET,
    DetectorPackage,
    PackageFile,
    detector_files,
)
from tailwire.benchmarks.recognition import bench_recognition
from tailwire.runtime.errors import ModelError, TailwireError
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.sketch_drive import make_sketch_drive


class TestDecode:
    def test_peaks_become_boxes(self) -> None:
        heat = np.zeros((8, 8, 80), np.float32)
        extents = np.zeros((8, 8, 4), np.float32)
        heat[3, 5, 2], heat[3, 6, 2] = 0.9, 0.8  # the second is a slope of the first
        heat[0, 0, 0] = 0.5
        heat[7, 7, 7] = 0.2
        heat[4, 1, 16] = 0.9  # a dog
        extents[3, 5] = (6, 4, 10, 8)
        found = sorted(decode(heat, extents, 0.3), key=lambda item: -item[1])
        assert [(label, round(score, 3)) for label, score, _ in found] == [
            ("car", 0.9),
            ("person", 0.5),
        ]
        np.testing.assert_allclose(found[0][2], (14, 8, 30, 20))

    def test_tiles_cover_the_image(self) -> None:
        assert views(800, 450) == [(0, 800), (0, 450), (175, 625), (350, 800)]
        assert views(300, 300) == [(0, 300)]
        wide = views(1600, 400)
        assert wide[0] == (0, 1600)
        for (_, end), (start, _) in pairwise(wide[1:]):
            assert end - start >= 400 // 3 - 1


def archive_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def package_of(members: dict[str, bytes]) -> DetectorPackage:
    files = {
        Path(name).stem: PackageFile(name, hashlib.sha256(content).hexdigest(), len(content))
        for name, content in members.items()
    }
    return DetectorPackage("@a/b", "1.2.3", "https://registry.invalid/b.tgz", "MIT", "-", files)


MEMBERS = {"package/models/graph.json": b"{}", "package/models/weights.bin": b"\1\2\3"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAILWIRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TAILWIRE_OFFLINE", raising=False)
    return tmp_path / "cache"


class TestFiles:
    def test_fetched_once_and_found_offline(self, cache: Path, tmp_path: Path) -> None:
        package = package_of(MEMBERS)
        archive = archive_of(tmp_path / "b.tgz", {"package/x": b"other", **MEMBERS})
        paths = detector_files(package, archive=archive)
        assert paths["weights"].read_bytes() == b"\1\2\3"
        assert paths["graph"].is_relative_to(cache)
        archive.unlink()
        assert detector_files(package, offline=True) == paths

    def test_a_broken_copy_is_replaced(self, cache: Path, tmp_path: Path) -> None:
        package = package_of(MEMBERS)
        archive = archive_of(tmp_path / "b.tgz", MEMBERS)
        path = detector_files(package, archive=archive)["weights"]
        path.write_bytes(b"\1\2\4")
        assert detector_files(package, archive=archive)["weights"].read_bytes() == b"\1\2\3"

    def test_another_content_is_refused(self, cache: Path, tmp_path: Path) -> None:
        for number, change in enumerate((b"\1\2\4", b"\1\2\3\4")):
            members = {**MEMBERS, "package/models/weights.bin": change}
            archive = archive_of(tmp_path / f"{number}.tgz", members)
            with pytest.raises(ModelError, match=r"weights\.bin is not the file"):
                detector_files(package_of(MEMBERS), archive=archive)
        assert not list(cache.rglob("*.bin"))

    def test_a_missing_member_and_a_broken_archive(self, cache: Path, tmp_path: Path) -> None:
        without = archive_of(tmp_path / "a.tgz", {"package/models/graph.json": b"{}"})
        with pytest.raises(ModelError, match="no such member"):
            detector_files(package_of(MEMBERS), archive=without)
        cut = tmp_path / "cut.tgz"
        cut.write_bytes(archive_of(tmp_path / "b.tgz", MEMBERS).read_bytes()[:60])
        for broken in (cut, tmp_path / "nowhere.tgz"):
            with pytest.raises(ModelError, match="cannot be read"):
                detector_files(package_of(MEMBERS), archive=broken)

    @pytest.mark.parametrize("by_environment", [False, True])
    def test_offline(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch, by_environment: bool
    ) -> None:
        def refused(*_: object, **__: object) -> None:
            raise AssertionError("the network was used")

        monkeypatch.setattr(files_module.urllib.request, "urlopen", refused)
        if by_environment:
            monkeypatch.setenv("TAILWIRE_OFFLINE", "1")
        with pytest.raises(ModelError, match="network is not to be used") as caught:
            detector_files(package_of(MEMBERS), offline=not by_environment)
        assert "--detector" in str(caught.value)


@pytest.fixture(scope="module")
def detector() -> CocoDetector:
    """The real network, if its files are in the user's cache or the registry answers."""
    try:
        paths = detector_files(CENTERNET)
    except TailwireError as error:
        pytest.skip(f"the COCO detector cannot be had: {error}")
    return CocoDetector(paths["graph"], paths["weights"])


class TestRealDetector:
    def test_an_empty_image_has_nothing(self, detector: CocoDetector) -> None:
        assert detector.detect(Image.new("RGB", (800, 450), (120, 130, 140)), min_score=0.3) == []

    def test_cars_of_the_sketch_are_found_in_place(
        self, detector: CocoDetector, tmp_path: Path
    ) -> None:
        drive = NuScenes.open(make_sketch_drive(tmp_path / "sketch", seed=7, seconds=0.5))
        result = bench_recognition({"sketch": drive}, detector, keyframes=1)
        figures = result["data"]["sketch"]["kinds"]["car"]
        # Boxes that are shifted or scaled wrongly would miss all of them.
        assert figures["hits"] >= 4
        assert figures["false_positives_per_image"] < 1

    def test_boxes_stay_in_the_image_and_are_known_classes(
        self, detector: CocoDetector, keyframe_image: Image.Image
    ) -> None:
        found = detector.detect(keyframe_image, min_score=0.3)
        assert {detection.label for detection in found} <= set(COCO_CLASSES.values())
        assert {"car", "person"} <= {detection.label for detection in found}
        for detection in found:
            x0, y0, x1, y1 = detection.box
            assert 0 <= x0 <= x1 <= keyframe_image.width
            assert 0 <= y0 <= y1 <= keyframe_image.height


@pytest.fixture
def keyframe_image() -> Image.Image:
    """The real front camera image at the size of the measurement."""
    shared = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("TAILWIRE_DATA", shared)) / "nuscenes_keyframe"
    if not root.is_dir():
        pytest.skip(f"no real keyframe at {root}; set TAILWIRE_DATA to the folder that holds it")
    (file,) = (root / "samples" / "CAM_FRONT").iterdir()
    with Image.open(file) as image:
        return image.convert("RGB").resize((800, 450), Image.Resampling.BOX)
