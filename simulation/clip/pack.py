"""Makes a clip's archive from a made drive: the first seconds of each scene, keyframes alone.

Pictures are made smaller and calibrated anew, sweeps are written beam by beam (`beams.py`), tables
keep what belongs to the keyframes that stay. Needs the core alone; runs when a clip is made.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ...runtime.errors import ConfigError, DataError
from ...runtime.files import open_atomic, sha256_of, write_atomic
from ..nuscenes import NuScenes
from ..questions.files import FOLDER
from ..rig import LIDAR
from .beams import decode_sweep, encode_sweep
from .record import ClipRecord, record_of
from .unpack import BEAMS_SUFFIX

Row = dict[str, Any]

#: Archives of equal content are equal files.
_STAMP = (2025, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ClipOptions:
    """What a clip keeps.

    Attributes:
        seconds: of each scene, in the order of the table.
        image_width: of the pictures, pixels.
        image_quality: of JPEG, 1 to 95.
    """

    seconds: tuple[float, ...]
    image_width: int = 640
    image_quality: int = 75

    def __post_init__(self) -> None:
        if not self.seconds or not all(0 < one <= 60 for one in self.seconds):
            raise ConfigError(
                f"{list(self.seconds)} are no lengths of scenes",
                field="--seconds",
                remedy="give the length of each scene, above 0 and at most 60",
            )
        if not 160 <= self.image_width <= 1600:
            raise ConfigError(
                f"{self.image_width} pixels", field="--image-width", remedy="give 160 to 1600"
            )
        if not 1 <= self.image_quality <= 95:
            raise ConfigError(
                f"a quality of {self.image_quality}", field="--quality", remedy="give 1 to 95"
            )


def pack_clip(
    dataroot: Path, archive: Path, options: ClipOptions, made_with: Sequence[str]
) -> ClipRecord:
    """Write an archive and its record.

    Args:
        dataroot: of a drive that `tailwire simulate` made.
        archive: replaced if it is there; its record takes the same name with `.json`.
        options: what is kept.
        made_with: the commands, for the record.

    Raises:
        DataError: the drive is broken, has fewer scenes, or sweeps of another LiDAR.
        CacheError: the archive cannot be written.
    """
    data = NuScenes.open(dataroot)
    if len(data.scenes) < len(options.seconds):
        raise DataError(
            f"there are {len(data.scenes)} scenes, {len(options.seconds)} are to be kept",
            field=str(dataroot),
            remedy="give as many lengths as there are scenes, or fewer",
        )
    tables = _Tables(dataroot / data.version)
    scenes = data.scenes[: len(options.seconds)]
    samples = {
        sample.token
        for scene, seconds in zip(scenes, options.seconds, strict=True)
        for sample in _first(data.samples(scene), seconds)
    }
    tables.keep(samples)
    scales = tables.shrink_images(options.image_width)
    files: dict[str, bytes] = {}
    unpacked = 0
    for name, rows in tables.rows.items():
        files[f"{data.version}/{name}.json"] = _json(rows)
    for row in tables.rows["sample_data"]:
        name = row["filename"]
        path = dataroot / name
        if name in scales:
            files[name] = _picture(path, (row["width"], row["height"]), options.image_quality)
        else:
            sweep = _sweep(data, row["token"], row["sample_token"])
            files[name + BEAMS_SUFFIX] = sweep
            unpacked += decode_sweep(sweep, name).nbytes
    for row in tables.rows["map"]:
        files[row["filename"]] = (dataroot / row["filename"]).read_bytes()
    files |= _questions(dataroot, samples)
    unpacked += sum(len(data) for name, data in files.items() if not name.endswith(BEAMS_SUFFIX))
    _write(archive, files)
    record = ClipRecord(
        sha256=sha256_of(archive),
        size_bytes=archive.stat().st_size,
        files=len(files),
        unpacked_bytes=unpacked,
        made_with=tuple(made_with),
    )
    write_atomic(record_of(archive), record.model_dump_json(indent=1) + "\n")
    return record


class _Tables:
    """The tables as they lie on the disk."""

    def __init__(self, folder: Path) -> None:
        self.rows: dict[str, list[Row]] = {
            path.stem: json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))
        }

    def keep(self, samples: set[str]) -> None:
        """Keep what belongs to some keyframes, and mend chains, counts and ends."""
        self._filter("sample", lambda row: row["token"] in samples)
        self._filter(
            "sample_data", lambda row: row["is_key_frame"] and row["sample_token"] in samples
        )
        self._filter("sample_annotation", lambda row: row["sample_token"] in samples)
        for name in ("sample", "sample_data", "sample_annotation"):
            self._mend_chain(name)
        self._keep_used("ego_pose", {row["ego_pose_token"] for row in self.rows["sample_data"]})
        mounts = {row["calibrated_sensor_token"] for row in self.rows["sample_data"]}
        self._keep_used("calibrated_sensor", mounts)
        boxes = self._grouped("sample_annotation", "instance_token")
        self._keep_used("instance", set(boxes))
        for row in self.rows["instance"]:
            chain = boxes[row["token"]]
            row["nbr_annotations"] = len(chain)
            row["first_annotation_token"] = _ends(chain, "prev")
            row["last_annotation_token"] = _ends(chain, "next")
        kept = self._grouped("sample", "scene_token")
        self._keep_used("scene", set(kept))
        for row in self.rows["scene"]:
            chain = kept[row["token"]]
            row["nbr_samples"] = len(chain)
            row["first_sample_token"] = _ends(chain, "prev")
            row["last_sample_token"] = _ends(chain, "next")

    def shrink_images(self, width: int) -> set[str]:
        """Give pictures their new size and cameras the matrix that goes with it.

        Returns:
            Names of the picture files.
        """
        factors: dict[str, float] = {}
        names: set[str] = set()
        for row in self.rows["sample_data"]:
            if row["width"]:
                factor = min(1.0, width / row["width"])
                factors[row["calibrated_sensor_token"]] = factor
                row["width"] = round(row["width"] * factor)
                row["height"] = round(row["height"] * factor)
                names.add(row["filename"])
        for row in self.rows["calibrated_sensor"]:
            if row["camera_intrinsic"]:
                factor = factors[row["token"]]
                upper, middle, lower = row["camera_intrinsic"]
                scaled = [[value * factor for value in line] for line in (upper, middle)]
                row["camera_intrinsic"] = [*scaled, lower]
        return names

    def _filter(self, name: str, wanted: Callable[[Row], bool]) -> None:
        self.rows[name] = [row for row in self.rows[name] if wanted(row)]

    def _keep_used(self, name: str, tokens: set[str]) -> None:
        self._filter(name, lambda row: row["token"] in tokens)

    def _grouped(self, name: str, link: str) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for row in self.rows[name]:
            found.setdefault(row[link], []).append(row)
        return found

    def _mend_chain(self, name: str) -> None:
        """Let chains end where their next record is gone; sweeps between two keyframes are."""
        rows = self.rows[name]
        if name == "sample_data":
            self._link_files()
            return
        tokens = {row["token"] for row in rows}
        for row in rows:
            for end in ("prev", "next"):
                if row[end] not in tokens:
                    row[end] = ""

    def _link_files(self) -> None:
        scene_of = {row["token"]: row["scene_token"] for row in self.rows["sample"]}
        chains: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows["sample_data"]:
            key = scene_of[row["sample_token"]], row["calibrated_sensor_token"]
            chains.setdefault(key, []).append(row)
        for chain in chains.values():
            chain.sort(key=lambda row: row["timestamp"])
            tokens = ["", *(row["token"] for row in chain), ""]
            for place, row in enumerate(chain):
                row["prev"], row["next"] = tokens[place], tokens[place + 2]


def _ends(chain: Sequence[Row], link: str) -> str:
    return next(row["token"] for row in chain if row[link] == "")


def _first(samples: Sequence[Any], seconds: float) -> Sequence[Any]:
    last_ns = samples[0].stamp_ns + seconds * 1e9 if samples else 0
    return [sample for sample in samples if sample.stamp_ns < last_ns]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _picture(path: Path, size: tuple[int, int], quality: int) -> bytes:
    out = io.BytesIO()
    with Image.open(path, formats=("JPEG",)) as image:
        small = image.resize(size, Image.Resampling.LANCZOS)
        small.save(out, "JPEG", quality=quality, optimize=True, progressive=True)
    return out.getvalue()


def _sweep(data: NuScenes, token: str, sample_token: str) -> bytes:
    lidar = next(name for name in data.sensors if name.startswith("lidar"))
    file = data.sample_data(lidar, sample_token)
    if file.token != token:
        raise DataError(
            "there is a file of neither a camera nor the LiDAR",
            field=token,
            remedy="give a drive of tailwire simulate",
        )
    payload: Any = data.read(file).payload
    return encode_sweep(payload, LIDAR.elevations_deg, LIDAR.columns)


def _questions(dataroot: Path, samples: set[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted((dataroot / FOLDER).glob("*.json")):
        document = json.loads(path.read_bytes())
        kept = [one for one in document["questions"] if one["sample_token"] in samples]
        found[f"{FOLDER}/{path.name}"] = _json({"info": document["info"], "questions": kept})
    return found


def _write(archive: Path, files: dict[str, bytes]) -> None:
    with (
        open_atomic(archive) as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as content,
    ):
        for name, data in files.items():
            info = zipfile.ZipInfo(name, _STAMP)
            info.external_attr = 0o644 << 16
            # JPEG files only grow.
            stored = name.endswith((".jpg", ".png"))
            info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            content.writestr(info, data, compresslevel=None if stored else 9)
