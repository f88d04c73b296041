"""The published form of composition in torch, against transformers with hooks in its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.export.checkpoint import open_checkpoint
from tailwire.export.folded_checkpoint import FoldedCheckpoint
from tailwire.export.input_level import (
    AFFIXES,
    TEXT,
    Connector,
    InputLevelModelParts,
    compose_input_level,
    folded_branches,
    read_input_level,
    write_input_level,
)
from tailwire.export.tail_weights import tail_weights
from tailwire.runtime.errors import ConfigError, PackError
from tailwire.runtime.low_rank import LowRankChange, join
from tailwire.runtime.model_config import LanguageModelConfig

from ..composed import random_change

if TYPE_CHECKING:
    from ..built_models import TinyModels

pytest.importorskip("torch", reason="the model is in torch")

import torch

from tailwire.runtime.adaptation.attention import attend
from tailwire.runtime.adaptation.tail_model import TailModel
from tailwire.training.decoupled_model import DecoupledModel

Float = NDArray[np.float32]
WIDTH = 7
BASE = "a" * 64
TOKENS = {
    name: np.random.default_rng(i).normal(size=(3 + i, WIDTH)).astype(np.float32)
    for i, name in enumerate(("camera", "lidar", "radar"))
}
NAMES = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def one_modality(
    config: LanguageModelConfig, name: str, strategy: str = "decoupled"
) -> InputLevelModelParts:
    seed = sorted(TOKENS).index(name)
    rng = np.random.default_rng([seed, 7])
    hidden = config.hidden_size
    sizes = {"w1": (WIDTH, hidden), "b1": (hidden,), "w2": (hidden, hidden), "b2": (hidden,)}
    sizes |= {"prefix": (AFFIXES, hidden), "suffix": (AFFIXES, hidden)}
    arrays = {n: rng.normal(0, 0.2, size).astype(np.float32) for n, size in sizes.items()}
    blocks = tuple(range(config.num_blocks))
    text = random_change(config, blocks, seed=10 + seed)
    own = random_change(config, blocks, seed=20 + seed) if strategy == "decoupled" else text
    return InputLevelModelParts(
        BASE,
        "decoupled" if strategy == "decoupled" else "single",
        {name: Connector(**arrays)},
        {name: own, TEXT: text},
    )


def model_of(
    tiny: TinyModels,
    parts: InputLevelModelParts,
    fold: bool = False,
    family: str = "llama",
) -> DecoupledModel:
    checkpoint: Any = open_checkpoint(tiny.folder(family))
    embedding = checkpoint.embedding().dense()
    branches = None
    if fold:
        checkpoint = FoldedCheckpoint(checkpoint, parts.branches[TEXT])
        branches = folded_branches(parts)
    weights = tail_weights(checkpoint, checkpoint.config.num_blocks)
    return DecoupledModel(weights, embedding, parts, branches=branches)


def pieces(*names: str, ids: Sequence[int] = (11, 12, 13, 60)) -> list[tuple[str, Any]]:
    return [
        *((name, torch.from_numpy(TOKENS[name])) for name in names),
        (TEXT, torch.tensor(list(ids))),
    ]


def answer(model: DecoupledModel, *names: str) -> Float:
    with torch.no_grad():
        return model.answers([pieces(*names)]).numpy()


class Routed:
    """transformers with the branch of each token's type added behind its linear layers."""

    def __init__(self, model: Any, kinds: Sequence[str], branches: Mapping[str, LowRankChange]):
        self._model, self._kinds, self._branches = model, kinds, branches

    def __enter__(self) -> None:
        self._handles = [
            layer.get_submodule(NAMES[projection]).register_forward_hook(
                self._hook((block, projection))
            )
            for block, layer in enumerate(self._model.model.layers)
            for projection in NAMES
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, place: Any) -> Any:
        def add(_: Any, inputs: Any, output: Any) -> Any:
            added = output.clone()
            for at, kind in enumerate(self._kinds):
                if place in self._branches[kind].factors:
                    change = torch.from_numpy(self._branches[kind].dense(place))
                    added[0, at] += inputs[0][0, at] @ change
            return added

        return add


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("method", ["damc", "naive"])
def test_it_is_transformers_with_branches_by_type(
    tiny: TinyModels, family: str, method: Any
) -> None:
    config = tiny.model(family).config
    strategy = "decoupled" if method == "damc" else "single"
    parts = [one_modality(config, name, strategy) for name in ("camera", "lidar")]
    whole = compose_input_level(parts, method)
    made = model_of(tiny, whole, family=family)
    reference = tiny.reference(family).model
    content = pieces("lidar", "camera")
    with torch.no_grad():
        states, _ = made.states([content])
        logits = states[0] @ made.rows_of(range(config.vocab_size)).T
        rows, numbers = made.sequence(content)
        kinds = [made.types[int(number)] for number in numbers]
        if method == "damc":
            text = join([(0.5, part.branches[TEXT]) for part in parts])
            branches = {part.modalities[0]: part.branches[part.modalities[0]] for part in parts}
            branches |= {TEXT: text}
        else:
            branches = dict.fromkeys(
                made.types, join([(0.5, part.branches[TEXT]) for part in parts])
            )
        with Routed(reference, kinds, branches):
            expected = reference(inputs_embeds=rows[None]).logits[0]
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=5e-4)


def test_one_hot_weights_and_one_modality_are_the_single_model(tiny: TinyModels) -> None:
    config = tiny.model("llama").config
    parts = [one_modality(config, name) for name in ("camera", "lidar", "radar")]
    alone = answer(model_of(tiny, parts[1]), "lidar")
    whole = model_of(tiny, compose_input_level(parts, weights=(0.0, 1.0, 0.0)))
    np.testing.assert_array_equal(answer(whole, "lidar"), alone)
    assert np.abs(answer(whole, "lidar", "radar") - alone).max() > 0.01


def test_order_of_parts_does_not_matter(tiny: TinyModels) -> None:
    config = tiny.model("llama").config
    parts = [one_modality(config, name) for name in ("camera", "lidar", "radar")]
    one = answer(model_of(tiny, compose_input_level(parts)), "camera", "radar")
    two = answer(model_of(tiny, compose_input_level(parts[::-1])), "camera", "radar")
    np.testing.assert_array_equal(one, two)


def test_a_part_that_is_added_leaves_the_branches_of_the_others(tiny: TinyModels) -> None:
    config = tiny.model("llama").config
    parts = [one_modality(config, name) for name in ("camera", "lidar", "radar")]
    two, three = compose_input_level(parts[:2]), compose_input_level(parts)
    for name in ("camera", "lidar"):
        assert three.branches[name] is two.branches[name] is parts_of(parts, name).branches[name]
        assert three.connectors[name] is two.connectors[name]


def parts_of(parts: Sequence[InputLevelModelParts], name: str) -> InputLevelModelParts:
    return next(part for part in parts if name in part.connectors)


@pytest.mark.parametrize("method", ["damc", "naive"])
def test_folded_equals_unfolded(tiny: TinyModels, method: Any) -> None:
    config = tiny.model("llama").config
    strategy = "decoupled" if method == "damc" else "single"
    parts = [one_modality(config, name, strategy) for name in ("camera", "lidar")]
    whole = compose_input_level(parts, method)
    beside, folded = model_of(tiny, whole), model_of(tiny, whole, fold=True)
    for names in ((), ("camera",), ("lidar", "camera")):
        np.testing.assert_allclose(answer(beside, *names), answer(folded, *names), atol=5e-5)
    # Nothing is left beside a token of text, which is all that is decoded.
    assert not any(name.startswith(f"{TEXT}/") for name in folded.branches)


def test_a_batch_answers_as_its_inputs_alone(tiny: TinyModels) -> None:
    config = tiny.model("llama").config
    whole = compose_input_level([one_modality(config, name) for name in ("camera", "lidar")])
    model = model_of(tiny, whole)
    inputs = [pieces("camera"), pieces("camera", "lidar", ids=(5, 6)), pieces()]
    with torch.no_grad():
        together = model.answers(inputs)
        alone = torch.cat([model.answers([one]) for one in inputs])
    np.testing.assert_allclose(together.numpy(), alone.numpy(), atol=1e-5)


def test_questions_behind_one_input_are_answered_as_each_alone(tiny: TinyModels) -> None:
    config = tiny.model("llama").config
    whole = compose_input_level([one_modality(config, name) for name in ("camera", "lidar")])
    model = model_of(tiny, whole)
    inputs = [pieces("camera")[:-1], pieces("camera", "lidar")[:-1], pieces()[:-1]]
    asked = [[(5, 6, 7), (9,)], [(8, 4)], [(3, 3), (5, 6, 7)]]
    with torch.no_grad():
        each = model.answers_each(
            inputs, [[torch.tensor(ids) for ids in some] for some in asked]
        ).numpy()
        alone = [
            model.answers([[*content, (TEXT, torch.tensor(ids))]]).numpy()
            for content, some in zip(inputs, asked, strict=True)
            for ids in some
        ]
    np.testing.assert_allclose(each, np.concatenate(alone), atol=1e-5)


def test_side_by_side_each_modality_lies_where_it_lies_alone(tiny: TinyModels) -> None:
    config = tiny.model("llama").config
    whole = compose_input_level([one_modality(config, name) for name in ("camera", "lidar")])
    model = model_of(tiny, whole)
    one, both = [pieces("lidar")[:-1]], [pieces("camera", "lidar")[:-1]]
    asked = [[torch.tensor([5, 6])]]
    keys: list[torch.Tensor] = []

    def told(query: Any, key: Any, value: Any, bias: Any) -> Any:
        keys.append(key)
        return attend(query, key, value, bias)

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("tailwire.training.decoupled_model.attend", told)
        for content in (one, both):
            model.answers_each(content, asked, side_by_side=True)
    # Of the first block, whose keys know nothing of other tokens: lidar's, and those of the text.
    first, second = keys[0], keys[config.num_blocks]
    text, lidar = 2, len(TOKENS["lidar"]) + 2 * AFFIXES
    np.testing.assert_allclose(first[:, :, :lidar], second[:, :, -lidar - text : -text], atol=1e-5)
    np.testing.assert_allclose(first[:, :, -text:], second[:, :, -text:], atol=1e-5)


def test_the_tail_goes_on_from_states_that_enter_it(tiny: TinyModels) -> None:
    """Without modality tokens, from the states that the blocks before leave."""
    checkpoint = open_checkpoint(tiny.folder("llama"))
    config = checkpoint.config
    whole = tail_weights(checkpoint, config.num_blocks)
    parts = [one_modality(config, name) for name in ("camera", "lidar")]
    composed = compose_input_level(parts)
    below = {
        name: LowRankChange({at: f for at, f in one.factors.items() if at[0] < 2})
        for name, one in composed.branches.items()
    }
    tail = DecoupledModel(
        tail_weights(checkpoint, 2),
        None,
        InputLevelModelParts(BASE, "decoupled", composed.connectors, below),
    )
    ids = torch.tensor([5, 6, 7])
    plain = TailModel(whole, torch.float32)
    with torch.no_grad():
        rows = torch.from_numpy(checkpoint.embedding().dense())[ids][None]
        entering = plain.streams(rows, torch.tensor([3]), [config.num_blocks - 2])[0][0]
        # Branches of text are there, so they are left out on both sides.
        for parameter in tail.branches.values():
            parameter.zero_()
        made = tail.answers([[(TEXT, entering)]])
        expected = plain(rows, torch.tensor([3]), None)
    np.testing.assert_allclose(made.numpy(), expected.numpy(), atol=1e-4)
    with pytest.raises(ConfigError, match="no embedding"):
        tail.answers([[(TEXT, ids)]])


def test_only_what_an_input_uses_has_gradients(tiny: TinyModels) -> None:
    config = tiny.model("llama").config
    model = model_of(
        tiny, compose_input_level([one_modality(config, n) for n in ("camera", "lidar")])
    )
    model.answers([pieces("camera")]).sum().backward()
    used = {
        n.split("/")[0] for n, p in model.branches.items() if p.grad is not None and p.grad.any()
    }
    assert used == {"camera", TEXT}
    assert all(parameter.grad is None for n, parameter in model.named_parameters() if "qkv" in n)


@pytest.mark.parametrize("strategy", ["decoupled", "single"])
def test_files_give_back_what_was_written(tiny: TinyModels, tmp_path: Path, strategy: str) -> None:
    parts = one_modality(tiny.model("llama").config, "radar", strategy)
    trained = model_of(tiny, parts).trained_parts()
    write_input_level(tmp_path / "radar.safetensors", trained)
    again = read_input_level(tmp_path / "radar.safetensors")
    assert (again.base_sha256, again.strategy) == (BASE, strategy)
    for name, branch in parts.branches.items():
        for place in branch.places:
            np.testing.assert_array_equal(again.branches[name].dense(place), branch.dense(place))
    for name, array in parts.connectors["radar"].arrays().items():
        np.testing.assert_array_equal(getattr(again.connectors["radar"], name), array)
    assert (again.branches["radar"] is again.branches[TEXT]) == (strategy == "single")


def test_parts_that_do_not_fit_are_refused(tiny: TinyModels, tmp_path: Path) -> None:
    config = tiny.model("llama").config
    camera, lidar = (one_modality(config, name) for name in ("camera", "lidar"))
    single = one_modality(config, "lidar", "single")
    other = InputLevelModelParts("b" * 64, "decoupled", lidar.connectors, lidar.branches)
    for parts, method, weights, field in (
        ([camera], "damc", None, "parts"),
        ([camera, single], "damc", None, "method"),
        ([camera, lidar], "naive", None, "method"),
        ([camera, other], "damc", None, "base_sha256"),
        ([camera, camera], "damc", None, "modality"),
        ([camera, lidar], "damc", [0.5], "weights"),
        ([camera, lidar], "damc", [0.5, float("nan")], "weights"),
    ):
        with pytest.raises(ConfigError) as caught:
            compose_input_level(parts, method, weights)  # pyright: ignore[reportArgumentType]
        assert caught.value.field == field
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"no file of weights")
    with pytest.raises(PackError, match="cannot be read"):
        read_input_level(path)
