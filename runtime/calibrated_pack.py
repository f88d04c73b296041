"""Puts a calibration table into a pack, beside the old one or in its place, so that a pack is whole
at every moment. What was measured of variants of the pack stays with it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from .calibration_table import CalibrationTable, read_calibration
from .errors import PackError
from .files import inside, open_atomic, write_atomic
from .measured_variants import MeasuredVariant
from .new_pack import check_target, new_pack
from .pack import MANIFEST_NAME, FileSpec, PackManifest, load_pack

CALIBRATION = "calibration.json"


def write_calibrated_pack(source: Path, folder: Path, table: CalibrationTable) -> None:
    """Write a pack with this table beside the one it comes from.

    Args:
        source: folder of the old pack.
        folder: to make.
        table: to put into it.

    Raises:
        ConfigError: the folder is there already.
        PackError: the old pack is broken.
        CacheError: the disk is full, or the folder cannot be written.
    """
    check_target(folder)
    old = load_pack(source).manifest
    with new_pack(folder) as aside:
        for name, spec in old.files.items():
            if spec.registry is None and name != old.calibration:
                target = inside(aside, name, error=PackError)
                with (
                    open_atomic(target) as file,
                    inside(source, name, error=PackError).open("rb") as there,
                ):
                    shutil.copyfileobj(there, file)
        _put(aside, old, _with_variants(source, old, table), CALIBRATION)
        load_pack(aside)


def calibrate_in_place(folder: Path, table: CalibrationTable) -> None:
    """Give a pack another table.

    The new table gets a name of its own, then the manifest names it, then the old one goes: whoever
    opens the pack in between, or after a power cut, finds a whole one.

    Raises:
        PackError: the pack is broken.
        CacheError: the disk is full, or the folder cannot be written.
    """
    old = load_pack(folder).manifest
    table = _with_variants(folder, old, table)
    content = table.to_json().encode()
    name = CALIBRATION
    if old.calibration == name:
        name = f"calibration-{hashlib.sha256(content).hexdigest()[:8]}.json"
    _put(folder, old, table, name)
    load_pack(folder)
    if old.calibration is not None and old.calibration != name:
        with suppress(OSError):
            inside(folder, old.calibration, error=PackError).unlink()


def note_variants(folder: Path, variants: Sequence[MeasuredVariant]) -> None:
    """Put into a pack what it gets right at other precisions, in place of what was known of it.

    Raises:
        PackError: the pack is broken.
        CacheError: the disk is full, or the folder cannot be written.
    """
    name = load_pack(folder).manifest.calibration
    table = CalibrationTable.of("no plans were measured", ())
    if name is not None:
        table = read_calibration(inside(folder, name, error=PackError))
    calibrate_in_place(folder, table.model_copy(update={"variants": tuple(variants)}))


def _with_variants(source: Path, old: PackManifest, table: CalibrationTable) -> CalibrationTable:
    """A new table with the variants of the old one, which are of the same weights."""
    if table.variants or old.calibration is None:
        return table
    before = read_calibration(inside(source, old.calibration, error=PackError))
    return table.model_copy(update={"variants": before.variants})


def _put(folder: Path, old: PackManifest, table: CalibrationTable, name: str) -> None:
    """Write the table, and behind it the manifest that names it."""
    content = table.to_json().encode()
    path = inside(folder, name, error=PackError)
    write_atomic(path, content)
    read_calibration(path)
    kept = {one: spec for one, spec in old.files.items() if one != old.calibration}
    kept[name] = FileSpec(sha256=hashlib.sha256(content).hexdigest())
    # In its old place, so that a manifest changes by one line.
    order = [name if one == old.calibration else one for one in old.files]
    files = {one: kept[one] for one in dict.fromkeys([*order, name])}
    manifest = old.model_copy(update={"files": files, "calibration": name})
    text = yaml.safe_dump(
        manifest.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
    )
    write_atomic(folder / MANIFEST_NAME, text)
