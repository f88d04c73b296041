"""The starter pack: whole, honest about being untrained, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tailwire.export.starter_pack import initial_connection, make_starter_pack
from tailwire.runtime.connections import ConnectionSpec, weight_shapes
from tailwire.runtime.files import sha256_of
from tailwire.runtime.model_config import LanguageModelConfig
from tailwire.runtime.pack import Pack, check_base_model, load_pack
from tailwire.runtime.questions import Question

from ..llama_sizes import llama_sizes

CAMERA = "c" * 64


def config(num_blocks: int = 30) -> LanguageModelConfig:
    return llama_sizes(num_blocks=num_blocks, num_kv_heads=1)


def make(
    folder: Path,
    *,
    chat: bool = True,
    blocks: int = 30,
    connection: ConnectionSpec | None = None,
    seed: int = 0,
) -> Pack:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = make_starter_pack(
        folder,
        model_name="tiny",
        model_config=config(blocks),
        chat=chat,
        camera_sha256=CAMERA,
        connection=connection,
        seed=seed,
    )
    pack = load_pack(folder)
    assert pack.manifest == manifest
    return pack


CONDITIONED = ConnectionSpec(kind="conditioned", tail_blocks=8, width=32, layers=1, heads=2)


@pytest.mark.parametrize("connection", [None, CONDITIONED], ids=["plain", "conditioned"])
def test_it_is_a_whole_pack_that_says_it_is_untrained(
    tmp_path: Path, connection: ConnectionSpec | None
) -> None:
    pack = make(tmp_path, connection=connection)
    manifest = pack.manifest
    assert manifest.trained is False
    assert "ntrained" in manifest.description
    check_base_model(manifest, config(), "tiny")
    assert len(manifest.sensors) == 7
    assert [s.name for s in manifest.sensors if s.encoder == "lidar"] == ["lidar_top"]
    assert manifest.tail_blocks <= manifest.connection.tail_blocks <= 30
    for name, file in manifest.files.items():
        if file.registry is None:
            assert sha256_of(tmp_path / name) == file.sha256
        else:
            assert (file.registry, file.sha256) == ("efficientnet-lite0", CAMERA)
    assert not list(tmp_path.glob("*.p*t*h"))
    assert len(manifest.questions) == 5
    for question in manifest.questions:
        assert Question(question.text, question.answers).answers


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make(tmp_path / name, seed=seed)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    for name in names:
        first, same, other = ((tmp_path / folder / name).read_bytes() for folder in "abc")
        assert first == same
        assert first != other


def test_prompts_follow_the_model(tmp_path: Path) -> None:
    chat = make(tmp_path / "chat").manifest.prompt
    plain = make(tmp_path / "plain", chat=False).manifest.prompt
    assert chat.render("Is it?").endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert chat.answer_prefix == ""
    # Behind "answer:" an answer begins with a space, which byte-level tokens carry.
    assert plain.render("Is it?") == "question: Is it? answer:"
    assert plain.answer_prefix == " "


@pytest.mark.parametrize("blocks", [1, 4, 12, 22, 40])
def test_small_models_get_a_tail_that_they_have(tmp_path: Path, blocks: int) -> None:
    manifest = make(tmp_path, blocks=blocks).manifest
    assert manifest.connection.tail_blocks == min(22, blocks)
    assert manifest.tail_blocks == min(10, blocks)


@pytest.mark.parametrize("kind", ["plain", "conditioned"])
def test_weights_to_start_training_from(kind: str) -> None:
    spec = ConnectionSpec(
        kind=kind,  # pyright: ignore[reportArgumentType]
        tail_blocks=12,
        width=160,
    )
    shapes = weight_shapes(spec, config(), {"lidar": (4, 320)}, {"lidar_top": "lidar"})
    weights = initial_connection(shapes, 0)
    assert {name: array.shape for name, array in weights.items()} == shapes
    for name, array in weights.items():
        assert array.dtype == np.float32
        if name.startswith("gate."):
            assert np.abs(array).max() < 1  # mPnP-LLM: uniform in (-1, 1) before the sigmoid
            assert len(np.unique(array)) == len(array)
        elif ".norm" in name:
            assert (array == (0 if name.endswith(".b") else 1)).all()
        elif array.ndim == 1:
            assert not array.any()
        elif not name.startswith(("sensor.", "summary")):
            assert array.std() == pytest.approx(array.shape[0] ** -0.5, rel=0.1)
