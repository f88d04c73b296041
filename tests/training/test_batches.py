"""What a batch holds, and the same batch in a mirror."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training is in torch")

import torch

from tailwire.kernels.object_tokens import mirrored_rows, object_tokens
from tailwire.runtime.adaptation.batches import Batches
from tailwire.runtime.adaptation.samples import HeadTexts, Mirror, Samples, TrainingData
from tailwire.training.question_samples import mirrored_text

from ..kernels.test_object_tokens import some

SENSORS = {"cam_left": "cam_right", "cam_right": "cam_left", "lidar": "lidar"}


def data() -> TrainingData:
    rng = np.random.default_rng(0)
    tokens = {
        sensor: np.stack([object_tokens(some(count, seed), 6) for count in (2, 5, 0)])
        for seed, sensor in enumerate(SENSORS)
    }
    matches = {
        sensor: np.where(rows.any(-1), np.arange(6), -1).astype(np.int16)
        for sensor, rows in tokens.items()
    }
    heads = HeadTexts(rng.normal(size=(7, 4)).astype(np.float16), np.array([0, 2, 3, 7]))
    bits = np.packbits(np.eye(3, 128, dtype=np.uint8)[:, None].repeat(3, 1), axis=-1)
    samples = Samples(
        np.array([0, 1, 2], np.int32),
        np.array([2, 1, 0], np.int32),
        *[np.zeros(3, np.int32)] * 3,
        certain=bits,
        possible=np.zeros_like(bits),
    )
    mirror = Mirror(np.array([1, 0, 2], np.int32), SENSORS, *mirrored_rows())
    return TrainingData(tokens, heads, [(1, 2)], samples, samples, ["all"], matches, mirror)


def test_texts_are_padded_with_zeros() -> None:
    given = data()
    states, lengths = Batches(given, torch.device("cpu")).texts(np.array([2, 1, 0]))
    assert lengths.tolist() == [4, 1, 2]
    expected = np.zeros((3, 4, 4), np.float32)
    for row, (start, stop) in enumerate([(3, 7), (2, 3), (0, 2)]):
        expected[row, : stop - start] = given.heads.states[start:stop]
    np.testing.assert_array_equal(states.numpy(), expected)


def test_rows_that_no_moment_fills_are_left_out() -> None:
    given = data()
    batches = Batches(given, torch.device("cpu"))
    rows = batches.tokens(np.array([0, 2]), ["lidar"])["lidar"]
    np.testing.assert_array_equal(rows.numpy(), given.tokens["lidar"][[0, 2], :2])
    assert batches.rows(np.array([0, 1, 2])).tolist() == [6, 15, 0]


def test_rows_are_wanted_where_their_object_is_meant() -> None:
    given = data()
    batches = Batches(given, torch.device("cpu"))
    tokens = batches.tokens(given.train.moment, ["cam_left", "lidar"])
    targets = batches.row_targets(given.train, tokens)
    assert targets is not None
    wanted, counted = targets
    assert wanted.shape == counted.shape == (3, 3, 10)
    # Sample 0 means object 0, sample 1 object 1; the third has no rows at all.
    assert wanted.sum(-1).tolist() == [[2.0] * 3, [2.0] * 3, [0.0] * 3]
    assert np.flatnonzero(wanted[1, 0].numpy()).tolist() == [1, 6]
    assert counted[:, 0].sum(-1).tolist() == [4.0, 10.0, 0.0]


def test_in_a_mirror_each_sensor_has_what_its_partner_saw() -> None:
    given = data()
    batches = Batches(given, torch.device("cpu"))
    tokens = batches.tokens(np.array([1]), ["cam_left", "lidar"], mirrored=True)
    columns, signs = mirrored_rows()
    for sensor, source in (("cam_left", "cam_right"), ("lidar", "lidar")):
        expected = given.tokens[source][1:2, :5][..., columns] * signs
        np.testing.assert_array_equal(tokens[sensor].numpy(), expected)


def test_words_in_a_mirror() -> None:
    assert mirrored_text("Left of the front right car?") == "Left of the front left car?"
    assert mirrored_text("the back left one to our right") == "the back right one to our left"
