"""Files of head states: what was computed once is read again."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..runtime.adaptation.samples import HeadTexts
from ..runtime.errors import CacheError
from ..runtime.files import open_atomic

#: Texts of one file.
TEXTS_PER_FILE = 2000


class HeadStore:
    """Files of head states of one model and cut; each holds some texts."""

    def __init__(self, folder: Path | None, identity: str, wanted: Collection[str]) -> None:
        """Read what is there of these texts.

        Args:
            folder: of the files; None to keep states in memory alone.
            identity: of what computes them, and of the cut.
            wanted: keys of texts; files that hold none of them are left aside.

        Raises:
            CacheError: a file cannot be read.
        """
        self._folder, self._identity = folder, identity
        self._held: dict[str, NDArray[np.float16]] = {}
        found = [] if folder is None else folder.glob(f"heads-{identity}-*.safetensors")
        keys = frozenset(wanted)
        for path in sorted(found):
            try:
                self._read(path, keys)
            except (OSError, SafetensorError) as error:
                raise CacheError(
                    f"the head states cannot be read: {error}",
                    field=str(path),
                    remedy="remove the file; its texts are then computed again",
                ) from error

    def _read(self, path: Path, wanted: frozenset[str]) -> None:
        with safe_open(path, "np") as kept:
            keys = [key.tobytes().hex() for key in kept.get_tensor("keys")]
            if wanted.isdisjoint(keys):
                return
            offsets, states = kept.get_tensor("offsets"), kept.get_tensor("states")
        for number, key in enumerate(keys):
            if key in wanted:
                self._held[key] = states[offsets[number] : offsets[number + 1]]

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def add(self, keys: Sequence[str], states: Sequence[NDArray[np.float16]]) -> None:
        """Keep these, in another file."""
        self._held.update(zip(keys, states, strict=True))
        if self._folder is None or not keys:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
        content = {
            "keys": np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(len(keys), -1),
            "offsets": np.concatenate([[0], np.cumsum([len(one) for one in states])]),
            "states": np.concatenate(states),
        }
        with open_atomic(self._folder / f"heads-{self._identity}-{name}.safetensors") as file:
            file.write(save(content))

    def texts(self, keys: Sequence[str]) -> HeadTexts:
        """The states of these texts, in one array."""
        states = [self._held[key] for key in keys]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in states])])
        return HeadTexts(np.concatenate(states), offsets)


def key_of(text: Sequence[int]) -> str:
    """What a store knows a text by."""
    return hashlib.sha256(np.asarray(text, np.int32).tobytes()).hexdigest()[:32]
