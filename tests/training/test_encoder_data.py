"""Pictures of several drives as examples: which features and which split they get."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="training is in torch")

from tailwire.runtime.encoder_inputs import image_of
from tailwire.runtime.encoder_specs import CameraInput
from tailwire.runtime.engine import TensorSpec
from tailwire.training.encoder_data import CAMERA_SENSORS, camera_examples
from tailwire.training.moments import moments_of

from ..quick_drives import quick_drive

SPEC = CameraInput(height=32, width=64)


class Averages:
    """A backbone whose features are averages of the picture's channels."""

    runs = 0
    input_specs = ()
    device = "cpu"
    output_specs = tuple(
        TensorSpec(f"at{stride}", (-1, 3, 32 // stride, 64 // stride), "float32")
        for stride in (8, 16, 32)
    )

    def run(self, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        self.runs += 1
        image = inputs["image"]
        return {
            spec.name: np.broadcast_to(
                image.mean((2, 3), keepdims=True), (len(image), *spec.shape[1:])
            )
            for spec in self.output_specs
        }

    def bind(self, buffers: object) -> None:
        raise NotImplementedError

    def close(self) -> None: ...


def test_pictures_are_dealt_by_scene_and_features_kept(tmp_path: Path) -> None:
    roots = [quick_drive(tmp_path / "one", 2), quick_drive(tmp_path / "two", 3, seed=8)]
    moments = moments_of(roots)
    backbone = Averages()
    told: list[tuple[int, int]] = []
    train, held_out = camera_examples(
        moments,
        backbone,  # pyright: ignore[reportArgumentType] - as far as it is used
        SPEC,
        tmp_path / "cache",
        "averages",
        lambda done, count: told.append((done, count)),
    )
    split = {"train": 0, "val": 0}
    for moment in moments:
        split[moment.split] += len(CAMERA_SENSORS)
    assert (len(train), len(held_out)) == (split["train"], split["val"])
    assert told[-1] == (len(moments) * 6,) * 2
    # The first held-out picture of the second drive.
    place = 6 * sum(m.split == "val" and m.data is moments[0].data for m in moments)
    moment = next(m for m in moments if m.split == "val" and m.data is not moments[0].data)
    frame = moment.data.read(moment.data.sample_data(CAMERA_SENSORS[0], moment.token))
    inputs, _ = held_out.batch([place], None)
    expected = image_of(frame, SPEC).mean((1, 2))
    np.testing.assert_allclose(inputs[0][0, :, 0, 0].numpy(), expected, atol=2e-3)

    before = backbone.runs
    camera_examples(moments, backbone, SPEC, tmp_path / "cache", "averages")  # pyright: ignore[reportArgumentType]
    assert backbone.runs == before
