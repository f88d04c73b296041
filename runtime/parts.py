"""What a runtime is made of, and what its frames cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .backends.with_spare import Spares
from .connections import Connection
from .cost import ConnectionCost, LanguageModelCost
from .errors import ConfigError, SensorError
from .frame_cost import EncoderCost, FrameCost
from .language_model import LanguageModel
from .model_config import Precision
from .pack import PackManifest
from .perception import Perception
from .plan_costs import PlanFormulas
from .scheduler import Policy, UtilityModel

if TYPE_CHECKING:
    from .adaptation.tail_weights import TailWeights


@dataclass
class RuntimeParts:
    """Loaded engines and weights.

    Attributes:
        model: the language model.
        pack: what the rest was loaded from.
        perception: encoders of all sensors.
        connection: the only part that may be exchanged while the runtime runs.
        policy: decides what a frame runs.
        encoder_flops: of one frame, by encoder.
        tail_weights: reads the last blocks of the language model, for adaptation; None where they
            are not to be had.
        pack_folder: where the pack lies, None if nowhere.
        utility: how often plans are right; None where the pack is not calibrated, or nobody asked
            yet.
        fit_utility: makes it of the pack's calibration, which takes a while; None where it has
            none.
        spares: what runs on the CPU because a device could not take it.
        others: the language model at other precisions, which policies may choose the tail of; the
            head is that of `model`.
    """

    model: LanguageModel
    pack: PackManifest
    perception: Perception
    connection: Connection
    policy: Policy
    encoder_flops: Mapping[str, int]
    tail_weights: Callable[[int], TailWeights] | None = None
    pack_folder: Path | None = None
    utility: UtilityModel | None = None
    fit_utility: Callable[[], UtilityModel | None] | None = None
    spares: Spares = field(default_factory=Spares)
    others: Mapping[Precision, LanguageModel] = field(default_factory=dict)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Of tails, the first one that of `model`."""
        return (self.model.manifest.precision, *self.others)

    def model_at(self, precision: Precision) -> LanguageModel:
        """The language model whose tail is of this precision, one of `precisions`."""
        return self.others.get(precision, self.model)

    def frame_cost(self, precision: Precision | None = None) -> FrameCost:
        """The formulas of these parts, with the tail at a precision; None for that of `model`."""
        encoders: dict[str, EncoderCost] = {}
        for sensor in self.perception.sensors:
            name, encoder = self.perception.encoder_of(sensor)
            spec = encoder.spec
            encoders[sensor] = EncoderCost(self.encoder_flops[name], spec.tokens, spec.width)
        model = self.model
        config, given = model.config, precision or model.manifest.precision
        return FrameCost(
            LanguageModelCost(config, given, model.attends_apart),
            ConnectionCost(self.connection.spec, config),
            encoders,
        )

    def plan_formulas(self) -> PlanFormulas:
        """The same for whole plans, at all precisions."""
        sensors = self.perception.sensors
        return PlanFormulas(
            {precision: self.frame_cost(precision) for precision in self.precisions},
            {sensor: self.perception.encoder_of(sensor)[0] for sensor in sensors},
            self.model.boundary,
        )

    def want_utility(self) -> None:
        """Fit the utility, if that was not done yet."""
        if self.utility is None and self.fit_utility is not None:
            self.utility, self.fit_utility = self.fit_utility(), None

    def depths(self) -> tuple[int, ...]:
        """Tail depths that have gates and begin where a stage of the language model does."""
        last, deepest = self.model.config.num_blocks, self.connection.spec.tail_blocks
        found = {last - group.start for group in self.model.manifest.groups}
        return tuple(sorted(depth for depth in found if 0 < depth <= deepest))

    def checked_depth(self, tail_blocks: int) -> int:
        """A tail depth that the connection has gates for.

        Raises:
            ConfigError: it has not.
        """
        deepest = self.connection.spec.tail_blocks
        if not 0 < tail_blocks <= deepest:
            raise ConfigError(
                f"tail depth {tail_blocks} does not fit the pack",
                field="tail",
                remedy=f"give 1 to {deepest}",
            )
        return tail_blocks

    def checked_sensors(self, sensors: Sequence[str] | None) -> tuple[str, ...]:
        """Known sensors in the pack's order, in which prefixes are joined; None for all.

        Raises:
            SensorError: a sensor is unknown.
        """
        known = self.perception.sensors
        if sensors is None:
            return known
        unknown = [sensor for sensor in sensors if sensor not in known]
        if unknown:
            raise SensorError(
                f"there is no sensor '{unknown[0]}'",
                field="sensors",
                remedy=f"use one of {', '.join(known)}",
            )
        return tuple(sensor for sensor in known if sensor in sensors)

    def close(self) -> None:
        """Free all engines."""
        self.perception.close()
        self.connection.close()
        for model in (self.model, *self.others.values()):
            model.close()
