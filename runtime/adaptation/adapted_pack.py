"""Writes a pack with other connection weights beside the one it came from, never over it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save

from ..connections import ConnectionSpec
from ..errors import PackError
from ..files import inside, open_atomic, write_atomic
from ..new_pack import new_pack
from ..pack import MANIFEST_NAME, FileSpec, PackManifest, load_pack

Weights = Mapping[str, NDArray[np.float32]]


def adapted_manifest(
    pack: PackManifest,
    spec: ConnectionSpec,
    weights: Weights,
    tail_blocks: int,
    suffix: str,
) -> tuple[PackManifest, bytes]:
    """Manifest and connection file of a pack with other connection weights.

    Args:
        pack: that it comes from.
        spec: of the new connection.
        weights: of the new connection.
        tail_blocks: depth used when none is asked for.
        suffix: what changed; stands behind the version.
    """
    content = save({name: np.ascontiguousarray(array) for name, array in weights.items()})
    file = FileSpec(sha256=hashlib.sha256(content).hexdigest())
    # What the old weights got right says nothing of the new ones.
    # Parts cannot be given back from weights that have learned on.
    used = {name for one in pack.encoders.values() for name in one.files}
    used |= {one.file for one in pack.text}
    dropped = set() if pack.composition is None else pack.composition.files - used
    kept = {n: one for n, one in pack.files.items() if n not in dropped | {pack.calibration}}
    changes = {
        "version": f"{pack.version}+{suffix}",
        "trained": True,
        "connection": spec,
        "tail_blocks": tail_blocks,
        "files": {**kept, spec.file: file},
        "calibration": None,
        "composition": None,
    }
    return pack.model_copy(update=changes), content


def write_adapted_pack(
    source: Path, folder: Path, manifest: PackManifest, connection: bytes
) -> None:
    """Write the new pack aside, check it as `load_pack` does, and give it its name.

    Args:
        source: folder of the old pack.
        folder: of the new one.
        manifest: of the new one.
        connection: content of its connection file.

    Raises:
        ConfigError: the folder is there already.
        PackError: a file of the old pack was changed meanwhile.
        CacheError: the disk is full, or the folder cannot be written.
    """
    with new_pack(folder, "adapted pack") as aside:
        for name, spec in manifest.files.items():
            if spec.registry is None and name != manifest.connection.file:
                _copy(inside(source, name, error=PackError), inside(aside, name, error=PackError))
        with open_atomic(inside(aside, manifest.connection.file, error=PackError)) as file:
            file.write(connection)
        text = yaml.safe_dump(
            manifest.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
        )
        write_atomic(aside / MANIFEST_NAME, text)
        load_pack(aside)


def _copy(source: Path, target: Path) -> None:
    with open_atomic(target) as file, source.open("rb") as old:
        shutil.copyfileobj(old, file)
