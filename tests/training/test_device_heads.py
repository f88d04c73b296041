"""Head states computed by torch against those of the engines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire.export.checkpoint import open_checkpoint
from tailwire.runtime.adaptation.samples import HeadTexts
from tailwire.runtime.adaptation.text_states import packed_states
from tailwire.runtime.errors import CacheError

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="training is in torch")

from tailwire.training import device_heads
from tailwire.training.device_heads import HeadFiles, device_head_texts

TEXTS = ((11, 12, 13, 14), (201, 45, 7, 80, 9, 31, 5, 6, 77), (100,))


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_they_are_what_engines_compute(tiny: TinyModels, kind: str) -> None:
    checkpoint = open_checkpoint(tiny.folder(kind))
    model = tiny.model(kind)
    blocks = checkpoint.config.num_blocks
    stops = [group.stop for group, _ in model.groups if group.stop < blocks]
    assert stops
    depths = [blocks - stop for stop in stops]
    found = device_head_texts(checkpoint, TEXTS, depths, "cpu")
    for depth, states in zip(depths, packed_states(model, TEXTS, stops), strict=True):
        np.testing.assert_array_equal(found[depth].offsets, [0, 4, 13, 14])
        np.testing.assert_allclose(found[depth].states, states, rtol=2e-3, atol=2e-3)


def test_files_keep_what_was_computed(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, files = open_checkpoint(tiny.folder("llama")), HeadFiles(tmp_path, "a" * 64)
    wanted = device_head_texts(checkpoint, TEXTS, (2, 3), "cpu")
    monkeypatch.setattr(device_heads, "TEXTS_PER_FILE", 2)
    assert_equal(device_head_texts(checkpoint, TEXTS, (2, 3), "cpu", files=files), wanted)
    assert len(list(tmp_path.iterdir())) == 4  # two cuts, two texts in a file

    computed: list[int] = []
    heads = device_heads.Heads.__call__

    def counted(self: device_heads.Heads, texts: Sequence[Sequence[int]]) -> Any:
        computed.append(len(texts))
        return heads(self, texts)

    monkeypatch.setattr(device_heads.Heads, "__call__", counted)
    told: list[tuple[int, int]] = []
    again = device_head_texts(
        *(checkpoint, TEXTS[::-1], (3,), "cpu"), lambda *done: told.append(done), files
    )
    assert not computed and not told
    np.testing.assert_array_equal(again[3].offsets, [0, 1, 10, 14])
    np.testing.assert_array_equal(again[3].states[10:], wanted[3].states[:4])
    # A text that is new, a cut that is new, another model.
    device_head_texts(
        *(checkpoint, (*TEXTS, (7, 8)), (2,), "cpu"), lambda *done: told.append(done), files
    )
    assert computed == [1] and told == [(4, 4)]
    device_head_texts(checkpoint, TEXTS, (2, 4), "cpu", files=files)
    assert sum(computed) == 1 + 3
    device_head_texts(checkpoint, TEXTS, (2,), "cpu", files=files._replace(model_sha256="b" * 64))
    assert sum(computed) == 1 + 3 + 3


def test_an_interrupted_run_goes_on_behind_its_last_file(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, files = open_checkpoint(tiny.folder("llama")), HeadFiles(tmp_path, "a" * 64)
    monkeypatch.setattr(device_heads, "TEXTS_PER_FILE", 1)

    def interrupted(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device_head_texts(checkpoint, TEXTS, (2,), "cpu", interrupted, files)
    told: list[tuple[int, int]] = []
    found = device_head_texts(
        checkpoint, TEXTS, (2,), "cpu", lambda *done: told.append(done), files
    )
    assert told == [(2, 3), (3, 3)]
    assert_equal(found, device_head_texts(checkpoint, TEXTS, (2,), "cpu"))


def test_a_broken_file_is_named(tiny: TinyModels, tmp_path: Path) -> None:
    checkpoint, files = open_checkpoint(tiny.folder("llama")), HeadFiles(tmp_path, "a" * 64)
    device_head_texts(checkpoint, TEXTS, (2,), "cpu", files=files)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CacheError, match="cannot be read") as raised:
        device_head_texts(checkpoint, TEXTS, (2,), "cpu", files=files)
    assert raised.value.field == str(path) and "remove" in str(raised.value)


def assert_equal(found: dict[int, HeadTexts], wanted: dict[int, HeadTexts]) -> None:
    assert found.keys() == wanted.keys()
    for depth, states in wanted.items():
        np.testing.assert_array_equal(found[depth].offsets, states.offsets)
        # Texts that are computed beside others differ in the last bit.
        np.testing.assert_allclose(found[depth].states, states.states, rtol=2e-3, atol=2e-3)
