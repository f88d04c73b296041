"""Tokens, keys and values that stay on the device between engines: equal to the way by the host.

Stand-ins for TensorRT and PyCUDA, with the kernels' bodies compiled for the CPU; every copy between
host and device is written down. Nothing here says what a GPU does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tailwire import open_runtime
from tailwire.runtime.backends.device_arrays import DeviceArrays, DeviceTensor
from tailwire.runtime.backends.tensorrt_context import TensorRtContext
from tailwire.runtime.kv_prefix import KvPrefix, join_rows
from tailwire.runtime.plans import Answer

from .detector_packs import frames
from .exports import Exports
from .fake_tensorrt import FakeDriver, FakeGraphs, FakeStreams, FakeTensorRt

if TYPE_CHECKING:
    from tailwire.runtime.config import RuntimeConfig
    from tailwire.runtime.model_config import LanguageModelConfig

    from .built_models import TinyModels

QUESTIONS = (
    ("Is there a bus behind me?", ("yes", "no")),
    ("How many moving cars are there in front?", ("0", "1", "2")),
)


@pytest.fixture(scope="module", params=["conditioned", "plain"])
def exports(
    request: pytest.FixtureRequest,
    export_cache: None,
    tiny: TinyModels,
    tmp_path_factory: pytest.TempPathFactory,
) -> Exports:
    return Exports(tiny, tmp_path_factory.mktemp(f"on-device-{request.param}"), request.param)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    monkeypatch.setattr("tailwire.kernels.cuda_arrays.compile_kernel", lambda name, *_: Path(name))
    FakeStreams.capturing.clear()
    yield FakeDriver()
    FakeStreams.capturing.clear()


def config_of(exports: Exports) -> RuntimeConfig:
    folder = exports.get("fp32", "tensorrt")
    return exports.config.model_copy(update={"backend": "tensorrt", "engines": str(folder)})


def opened(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> TensorRtContext:
    context = TensorRtContext(FakeTensorRt(driver), driver)
    context.graphs = FakeGraphs(driver, context.stream)
    monkeypatch.setattr("tailwire.tensorrt_store.open_context", lambda: context)
    return context


def asked(
    exports: Exports, driver: FakeDriver, rounds: int = 2
) -> tuple[list[list[Answer]], LanguageModelConfig, int, list[tuple[str, tuple[int, ...]]]]:
    """Answers round by round, the model, tokens of all questions, copies of the newest round."""
    with open_runtime(config_of(exports)) as runtime:
        for text, allowed in QUESTIONS:
            runtime.watch(text, allowed)
        answers: list[list[Answer]] = []
        for number in range(rounds):
            runtime.forget_frames()
            driver.copies.clear()
            driver.launched.clear()
            answers.append(runtime.step(frames(number)))
        copies = list(driver.copies)
        assert runtime.engines_on_cpu == {}
        heads = [runtime.prepare(text, allowed).head for text, allowed in QUESTIONS]
        texts = sum(len(head.token_ids) for head in heads)
        return answers, runtime.model.config, texts, copies


def test_tails_of_two_exports_share_the_device(
    exports: Exports, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, contexts = opened(driver, monkeypatch), list[TensorRtContext]()

    def open_context() -> TensorRtContext:
        contexts.append(context)
        return context

    monkeypatch.setattr("tailwire.tensorrt_store.open_context", open_context)
    further = exports.get("fp32,tail=fp16", "tensorrt")
    config = config_of(exports).model_copy(update={"tail_engines": {"int8": str(further)}})
    with open_runtime(config) as runtime:
        (text, allowed), _ = QUESTIONS
        own, other = runtime.model, runtime.parts.model_at("int8")
        asked = runtime.prepare(text, allowed)
        runtime.answer([asked], frames(0))
        rows = runtime.parts.perception.rows(["lidar_top"], runtime.connection)
        depth = runtime.tail_blocks
        prefix = runtime.connection.connect(rows, [asked.head], depth)
        lora = runtime.connection.lora(depth)
        first, second = (
            np.asarray(model.tail([asked.head], prefix, depth, lora).final)
            for model in (own, other)
        )
        assert np.abs(first - second).max() > 0
        np.testing.assert_allclose(first, second, atol=0.05)
        assert runtime.engines_on_cpu == {}
    # One stream: what the engines of one export wrote, those of the other one read behind it.
    assert len(contexts) == 1


def test_answers_are_those_of_the_way_by_the_host(
    exports: Exports, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(driver, monkeypatch)
    found, *_, copies = asked(exports, driver, 3)
    assert {"token_states", "token_rows", "prefix_pack"} <= set(driver.launched)
    by_host = opened(driver, monkeypatch)
    by_host.arrays = None
    wanted, *_, by_host_copies = asked(exports, driver, 3)
    for one, other in zip(found, wanted, strict=True):
        for answer, right in zip(one, other, strict=True):
            assert answer.text == right.text and set(answer.sensors) == set(right.sensors)
            assert answer.confidence == pytest.approx(right.confidence, abs=1e-4)
    assert driver.launched == [] and len(by_host_copies) > len(copies)


def test_neither_tokens_nor_keys_and_values_are_copied(
    exports: Exports, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(driver, monkeypatch)
    config, texts, copies = asked(exports, driver)[1:]
    sizes = config.num_kv_heads, config.head_dim
    keys = [(way, shape) for way, shape in copies if (shape[1:2], shape[3:]) == _ends(*sizes)]
    # Answers of several tokens run through the head's blocks too, whose keys are of text alone.
    assert all(way == "in" and shape[2] == texts for way, shape in keys)
    # Five tokens of each sensor; fewer rows than questions have tokens, more than one state has.
    assert not [shape for _, shape in copies if len(shape) > 1 and 3 <= shape[-2] <= 10]
    # What each token is, one number of each, comes instead.
    states = [shape for way, shape in copies if way == "out" and len(shape) == 2]
    assert states == [(1, 5), (1, 5)]


def _ends(heads: int, size: int) -> tuple[tuple[int], tuple[int]]:
    return (heads,), (size,)


def test_an_engine_that_gives_numbers_which_are_not_finite_is_still_found(
    exports: Exports, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(driver, monkeypatch)
    with open_runtime(config_of(exports)) as runtime:
        states = DeviceArrays.token_states

        def broken(self: DeviceArrays, tokens: DeviceTensor) -> Any:
            if tokens.states is None:
                array = np.array(tokens)
                array.reshape(-1)[3] = np.nan
                with self._context.active():
                    self._context.send(tokens.memory, array)
            return states(self, tokens)

        monkeypatch.setattr(DeviceArrays, "token_states", broken)
        answer = runtime.ask(frames(), *QUESTIONS[0])
    assert set(answer.dropped) == {"cam_front", "lidar_top"} and not answer.sensors
    assert "not finite" in answer.dropped["cam_front"]


def test_any_thread_may_ask(
    exports: Exports, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(driver, monkeypatch)
    found: list[Answer] = []
    with open_runtime(config_of(exports)) as runtime:
        wanted = runtime.ask(frames(), *QUESTIONS[0])
        runtime.forget_frames()
        thread = threading.Thread(target=lambda: found.append(runtime.ask(frames(), *QUESTIONS[0])))
        thread.start()
        thread.join()
    assert found[0].text == wanted.text and not found[0].dropped


def test_free_text_reads_what_it_needs(
    exports: Exports, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tailwire.runtime.questions import Question

    question = Question("What is there?", max_new_tokens=3)
    opened(driver, monkeypatch)
    with open_runtime(config_of(exports)) as runtime:
        found = runtime.ask(frames(), question)
    opened(driver, monkeypatch).arrays = None
    with open_runtime(config_of(exports)) as runtime:
        assert runtime.ask(frames(), question).text == found.text


def test_a_device_that_fills_up_between_engines_goes_on_on_the_cpu(
    exports: Exports, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = opened(driver, monkeypatch)
    with open_runtime(config_of(exports)) as runtime:
        wanted = runtime.ask(frames(), *QUESTIONS[0])
        runtime.forget_frames()
        original = DeviceArrays.pack

        def full(self: DeviceArrays, *arguments: Any) -> Any:
            # The connection still ran on the device; the tail finds it full.
            made = original(self, *arguments)
            context.trt.workspace, driver.room = 1 << 20, driver.used
            return made

        monkeypatch.setattr(DeviceArrays, "pack", full)
        found = runtime.ask(frames(), *QUESTIONS[0])
        on_cpu = runtime.engines_on_cpu
    assert found.text == wanted.text
    assert found.confidence == pytest.approx(wanted.confidence, abs=1e-3)
    assert any(name.startswith("blocks") for name in on_cpu) and "camera.onnx" not in on_cpu


class TestArrays:
    @pytest.fixture
    def arrays(self, driver: FakeDriver) -> DeviceArrays:
        found = TensorRtContext(FakeTensorRt(driver), driver).arrays
        assert found is not None
        return found

    def test_memory_is_handed_out_again(self, arrays: DeviceArrays, driver: FakeDriver) -> None:
        first = arrays.empty((100, 3))
        address, used = first.address, driver.used
        del first
        again = arrays.empty((90, 3))
        assert again.address == address and driver.used == used
        arrays._context.give_back()
        assert driver.used == used
        del again
        arrays._context.give_back()
        assert driver.used == 0

    def test_a_part_holds_the_whole(self, arrays: DeviceArrays) -> None:
        values = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
        whole = arrays.sent(values)
        part, row, inner = whole[1:3], whole[2], whole[:, 1:2]
        del whole
        for one, wanted in ((part, values[1:3]), (row, values[2]), (inner, values[:, 1:2])):
            assert one.shape == wanted.shape
            np.testing.assert_array_equal(np.asarray(one), wanted)

    def test_prefixes_that_lie_side_by_side_are_joined_where_they_lie(
        self, arrays: DeviceArrays, driver: FakeDriver
    ) -> None:
        values = np.random.default_rng(0).normal(size=(2, 3, 8, 4)).astype(np.float32)
        keys: Any = arrays.sent(values)
        cuts = [slice(0, 5), slice(5, 8)]
        prefixes = [KvPrefix((0, 1), keys[:, :, cut], keys[:, :, cut]) for cut in cuts]
        driver.copies.clear()
        assert join_rows(prefixes).keys is keys and driver.copies == []
        turned = join_rows(prefixes[::-1])
        wanted = np.concatenate([values[:, :, 5:], values[:, :, :5]], axis=2)
        np.testing.assert_array_equal(turned.keys, wanted)

    def test_what_is_constant_is_sent_once_as_long_as_it_lives(
        self, arrays: DeviceArrays, driver: FakeDriver
    ) -> None:
        weights = np.ones((5, 4), np.float32)
        first = arrays.kept(weights)
        assert arrays.kept(weights) is first and len(driver.copies) == 1
        del weights
        assert arrays._kept == {}


def test_without_kernels_everything_goes_by_the_host(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> Path:
        raise RuntimeError("no nvcc was found")

    monkeypatch.setattr("tailwire.kernels.cuda_arrays.compile_kernel", none)
    context = TensorRtContext(FakeTensorRt(driver), driver)
    assert context.arrays is None and "nvcc" in context.no_arrays
