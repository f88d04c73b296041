"""Learners of the adaptation benchmark, made ready: which weights a method begins with and trains.

The runs themselves are in `adaptation.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..export.checkpoint import Checkpoint
from ..export.starter_pack import initial_connection
from ..export.tail_weights import tail_weights
from ..runtime.adaptation.batches import padded_texts
from ..runtime.adaptation.connection_model import ConnectionModel
from ..runtime.adaptation.request import SensorChange
from ..runtime.adaptation.samples import HeadTexts
from ..runtime.adaptation.tail_model import TailModel
from ..runtime.connections import ConnectionSpec, weight_shapes
from ..training.device_heads import HeadFiles, device_head_texts
from .adaptation_data import BenchData, DeviceData
from .adaptation_learners import (
    HeadBlocks,
    InputLearner,
    Learner,
    PrefixLearner,
    TailLearner,
    Weights,
    layout_of,
    switched_names,
    switched_weights,
)
from .adaptation_plan import CHANGES, BenchSettings
from .adaptation_record import Row
from .boundary_start import leave_alone, moved_reading
from .input_level_methods import METHODS, PREFIX_METHODS
from .input_level_model import InputLevelModel
from .prefix_model import PrefixModel

#: Texts that the reading of questions is solved with, and whose mean query added blocks turn from.
_FITTED_TEXTS, _QUERY_TEXTS = 4000, 256


class BenchMethods:
    """Makes learners of one language model, one data set and one group of settings."""

    def __init__(
        self,
        data: BenchData,
        checkpoint: Checkpoint,
        settings: BenchSettings,
        on_device: DeviceData,
        base: Sequence[str],
        after: Mapping[str, Sequence[str]],
        tell: Callable[[str], None],
        start_blocks: int | None = None,
        heads: HeadFiles | None = None,
    ) -> None:
        """Read the language model.

        Args:
            data: to learn and to ask.
            checkpoint: of the language model.
            settings: of the rows.
            on_device: the data where they are learned.
            base: sensors by day.
            after: by change, the sensors behind it.
            tell: told what takes long.
            start_blocks: depth of the tail that the day's first weights were trained for, if any.
            heads: files that keep head states, if any.
        """
        self._data, self._checkpoint, self._settings = data, checkpoint, settings
        self._weights = tail_weights(checkpoint, checkpoint.config.num_blocks)
        self._embedding = checkpoint.embedding().dense()
        self._on_device, self._device = on_device, on_device.device
        self._base, self._after, self._tell = tuple(base), after, tell
        self._dtype = getattr(torch, settings.precision)
        self._start_blocks, self._files = start_blocks, heads
        self._heads: dict[int, HeadTexts] = {}
        #: Until the head states of all depths were there; None before.
        self.heads_seconds: float | None = None

    def by_day(self, method: str, weights: Weights) -> Learner:
        """With the sensors of the day and its weights, for looking at them."""
        if method in METHODS:
            return self.input_level(method, self._base, weights)
        spec = self.spec(self._depth(method))
        if method in PREFIX_METHODS:
            return self._prefix(method, spec, weights, frozenset())
        return self.tail_learner(spec, weights, None)

    def switching(
        self, method: str, change: str, day: Weights, head: HeadBlocks | None = None
    ) -> Learner:
        """What a change of sensors trains, from the weights of the day.

        Args:
            method: of the row.
            change: of sensors.
            day: weights of the day; those of the tail that ships where a prefix is trained.
            head: for tails, computes head states in every step.
        """
        settings = self._settings
        if method in METHODS:
            return self.input_level(method, self._after[change], day)
        # The LoRA of a whole model lies beside all its blocks, and is its own.
        rank = 0 if method in PREFIX_METHODS else settings.lora_rank
        spec = self.spec(self._depth(method)).model_copy(update={"lora_rank": rank})
        sensors = SensorChange(self._base, tuple(self._after[change]))
        weights = switched_weights(
            day,
            self._data,
            spec,
            self._weights.config,
            sensors,
            settings.seed,
            random=settings.coming == "random",
        )
        names = None
        if settings.switch_trains == "needed":
            names = switched_names(weights, self._data, sensors, CHANGES[change])
        if method in PREFIX_METHODS:
            return self._prefix(method, spec, weights, names)
        return self.tail_learner(spec, weights, names, head)

    def input_level(
        self, method: str, sensors: Sequence[str], day: Weights | None = None
    ) -> InputLearner:
        """A model with its sensors at the input, fresh or with the weights of its day."""
        model = InputLevelModel(
            self._weights,
            self._embedding,
            layout_of(self._data),
            next(one for one in METHODS if one == method),
            dtype=self._dtype,
            device=self._device,
            seed=self._settings.seed,
        )
        if day is not None:
            model.load_trained_state({n: torch.from_numpy(array) for n, array in day.items()})
            of = self._data.modalities
            serving = of[self._base[0]]
            for modality in {of[s] for s in sensors} - {of[s] for s in self._base}:
                # By day its projector was not trained, and is random still.
                if self._settings.coming == "like":
                    model.begin_modality(modality, serving)
        return InputLearner(model, self._on_device, sensors, self._settings.rates[method])

    def tail_learner(
        self,
        spec: ConnectionSpec,
        weights: Weights,
        trained: frozenset[str] | None,
        head: HeadBlocks | None = None,
    ) -> TailLearner:
        """A connection in front of a tail; `trained` names its weights, None for all."""
        depth = spec.tail_blocks
        return TailLearner(
            self.connection(spec, weights),
            self.tail(depth),
            self._on_device,
            self.states(depth),
            trained=trained,
            rate=self._settings.rates["tail"][0],
            head=head,
        )

    def _prefix(
        self, method: str, spec: ConnectionSpec, weights: Weights, trained: frozenset[str] | None
    ) -> PrefixLearner:
        model = PrefixModel(
            self._weights,
            self._embedding,
            next(one for one in PREFIX_METHODS if one == method),
            spec.tail_blocks,
            dtype=self._dtype,
            device=self._device,
            seed=self._settings.seed,
        )
        rates = self._settings.rates[method]
        connection = self.connection(spec, weights)
        return PrefixLearner(model, connection, self._on_device, trained=trained, rates=rates)

    def connection(self, spec: ConnectionSpec, weights: Weights) -> ConnectionModel:
        """With these weights."""
        data = self._data
        sizes, of = data.sizes, data.modalities
        # All tokens are objects, in no order.
        return ConnectionModel(spec, self._weights.config, sizes, of, weights, sizes)

    def tail(self, depth: int) -> TailModel:
        """The last blocks."""
        blocks = self._weights.blocks[-depth:]
        return TailModel(replace(self._weights, blocks=blocks), self._dtype, self._device)

    def head(self, depth: int) -> HeadBlocks:
        """The blocks before a tail."""
        whole = TailModel(self._weights, self._dtype, self._device)
        return HeadBlocks(whole, self._on_device.here(self._embedding), depth)

    def spec(self, depth: int) -> ConnectionSpec:
        """Of the connection by day."""
        s = self._settings
        return ConnectionSpec.model_validate(
            {
                "kind": "conditioned" if s.kind == "conditioned" else "plain",
                "per_block": s.kind == "per-block",
                "tail_blocks": depth,
                "width": s.width,
                "layers": s.layers,
                "heads": s.heads,
            }
        )

    def fresh(self, spec: ConnectionSpec) -> dict[str, NDArray[np.float32]]:
        """Weights of a connection that was never trained."""
        data = self._data
        shapes = weight_shapes(spec, self._weights.config, data.sizes, data.modalities)
        weights = initial_connection(shapes, self._settings.seed)
        for name in weights:
            if name.startswith("sensor."):
                weights[name][:] = 0
        return weights

    def moved(self, spec: ConnectionSpec, weights: Weights) -> tuple[Weights, Row]:
        """The start, moved to this depth where it was trained for another one.

        Args:
            spec: of the connection that is wanted.
            weights: of the start, fitted to its shapes (`fitted_start`).

        Returns:
            The weights, as they are where the depth is the same or the kind reads no question, and
            what a row tells of the move: `moved_from` and `reading_explained`, the share of what
            the start read of questions that is read here.
        """
        earlier, depth = self._start_blocks, spec.tail_blocks
        if spec.kind != "conditioned" or earlier in (None, depth):
            return weights, {}
        prepared, here = self._data.prepared, self.states(depth)
        learned = np.unique(prepared.train.text)
        # Scenes that are held out ask some of the same questions.
        others = np.setdiff1d(prepared.held_out.text, learned)
        fitted = np.random.default_rng(self._settings.seed).permutation(learned)[:_FITTED_TEXTS]
        reading = moved_reading(weights, self.states(earlier), here, fitted, others)
        made = {**weights, **reading.weights}
        if depth > earlier:
            states = torch.from_numpy(here.states)
            padded, lengths = padded_texts(states, here.offsets, fitted[:_QUERY_TEXTS])
            queries = self.tail(depth).mean_queries(
                padded.to(self._device), lengths.to(self._device)
            )
            kv_heads = self._weights.config.num_kv_heads
            made = leave_alone(made, depth - earlier, queries, kv_heads)
        return made, {"moved_from": earlier, "reading_explained": reading.explained}

    def states(self, depth: int) -> HeadTexts:
        """Cached head states of all texts."""
        if not self._heads:
            self._tell("head states of all texts")
            begun = time.perf_counter()
            depths = {*self._settings.depths, self._settings.ships, self._start_blocks or depth}
            texts = self._data.prepared.texts
            self._heads = device_head_texts(
                *(self._checkpoint, texts, sorted(depths), self._device),
                lambda done, total: self._tell(f"head states: {done} of {total} texts"),
                self._files,
            )
            self.heads_seconds = time.perf_counter() - begun
        return self._heads[depth]

    def _depth(self, method: str) -> int:
        return self._settings.ships if method in PREFIX_METHODS else depth_of(method)


def depth_of(method: str) -> int:
    """Of the tail that a method is named for."""
    return int(method.removeprefix("tail-"))
