"""Back ends of one pack side by side: equal where they are, different where they are made to be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from tailwire.export.parity import Parity
from tailwire.export.portable.manifest import MANIFEST_NAME, ExportManifest, hashes_of
from tailwire.export.portable.self_check import write_known
from tailwire.parity import run_parity
from tailwire.runtime.errors import ConfigError, EngineError
from tailwire.runtime.questions import Question

from .exports import Exports, moments

if TYPE_CHECKING:
    from .built_models import TinyModels

QUESTIONS = (
    Question("Is there a bus behind me?", ("yes", "no")),
    Question("How many cars are there?", ("1", "2", "3")),
)


@pytest.fixture(scope="module")
def exports(
    export_cache: None, tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> Exports:
    return Exports(tiny, tmp_path_factory.mktemp("parity"), "conditioned")


def found(exports: Exports, backends: tuple[str, ...], folder: Path | None) -> list[Parity]:
    config = exports.config.model_copy(update={"precision": "fp32"})
    return run_parity(config, backends, moments, export=folder, questions=QUESTIONS, new_tokens=3)


STAGES = ["encoder camera", "encoder lidar", "head", "connection", "tail", "logits"]


def test_torch_is_no_reference(exports: Exports) -> None:
    """It has no encoders, so another is, wherever it stands in the list."""
    (torch,) = found(exports, ("torch", "onnx-cpu"), None)
    assert torch.backend == "torch" and list(torch.stages) == STAGES[2:]


def test_portable_graphs_and_torch_agree_with_the_tuned_engines(exports: Exports) -> None:
    backends = ("onnx-cpu", "onnx-portable", "torch")
    portable, torch = found(exports, backends, exports.get("fp32"))
    assert list(portable.stages) == STAGES and list(torch.stages) == STAGES[2:]
    assert torch.missing == STAGES[:2]
    for one in (portable, torch):
        for stage in one.stages.values():
            assert stage.largest <= 1e-3 * max(stage.spread, 1) and stage.values
        # Three moments with two questions; three tokens behind one question of each moment.
        assert one.same_best == 6 and one.same_few == one.few == 30
        assert one.same_tokens == one.tokens == 9
        assert one.same_answers == one.answers == 6


def test_rounding_is_seen_in_the_stage_where_it_happens(exports: Exports) -> None:
    folder = exports.get("fp32,connection=fp16")
    (one,) = found(exports, ("onnx-cpu", "onnx-portable"), folder)
    assert one.stages["head"].largest < 1e-5 and one.stages["tail"].largest < 1e-5
    assert 1e-5 < one.stages["connection"].largest < 0.1


def test_a_silently_wrong_graph_is_found(exports: Exports, tmp_path: Path) -> None:
    folder = tmp_path / "wrong"
    shutil.copytree(exports.get("fp32"), folder)
    path = folder / "encoders" / "lidar.onnx"
    model = onnx.load(str(path))
    kernel = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = -onnx.numpy_helper.to_array(kernel)
    kernel.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), kernel.name))
    location = {"location": "lidar.bin", "size_threshold": 1024}
    onnx.save_model(model, str(path), save_as_external_data=True, **location)
    # As if it had been exported so: nothing but the numbers tells.
    manifest = ExportManifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    write_known(folder, manifest.graphs, threads=1)
    manifest = manifest.model_copy(update={"files": hashes_of(folder)})
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    (one,) = found(exports, ("onnx-cpu", "onnx-portable"), folder)
    assert one.stages["encoder lidar"].largest > 0.1 > one.stages["tail"].largest


def test_an_export_of_another_pack_is_refused(
    exports: Exports, tiny: TinyModels, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Exports(tiny, tmp_path / "other", "plain")
    with pytest.raises(EngineError, match="not from what is here now"):
        found(exports, ("onnx-cpu", "onnx-portable"), other.get("fp32"))


@pytest.mark.parametrize(
    ("backends", "message"),
    [
        (("onnx-cpu",), "two different"),
        (("onnx-cpu", "onnx-cpu"), "two different"),
        (("onnx-cpu", "onnx-gpu"), "'onnx-gpu' is no back end"),
        (("onnx-cpu", "onnx-portable"), "none is named"),
    ],
)
def test_back_ends_that_cannot_be_compared(
    exports: Exports, backends: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        found(exports, backends, None)
