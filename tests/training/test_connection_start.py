"""Weights that connections start from, and figures per question."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training is in torch")

from tailwire.runtime.adaptation.samples import Samples
from tailwire.runtime.connections import ConnectionSpec, weight_shapes
from tailwire.runtime.errors import ConfigError
from tailwire.runtime.pack import BaseModelSpec
from tailwire.simulation.questions.baselines import Baselines
from tailwire.simulation.questions.items import QaItem
from tailwire.training.connection_scores import held_out_scores
from tailwire.training.connection_start import start_weights
from tailwire.training.prepared_data import HeldOut

BASE = BaseModelSpec(name="tiny", hidden_size=8, num_blocks=4, num_kv_heads=1, head_dim=4)


def shapes(width: int = 8, *modalities: str, kind: str = "conditioned"):
    spec = ConnectionSpec.model_validate(
        {"kind": kind, "tail_blocks": 2, "width": width, "layers": 1, "heads": 2, "hidden": 6}
    )
    sizes = dict.fromkeys(modalities, (3, 5))
    return weight_shapes(spec, BASE, sizes, {f"{name}_1": name for name in modalities})


@pytest.mark.parametrize("kind", ["conditioned", "plain"])
def test_modalities_that_were_not_there_begin_as_objects(kind: str) -> None:
    earlier = start_weights(shapes(8, "objects", kind=kind), ["objects"], 1)
    wanted = shapes(8, "camera", "objects", kind=kind)
    made = start_weights(wanted, ["camera", "objects"], 2, earlier)
    assert {name: w.shape for name, w in made.items()} == wanted
    for name, weight in earlier.items():
        if not name.startswith("sensor."):
            np.testing.assert_array_equal(made[name], weight)
        other = name.replace("objects", "camera")
        np.testing.assert_array_equal(made[other], weight)
    assert not made["sensor.camera_1"].any()


def test_weights_of_another_width_are_refused() -> None:
    earlier = start_weights(shapes(8, "objects"), ["objects"], 1)
    with pytest.raises(ConfigError, match=r"--from: .* is .*8.* would be .*4"):
        start_weights(shapes(4, "objects"), ["objects"], 1, earlier)


def test_a_question_is_right_if_all_its_decisions_are() -> None:
    def item(text: str, answer: str, kind: str) -> QaItem:
        return QaItem("token", text, answer, kind, 0, "val")

    items = [item("a?", "yes", "exist"), item("b?", "bus", "object"), item("c?", "no", "exist")]
    train = [item("a?", "yes", "exist"), item("z?", "bus", "object")]
    known = HeldOut(
        items, np.array([0, 1, 1, 2]), ["day", "fog", "day"], Baselines.fit(train).predict(items)
    )
    zeros = np.zeros(4, np.int32)
    samples = Samples(zeros, zeros, zeros, zeros, zeros)
    right = {"camera": [True, True, False, True], "lidar": [True, True, True, False]}
    scores = held_out_scores(
        lambda _, sensors: np.array(right[sensors[0]]),
        samples,
        known,
        [["camera"], ["lidar"]],
        9,
        0,
    )
    camera, lidar = scores["sensor_sets"]
    assert camera["accuracy"] == pytest.approx(2 / 3)
    assert camera["by_type"] == {"exist": 1.0, "object": 0.0}
    assert camera["by_condition"] == {"day": 1.0, "fog": 0.0}
    assert lidar["by_type"] == {"exist": 0.5, "object": 1.0}
    assert scores["blind"]["accuracy"] >= scores["majority"]["accuracy"] == pytest.approx(2 / 3)
