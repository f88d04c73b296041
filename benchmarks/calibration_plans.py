"""Which plans a calibration measures: few of very many, such that a model can fill in the rest.

Every sensor alone, all of a modality, all but one, all, and random ones in between; each at several
ages and depths. Nothing is measured here.

Most plans take turns, as there are too many for each to answer every question. The few that others
are judged against answer at every keyframe: plans are then compared by the same questions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from ..runtime.calibration_table import MeasuredPlan
from ..runtime.model_config import Precision

RANDOM_SETS = 24


def plans_to_measure(
    modalities: Mapping[str, str],
    *,
    named: Sequence[Sequence[str]] = (),
    depths: Sequence[int],
    ages_ms: Sequence[int] = (0, 500, 1000),
    precisions: Sequence[Precision] = ("int8",),
    random_sets: int = RANDOM_SETS,
    seed: int = 7,
) -> list[MeasuredPlan]:
    """Plans that are different from each other.

    Args:
        modalities: by sensor, in the pack's order; sensors of the modality `objects` are measured
            alone and beside all others, as they know nearly everything.
        named: sets of sensors that are measured whatever else is.
        depths: of the tail; the deepest is measured most.
        ages_ms: of tokens, and of answers that are given again; 0 must be among them.
        precisions: of the language model; the first is measured most.
        random_sets: how many.
        seed: of the random ones.
    """
    rng = random.Random(seed)
    ordinary = [name for name, modality in modalities.items() if modality != "objects"]
    ideal = [name for name, modality in modalities.items() if modality == "objects"]
    groups = _groups(ordinary, modalities)
    drawn = [_drawn(ordinary, rng) for _ in range(random_sets)] if len(ordinary) > 2 else []
    main = [*map(tuple, named), *groups, *((one,) for one in ideal)]
    main += [(*ordinary, *ideal)] if ordinary and ideal else []
    singles = [(one,) for one in ordinary]
    all_but_one = [tuple(s for s in ordinary if s != one) for one in ordinary]
    deepest, *others = sorted(set(depths), reverse=True)
    older = [age for age in sorted(set(ages_ms)) if age]
    places = {name: place for place, name in enumerate(modalities)}

    def plan(
        sensors: Sequence[str],
        ages: Sequence[int] | int = 0,
        depth: int = deepest,
        precision: Precision = precisions[0],
        held_ms: int = 0,
    ) -> MeasuredPlan:
        each = [ages] * len(sensors) if isinstance(ages, int) else ages
        pairs = sorted(zip(sensors, each, strict=True), key=lambda pair: places[pair[0]])
        return MeasuredPlan(
            sensors=tuple(sensor for sensor, _ in pairs),
            ages_ms=tuple(age for _, age in pairs),
            tail_blocks=depth,
            precision=precision,
            held_ms=held_ms,
        )

    def mixed(sensors: Sequence[str]) -> list[int]:
        return [rng.choice(tuple(ages_ms)) for _ in sensors]

    newest = [plan(sensors) for sensors in chain([()], main, singles, all_but_one, drawn)]
    held = [plan(sensors, held_ms=age) for age in older for sensors in (*main, *singles)]
    aged = [plan(sensors, age) for age in older for sensors in (*main, *singles)]
    if older:
        aged += [plan(sensors, mixed(sensors)) for sensors in drawn]
    shallower: list[MeasuredPlan] = []
    for depth in others:
        some = (*main, *singles, *drawn[::4]) if depth == others[-1] else main
        shallower += [plan(sensors, depth=depth) for sensors in some]
        if older and depth == others[-1]:
            shallower += [plan(sensors, mixed(sensors), depth) for sensors in drawn[1::4]]
    coarser = [
        plan(sensors, depth=depth, precision=precision)
        for precision in precisions[1:]
        for depth in {deepest, others[-1] if others else deepest}
        for sensors in ((), *main, *singles)
    ]
    return list(dict.fromkeys([*newest, *aged, *held, *shallower, *coarser]))


def plans_to_compare_with(
    plans: Sequence[MeasuredPlan],
    modalities: Mapping[str, str],
    named: Sequence[Sequence[str]] = (),
) -> list[int]:
    """Numbers of the plans that answer at every keyframe: the newest frames, at the deepest tail.

    Args:
        plans: made by `plans_to_measure`.
        modalities: by sensor.
        named: sets of sensors; without any, all sensors of each modality but `objects`, and all of
            them together.
    """
    wanted = [frozenset(sensors) for sensors in named]
    if not wanted:
        ordinary = {name for name, modality in modalities.items() if modality != "objects"}
        kinds = {modalities[name] for name in ordinary}
        wanted = [frozenset(n for n in ordinary if modalities[n] == one) for one in kinds]
        wanted.append(frozenset(ordinary))
    deepest = max((plan.tail_blocks or 0 for plan in plans), default=0)
    return [
        number
        for number, plan in enumerate(plans)
        if frozenset(plan.sensors) in wanted
        and plan.tail_blocks == deepest
        and not any((*plan.ages_ms, plan.held_ms))
    ]


def in_turns(count: int, seed: int = 7) -> Iterator[int]:
    """Numbers below `count` without end, each as often as the others, in a random order."""
    rng = random.Random(seed)
    while True:
        order = list(range(count))
        rng.shuffle(order)
        yield from order


def _groups(ordinary: Sequence[str], modalities: Mapping[str, str]) -> list[tuple[str, ...]]:
    """All sensors, and all of each modality that has several."""
    found = [tuple(ordinary)] if ordinary else []
    for modality in dict.fromkeys(modalities[name] for name in ordinary):
        own = tuple(name for name in ordinary if modalities[name] == modality)
        if len(own) > 1 and own != found[0]:
            found.append(own)
    return found


def _drawn(ordinary: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    count = rng.randint(2, len(ordinary) - 1)
    return tuple(rng.sample(list(ordinary), count))
