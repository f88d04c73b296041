"""What a replay came to: accuracy beside baselines, moments, frames and times; nothing is printed.

Answers are counted as they come, so whatever ends a replay, what was done until then is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..questions.baselines import blind_score
from ..questions.scores import Score, Share
from .feed import SensorCount
from .player import PlayedStep, Player

PERCENTILES = (50, 90, 99)


@dataclass
class ReplayScore:
    """A replay of one or more drives.

    Attributes:
        said: accuracy of the runtime.
        guessed: accuracy of each baseline on the same questions, by its name.
        answers: all answers, those to questions that nobody knows the answer of, too.
        blind: answers that no sensor was behind.
        moments_answered: keyframes, or moments of a drive without any.
        moments_skipped: that passed while the runtime was busy.
        heads: of questions that ran, before their moments.
        heads_ms: that they took, all together.
        step_ms: of each moment.
        lag_ms: of each moment.
        sensors: frames by sensor.
    """

    said: Score = field(default_factory=Score)
    guessed: dict[str, Score] = field(default_factory=dict)
    answers: int = 0
    blind: int = 0
    moments_answered: int = 0
    moments_skipped: int = 0
    heads: int = 0
    heads_ms: float = 0.0
    step_ms: list[float] = field(default_factory=list)
    lag_ms: list[float] = field(default_factory=list)
    sensors: dict[str, SensorCount] = field(default_factory=dict)

    @property
    def best_guesser(self) -> str | None:
        """Name of the baseline that is right most often, None without baselines."""
        return blind_score(self.guessed)[0] if self.guessed else None

    def add(self, step: PlayedStep) -> None:
        """Count a moment that was answered."""
        self.moments_answered += 1
        self.step_ms.append(step.step_ms)
        self.lag_ms.append(step.lag_ms)
        for planned, answer in zip(step.planned, step.answers, strict=True):
            self.answers += 1
            self.blind += not answer.sensors
            if planned.item is not None:
                self.said.add(planned.item, answer.text)
                for name, guess in planned.guesses.items():
                    self.guessed.setdefault(name, Score()).add(planned.item, guess)

    def add_drive(self, player: Player) -> None:
        """Count what is known of a drive when it has ended, or was ended."""
        self.moments_skipped += player.skipped
        self.heads += player.heads
        self.heads_ms += player.heads_s * 1e3
        for sensor, count in player.counts.items():
            total = self.sensors.setdefault(sensor, SensorCount())
            total.pushed += count.pushed
            total.late += count.late
            total.withheld += count.withheld
            total.unreadable += count.unreadable
            total.refused += count.refused

    def as_json(self) -> dict[str, object]:
        """All of it as what JSON can hold; times in milliseconds."""
        return {
            "answers": self.answers,
            "answers_without_sensors": self.blind,
            "moments_answered": self.moments_answered,
            "moments_skipped": self.moments_skipped,
            "best_baseline": self.best_guesser,
            "overall": self._row(lambda score: score.overall),
            "by_type": {
                name: self._row(lambda score, name=name: score.by_type.get(name))
                for name in sorted(self.said.by_type)
            },
            "by_hop": {
                str(hop): self._row(lambda score, hop=hop: score.by_hop.get(hop))
                for hop in sorted(self.said.by_hop)
            },
            "by_type_and_hop": {
                f"{key[0]}, {key[1]}": self._row(
                    lambda score, key=key: score.by_type_and_hop.get(key)
                )
                for key in sorted(self.said.by_type_and_hop)
            },
            "heads": self.heads,
            "head_ms": self.heads_ms / self.heads if self.heads else None,
            "step_ms": percentiles(self.step_ms),
            "lag_ms": percentiles(self.lag_ms),
            "sensors": {
                name: {
                    "pushed": count.pushed,
                    "late": count.late,
                    "withheld": count.withheld,
                    "unreadable": count.unreadable,
                    "refused": count.refused,
                }
                for name, count in self.sensors.items()
            },
        }

    def _row(self, part: Callable[[Score], Share | None]) -> dict[str, object]:
        said = part(self.said) or Share()
        return {
            "questions": said.questions,
            "right": said.right,
            "accuracy": said.accuracy,
            "baselines": {
                name: (part(score) or Share()).accuracy for name, score in self.guessed.items()
            },
        }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """`p50`, `p90`, `p99` and `max` of values, linearly interpolated; empty without values."""
    if not values:
        return {}
    found = np.percentile(np.asarray(values, np.float64), PERCENTILES)
    named = {f"p{p}": float(value) for p, value in zip(PERCENTILES, found, strict=True)}
    return {**named, "max": float(max(values))}
