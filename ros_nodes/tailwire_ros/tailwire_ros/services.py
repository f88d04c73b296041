"""What the services of the node do: standing questions, budgets, packs, lessons.

Each takes a request and fills a response; a `TailwireError` becomes its message, never a crash.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailwire.runtime.config import DRIVING_PACK, shipped_pack
from tailwire.runtime.errors import ConfigError, PackError, TailwireError
from tailwire.runtime.pack import PackManifest, read_manifest
from tailwire.runtime.policies import POLICY_NAMES
from tailwire.runtime.questions import Question

from .conversion import budget_of
from .core import Core
from .settings import texts

if TYPE_CHECKING:
    from tailwire.runtime.runtime import Runtime


class Services:
    """Handlers of the node's services."""

    def __init__(
        self,
        core: Callable[[], Core | None],
        open_pack: Callable[[str], Runtime],
        folders: Callable[[], Sequence[str]],
        on_swapped: Callable[[str], None],
    ) -> None:
        """Be ready for requests.

        Args:
            core: the one that answers now; None while there is none.
            open_pack: opens a runtime like the present one, with another pack.
            folders: that hold packs.
            on_swapped: told the path of a pack that answers from now on.
        """
        self._core, self._open_pack = core, open_pack
        self._folders, self._on_swapped = folders, on_swapped
        #: Path or name of the pack that was loaded last.
        self.loaded = ""

    def watch(self, request: Any, response: Any) -> Any:
        """`Watch`."""

        def act() -> None:
            question = Question(request.question, texts(request.answers) or None)
            response.question_id = self._required().watch(question)

        return _done(response, act)

    def unwatch(self, request: Any, response: Any) -> Any:
        """`Unwatch`."""
        return _done(response, lambda: self._required().unwatch(request.question_id))

    def set_budget(self, request: Any, response: Any) -> Any:
        """`SetBudget`."""

        def act() -> None:
            core, limits = self._required(), request.budget
            try:
                budget = budget_of(
                    limits.flops, limits.memory_bytes, limits.latency_ms, limits.energy_mj
                )
            except ValueError as error:
                raise ConfigError(str(error)) from error
            if request.policy and request.policy not in POLICY_NAMES:
                raise ConfigError(
                    f"there is no policy '{request.policy}'",
                    field="policy",
                    remedy=f"use one of {', '.join(POLICY_NAMES)}",
                )
            core.set_budget(budget, request.policy)
            response.policy = core.runtime.policy

        return _done(response, act)

    def list_packs(self, request: Any, response: Any) -> Any:
        """`ListPacks`."""
        core = self._core()
        response.loaded = self.loaded if core is not None else ""
        for path in self._pack_folders():
            try:
                response.packs.append(pack_message(str(path), read_manifest(path)))
            except PackError as error:
                response.refused.append(str(error))
        return response

    def load_pack(self, request: Any, response: Any) -> Any:
        """`LoadPack`."""

        def act() -> None:
            core, begun_s = self._required(), time.monotonic()
            if not request.pack.strip():
                raise ConfigError("no pack is named", field="pack", remedy="see ListPacks")
            core.replace(lambda: self._open_pack(request.pack))
            self.loaded = request.pack
            response.load_s = time.monotonic() - begun_s
            self._on_swapped(request.pack)

        return _done(response, act)

    def teach(self, request: Any, response: Any) -> Any:
        """`Teach`."""

        def act() -> None:
            core = self._required()
            core.forget_if_silent()
            response.lessons = core.runtime.teach(
                request.question,
                request.answer,
                texts(request.answers) or None,
                block=request.block or None,
            )

        return _done(response, act)

    def _required(self) -> Core:
        core = self._core()
        if core is None:
            raise ConfigError(
                "the node is not configured", field="node", remedy="configure and activate it"
            )
        return core

    def _pack_folders(self) -> Iterable[Path]:
        shipped = shipped_pack(DRIVING_PACK)
        if shipped is not None:
            yield shipped
        for folder in texts(self._folders()):
            root = Path(folder).expanduser()
            candidates = [root, *sorted(root.iterdir())] if root.is_dir() else []
            yield from (path for path in candidates if (path / "pack.yaml").is_file())


def pack_message(path: str, manifest: PackManifest) -> Any:
    """`tailwire_msgs/PackInfo`."""
    from tailwire_msgs.msg import PackInfo

    return PackInfo(
        path=path,
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        trained=manifest.trained,
        base_model=manifest.base_model.name,
        sensors=[sensor.name for sensor in manifest.sensors],
        tail_blocks=manifest.tail_blocks,
        connection_sha256=manifest.files[manifest.connection.file].sha256,
    )


def _done(response: Any, act: Callable[[], None]) -> Any:
    try:
        act()
        response.success = True
    except TailwireError as error:
        response.success, response.message = False, str(error)
    except Exception as error:  # noqa: BLE001 - the client must hear of it, the node goes on
        response.success, response.message = False, f"{type(error).__name__}: {error}"
    return response
