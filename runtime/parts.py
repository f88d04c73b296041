"""What a runtime is made of, and what its frames cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .connections import Connection
from .cost import ConnectionCost, LanguageModelCost
from .errors import ConfigError, SensorError
from .frame_cost import EncoderCost, FrameCost
from .language_model import LanguageModel
from .pack import PackManifest
from .perception import Perception
from .scheduler import Policy

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
    """

    model: LanguageModel
    pack: PackManifest
    perception: Perception
    connection: Connection
    policy: Policy
    encoder_flops: Mapping[str, int]
    tail_weights: Callable[[int], TailWeights] | None = None
    pack_folder: Path | None = None

    def frame_cost(self) -> FrameCost:
        """The formulas of these parts."""
        encoders: dict[str, EncoderCost] = {}
        for sensor in self.perception.sensors:
            name, encoder = self.perception.encoder_of(sensor)
            spec = encoder.spec
            encoders[sensor] = EncoderCost(self.encoder_flops[name], spec.tokens, spec.width)
        config = self.model.config
        return FrameCost(
            LanguageModelCost(config, self.model.manifest.precision),
            ConnectionCost(self.connection.spec, config),
            encoders,
        )

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
        self.model.close()
