"""What answers at a moment, as one value, so that all of it changes between two frames at once."""

from __future__ import annotations

from dataclasses import dataclass

from .connections import Connection
from .errors import ConfigError
from .pack import PackManifest


@dataclass(frozen=True)
class Serving:
    """What a runtime answers with.

    Attributes:
        connection: its weights.
        sensors: switched on, in the pack's order.
        tail_blocks: depth of the tail.
        pack: named by answers.
    """

    connection: Connection
    sensors: tuple[str, ...]
    tail_blocks: int
    pack: PackManifest


def check_swap(old: Connection, new: Connection) -> None:
    """Refuse a connection whose shape differs in more than its LoRA.

    Raises:
        ConfigError: it does.
    """
    own = {"lora_rank": old.spec.lora_rank, "lora_parts": old.spec.lora_parts}
    same_lora = new.spec.model_copy(update=own)
    names = [{name for name in one.weights if not name.startswith("lora.")} for one in (old, new)]
    if same_lora != old.spec or names[0] != names[1]:
        raise ConfigError(
            "the connection is of another shape than the loaded one",
            field="connection",
            remedy="make it with with_weights() of the loaded one, or load another pack",
        )
