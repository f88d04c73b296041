"""What a dataroot must look like before its tables are trusted: version, sensors, file names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ...runtime.errors import DataError
from .tables import Table

REPLAYED = ("camera", "lidar")
MODALITIES = (*REPLAYED, "radar")


def find_version(dataroot: Path, version: str | None) -> str:
    """The name of the folder of tables.

    Args:
        dataroot: the folder that holds it.
        version: None takes the only `v1.0-*` folder there is.

    Raises:
        DataError: there is no such folder, no version or more than one.
    """
    if not dataroot.is_dir():
        raise DataError("the dataroot is no folder", field=str(dataroot), remedy="check the path")
    found = sorted(path.name for path in dataroot.glob("v1.0-*") if path.is_dir())
    if version is None:
        if len(found) != 1:
            problem = (
                f"the versions {', '.join(found)} are here"
                if found
                else ("there is no v1.0-* folder of tables here")
            )
            remedy = (
                "name the version to open"
                if found
                else ("give the folder that holds v1.0-mini, v1.0-trainval or the like")
            )
            raise DataError(problem, field=str(dataroot), remedy=remedy)
        version = found[0]
    elif not (dataroot / version).is_dir():
        raise DataError(
            f"the version {version} is not here; found: {', '.join(found) or 'none'}",
            field=str(dataroot),
            remedy="name a version that is here, or unpack its metadata archive",
        )
    return version


def check_sensors(sensor: Table, names: Sequence[str], calibrated: Table) -> None:
    """Refuse unknown modalities, channels that differ in case alone, cameras without a matrix.

    Raises:
        DataError: naming table, record and field.
    """
    for row, modality in enumerate(sensor.texts["modality"]):
        if modality not in MODALITIES:
            sensor.fail(row, "modality", f"{modality!r} is none of {', '.join(MODALITIES)}")
        if names[row] in names[:row]:
            sensor.fail(row, "channel", f"two sensors have the channel {names[row].upper()}")
    for row, sensor_row in enumerate(calibrated.rows["sensor_token"].tolist()):
        is_camera = sensor.texts["modality"][sensor_row] == "camera"
        if is_camera and calibrated.intrinsics["camera_intrinsic"][row] is None:
            calibrated.fail(row, "camera_intrinsic", "a camera needs a 3x3 matrix, this is empty")


def check_filenames(data: Table) -> None:
    """Refuse names that lead out of the dataroot.

    The check is of the name alone: folders of the dataroot may be links to another disk, and
    often are.
    """
    for row, name in enumerate(data.texts["filename"]):
        # Cheap tests first: there are millions of names, and all but a few have no two dots.
        climbs = ".." in name and ".." in PurePosixPath(name).parts
        if not name or name[0] == "/" or climbs or "\0" in name:
            data.fail(row, "filename", f"{name!r} is no path inside the dataroot")
