"""A few steps of training in a process of its own: how much memory they take, and how long.

What is learned is made at random in the sizes of a task, since values change neither. One process
for each method, as what one leaves behind would count for the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runtime.errors import TailwireError
from ..runtime.metrics import (
    PEAK_MEMORY_METHOD,
    begin_peak,
    peak_memory_bytes,
    peak_since_begin,
    resident_memory_bytes,
)
from ..runtime.process_memory import trim
from .paper_costs import PaperTask

if TYPE_CHECKING:
    from .adaptation_data import BenchData
    from .adaptation_learners import Learner

METHOD = (
    "Each method trains a few steps in a fresh process. peak_bytes: the kernel's VmHWM, set back "
    "before weights are read, above what was resident then (Python, torch and token data); it "
    "covers reading the weights. step_peak_bytes: likewise, set back before the first step. "
    f"process_peak_bytes: {PEAK_MEMORY_METHOD}. samples_per_s: of the median step behind the "
    "first. Nothing is answered meanwhile, and head states are there already."
)


@dataclass(frozen=True)
class TrainingSettings:
    """How it is measured.

    Attributes:
        steps: counted ones, behind one that is not.
        threads: of torch.
        precision: of products, `bfloat16` or `float32`.
    """

    steps: int
    threads: int
    precision: str


def measure_training(
    task: PaperTask,
    methods: Sequence[str],
    settings: TrainingSettings,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, Any]]:
    """Train some steps with each method.

    Args:
        task: sizes of what is learned.
        methods: of `paper_costs.sample_table`.
        settings: of all.
        progress: told what is done.

    Returns:
        By method what `METHOD` says, or `failed` and why: a process that the system killed for
        its memory is no reason to lose the others.
    """
    found: dict[str, dict[str, Any]] = {}
    context = get_context("spawn")
    for method in methods:
        progress(f"training {method}, {settings.steps + 1} steps")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(theirs, task, method, settings))
        process.start()
        theirs.close()
        try:
            found[method] = ours.recv()
        except EOFError:
            process.join()
            found[method] = {"failed": f"the process ended with code {process.exitcode}"}
        finally:
            process.join()
            ours.close()
    return found


def _run(answer: Pipe, task: PaperTask, method: str, settings: TrainingSettings) -> None:
    try:
        answer.send(train_some(task, method, settings))
    except (TailwireError, MemoryError, RuntimeError) as error:
        answer.send({"failed": f"{type(error).__name__}: {error}"})
    finally:
        answer.close()


def train_some(task: PaperTask, method: str, settings: TrainingSettings) -> dict[str, Any]:
    """Train some steps here and now; see `METHOD`."""
    import torch

    from .adaptation_runs import RunSettings, timed_steps

    torch.set_num_threads(settings.threads)
    data = task_data(task)
    trim()
    before, has_peak = resident_memory_bytes(), begin_peak()
    learner, device_data = build_learner(task, method, settings.precision, data)
    peak = peak_since_begin() if has_peak else None
    has_peak = begin_peak()
    run = RunSettings(settings.steps, task.batch, 0)
    samples = data.prepared.train
    begun = time.perf_counter()
    seconds = timed_steps(learner, device_data, samples, task.sensors, run, warm_up=1)
    in_steps = peak_since_begin() if has_peak else None
    known = before is not None and peak is not None and in_steps is not None
    return {
        "peak_bytes": max(peak or 0, in_steps or 0) - (before or 0) if known else None,
        "step_peak_bytes": (in_steps or 0) - (before or 0) if known else None,
        "process_peak_bytes": peak_memory_bytes(),
        "step_seconds": [round(one, 4) for one in seconds],
        "samples_per_s": task.batch / float(np.median(seconds)),
        "seconds": round(time.perf_counter() - begun, 2),
        "trained_weights": sum(p.numel() for group, _ in learner.rates for p in group),
        "step_flops": learner.step_flops(samples, task.sensors),
    }


def task_data(task: PaperTask) -> BenchData:
    """One batch to learn, at random, in the sizes of the task."""
    from ..runtime.adaptation.samples import Samples
    from ..training.prepared_data import HeldOut, PreparedData
    from .adaptation_data import BenchData

    rng = np.random.default_rng(0)
    tokens: dict[str, Any] = {}
    for sensor in task.sensors:
        rows, width = task.sizes[task.modalities[sensor]]
        made = rng.standard_normal((task.moments, rows, width)).astype(np.float16)
        for moment, filled in enumerate(task.filled[sensor]):
            made[moment, filled:] = 0
        tokens[sensor] = made
    vocabulary = task.config.vocab_size
    texts = [tuple(rng.integers(0, vocabulary, length).tolist()) for length in task.texts]
    choice = tuple(range(task.answers))
    places, zeros = np.arange(task.batch, dtype=np.int32), np.zeros(task.batch, np.int32)
    target = rng.integers(0, task.answers, task.batch).astype(np.int32)
    train = Samples(places % task.moments, places % len(texts), zeros, target, zeros)
    prepared = PreparedData(
        tokens=tokens,
        matches={s: np.full(rows.shape[:2], -1, np.int16) for s, rows in tokens.items()},
        conditions=["day"] * task.moments,
        texts=texts,
        mirrored=np.arange(len(texts), dtype=np.int32),
        choices=[choice],
        groups=["all"],
        train=train,
        held_out=train.take(slice(0, 0)),
        known=HeldOut([], np.zeros(0, np.int64), [], {}),
        origin={},
    )
    return BenchData(prepared, {s: task.modalities[s] for s in task.sensors})


def build_learner(
    task: PaperTask, method: str, precision: str, data: BenchData
) -> tuple[Learner, Any]:
    """A method ready to be trained, and the data where it learns.

    Args:
        task: sizes.
        method: of `paper_costs.sample_table`.
        precision: of products.
        data: of `task_data`.
    """
    import torch

    from ..export.checkpoint import open_checkpoint
    from ..export.starter_pack import initial_connection
    from ..export.tail_weights import tail_weights
    from ..runtime.adaptation.connection_model import ConnectionModel
    from ..runtime.adaptation.samples import HeadTexts
    from ..runtime.adaptation.tail_model import TailModel
    from ..runtime.connection_specs import weight_shapes
    from .adaptation_data import DeviceData
    from .adaptation_learners import InputLearner, PrefixLearner, TailLearner, layout_of
    from .adaptation_plan import RATES
    from .input_level_methods import METHODS, PREFIX_METHODS, Method, PrefixMethod
    from .input_level_model import InputLevelModel
    from .prefix_model import PrefixModel

    device, dtype = torch.device("cpu"), getattr(torch, precision)
    here = DeviceData(data, device)
    checkpoint = open_checkpoint(task.checkpoint)
    way: Method | None = next((one for one in METHODS if one == method), None)
    if way is not None:
        weights = tail_weights(checkpoint, task.config.num_blocks)
        embedding = checkpoint.embedding().dense()
        model = InputLevelModel(weights, embedding, layout_of(data), way, dtype=dtype)
        return InputLearner(model, here, task.sensors, RATES[way]), here
    prefix: PrefixMethod | None = next((one for one in PREFIX_METHODS if one == method), None)
    spec = task.prefix_spec if prefix else task.spec_of(int(method.removeprefix("tail-")))
    depth, sizes, of = spec.tail_blocks, data.sizes, data.modalities
    shapes = weight_shapes(spec, task.config, sizes, of)
    connection = ConnectionModel(spec, task.config, sizes, of, initial_connection(shapes, 0), sizes)
    trained = task.trained_of(spec) & shapes.keys()
    if prefix is not None:
        weights = tail_weights(checkpoint, task.config.num_blocks)
        embedding = checkpoint.embedding().dense()
        whole = PrefixModel(weights, embedding, prefix, depth, dtype=dtype)
        rates = RATES[prefix]
        return PrefixLearner(whole, connection, here, trained=trained, rates=rates), here
    tail = TailModel(tail_weights(checkpoint, depth), dtype, device)
    offsets = np.concatenate([[0], np.cumsum(task.texts)])
    rng = np.random.default_rng(1)
    states = rng.standard_normal((int(offsets[-1]), task.config.hidden_size)).astype(np.float16)
    heads = HeadTexts(states, offsets)
    learner = TailLearner(connection, tail, here, heads, trained=trained, rate=RATES["tail"][0])
    return learner, here
