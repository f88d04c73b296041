"""Composed connections in training and adaptation: the same function, and packs that stay whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.export.compose import CompositionRequest, compose, write_composition
from tailwire.export.compose_parts import open_parts
from tailwire.runtime.adaptation.adapted_pack import adapted_manifest, write_adapted_pack
from tailwire.runtime.adaptation.initial_weights import with_rank
from tailwire.runtime.connections import Connection
from tailwire.runtime.pack import Pack, load_pack

from ...composed import TAIL, random_change, write_part
from ...fakes import make_connection

if TYPE_CHECKING:
    from ...built_models import TinyModels

pytest.importorskip("torch", reason="what is trained is in torch")

from tailwire.runtime.adaptation.connection_model import ConnectionModel


@pytest.fixture
def pack(tiny: TinyModels, tmp_path: Path) -> Pack:
    config = tiny.model("llama").config
    parts = [
        write_part(tmp_path / name, config, name, text=random_change(config, (4,)))
        for name in ("camera", "lidar")
    ]
    request = CompositionRequest(weights={"camera": 0.25, "lidar": 0.75})
    write_composition(tmp_path / "both", compose(open_parts(parts, None), request))
    return load_pack(tmp_path / "both")


@pytest.fixture
def connection(tiny: TinyModels, tmp_path: Path, pack: Pack) -> Connection:
    spec, config = pack.manifest.connection, tiny.model("llama").config
    (tmp_path / "engine").mkdir()
    return make_connection(tmp_path / "engine", spec, config, pack.connection_weights)


def test_training_goes_through_the_lora_as_its_parts_count(
    tiny: TinyModels, pack: Pack, connection: Connection
) -> None:
    manifest = pack.manifest
    encoders = {name: (spec.tokens, spec.width) for name, spec in manifest.encoders.items()}
    model = ConnectionModel(
        manifest.connection,
        tiny.model("llama").config,
        encoders,
        manifest.sensor_encoders,
        pack.connection_weights,
    )
    branches, lora = model.low_rank(), connection.lora(TAIL)
    assert branches is not None and lora is not None
    for at, (key_a, key_b, value_a, value_b) in enumerate(lora.blocks.values()):
        for side, a, b in (("key", key_a, key_b), ("value", value_a, value_b)):
            mine = [factor.detach().numpy() for factor in branches[at, side]]
            np.testing.assert_allclose(mine[0] @ mine[1], a @ b, atol=1e-6)


def test_a_larger_rank_begins_as_the_same_function(connection: Connection) -> None:
    larger = with_rank(with_rank(connection, 6, seed=0), 9, seed=0)
    assert [(part.name, part.rank) for part in larger.spec.lora_parts] == [
        ("camera", 2),
        ("lidar", 2),
        ("added", 2),
        ("added1", 3),
    ]
    before, after = connection.lora(TAIL), larger.lora(TAIL)
    assert before is not None and after is not None
    for block, (key_a, key_b, value_a, value_b) in before.blocks.items():
        grown = after.blocks[block]
        np.testing.assert_allclose(grown[0] @ grown[1], key_a @ key_b, atol=1e-6)
        np.testing.assert_allclose(grown[2] @ grown[3], value_a @ value_b, atol=1e-6)


def test_an_adapted_pack_is_whole_and_says_nothing_of_parts(
    tmp_path: Path, pack: Pack, connection: Connection
) -> None:
    polished = with_rank(connection, 6, seed=0)
    manifest, content = adapted_manifest(
        pack.manifest, polished.spec, polished.weights, TAIL, "polished"
    )
    write_adapted_pack(pack.folder, tmp_path / "adapted", manifest, content)
    adapted = load_pack(tmp_path / "adapted")
    assert adapted.manifest.composition is None
    assert not [name for name in adapted.manifest.files if name.endswith("pack.yaml")]
    # What it changes in the language model is there as before.
    mine, theirs = adapted.text_change(), pack.text_change()
    assert mine is not None and theirs is not None
    for place in theirs.places:
        np.testing.assert_array_equal(mine.dense(place), theirs.dense(place))
