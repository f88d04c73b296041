"""A simulated schedule gives the very plans, costs and answers that a runtime gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tailwire.benchmarks.exam import set_exam
from tailwire.benchmarks.schedule_drives import ScheduleDrive, schedule_drives
from tailwire.benchmarks.schedule_menu import FixedPlan
from tailwire.benchmarks.schedule_planning import Planning
from tailwire.benchmarks.schedule_simulation import Play, Simulation
from tailwire.benchmarks.schedule_store import ScheduleStore
from tailwire.benchmarks.schedule_world import ScheduleWorld, previous_frame
from tailwire.runtime.encoder_specs import BevInput
from tailwire.runtime.encoders import EncoderSpec
from tailwire.runtime.errors import ConfigError, DataError
from tailwire.runtime.frames import SensorFrame, SensorGeometry
from tailwire.runtime.metrics import StageClock
from tailwire.runtime.model_config import Precision
from tailwire.runtime.perception import Perception
from tailwire.runtime.plans import Budget, Plan, SensorAction
from tailwire.runtime.policies import make_policy
from tailwire.runtime.scheduler import PlanRequest
from tailwire.runtime.standpoint import Float, Standpoint
from tailwire.runtime.utility import Estimate

from ..fakes import OBJECT_SPECS, SENSORS, SPECS, FakeRuntime, connection_spec, fake_runtime
from ..plan_requests import IndependentSensors
from ..quick_drives import quick_drive

if TYPE_CHECKING:
    from ..built_models import TinyModels

QUESTIONS, EVERY, HZ = 3, 2, 4.0


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_drive(tmp_path_factory.mktemp("drives") / "made", scenes=2, seconds=2.0)


def cut(dataroot: Path, **changes: object) -> list[ScheduleDrive]:
    exam = set_exam([dataroot], split="all")
    options = {"rate_hz": HZ, "every": EVERY, "questions": QUESTIONS, **changes}
    return schedule_drives(exam, SENSORS, **options)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def drives(dataroot: Path) -> list[ScheduleDrive]:
    return cut(dataroot)


@pytest.fixture(params=[SPECS, OBJECT_SPECS], ids=["tokens", "objects"])
def fake(request: pytest.FixtureRequest, tiny: TinyModels, tmp_path: Path) -> Iterator[FakeRuntime]:
    spec = connection_spec("conditioned")
    made = fake_runtime(tiny.model("llama"), tmp_path, spec, specs=request.param)
    yield made
    made.perception.close()


@pytest.fixture
def world(fake: FakeRuntime, tmp_path: Path) -> Iterator[ScheduleWorld]:
    store = ScheduleStore(tmp_path / "store", {})
    yield ScheduleWorld(fake.runtime.parts, (2, 4), store)
    store.close()


def test_moments_are_keyframes_and_even_steps_between(drives: list[ScheduleDrive]) -> None:
    for drive in drives:
        stamps = np.array([moment.stamp_ns for moment in drive.moments])
        np.testing.assert_allclose(np.diff(stamps) / 1e6, 1e3 / HZ, atol=1)
        scored = [number for number, one in enumerate(drive.moments) if one.is_scored]
        samples = drive.data.samples(drive.name.split("/")[-1])
        assert [drive.moments[n].stamp_ns for n in scored] == [
            sample.stamp_ns for sample in samples[EVERY - 1 :: EVERY]
        ]
        assert scored[-1] == len(drive.moments) - 1
        assert len(scored) == len(drive.windows)
        # A window ends with the keyframe that it is scored at.
        windows = [one.window for one in drive.moments]
        assert windows == sorted(windows)
        assert [windows[n] for n in scored] == list(range(len(scored)))
        for moment in drive.moments:
            for sensor, place in moment.newest.items():
                files = drive.frames[sensor]
                assert files[place].stamp_ns <= moment.stamp_ns
                assert place + 1 == len(files) or files[place + 1].stamp_ns > moment.stamp_ns
        for moment, window in ((m, drive.windows[m.window]) for m in drive.moments if m.is_scored):
            assert len(window) == QUESTIONS
            assert {one.item.sample_token for one in window} == {
                sample.token for sample in samples if sample.stamp_ns == moment.stamp_ns
            }


def test_guesses_come_from_other_scenes(drives: list[ScheduleDrive]) -> None:
    guesses = [one.guesses for drive in drives for window in drive.windows for one in window]
    assert all({"majority", "words"} <= set(one) for one in guesses)


def test_numbers_that_cannot_be_are_refused(dataroot: Path) -> None:
    with pytest.raises(ConfigError, match="--every"):
        cut(dataroot, every=0)
    with pytest.raises(DataError, match="1000 questions"):
        cut(dataroot, questions=1000)


@pytest.mark.parametrize(
    "sensors", [SENSORS, ("lidar_top",), ()], ids=["all", "lidar", "no sensor"]
)
def test_scored_answers_are_those_of_a_runtime_that_is_stepped(
    fake: FakeRuntime, world: ScheduleWorld, drives: list[ScheduleDrive], sensors: Sequence[str]
) -> None:
    runtime = fake.runtime
    runtime.switch_sensors(sensors)
    planning = Planning(runtime.parts, (2, 4), None)
    plan = FixedPlan(frozenset(sensors), runtime.tail_blocks, "some")
    play, given, flops = Play(), [], []
    for drive in drives:
        Simulation(
            *(world, planning, drive, plan.choose, Budget(), play),
            max_age_ms=runtime.max_age_ms,
            is_steered=False,
        ).run()
        runtime.forget_frames()
        given += step_through(fake, drive, flops)
    assert [one.text for one in play.scored] == given
    assert {one.text for one in play.scored} > {play.scored[0].text}
    scored = [n for n, m in enumerate(m for d in drives for m in d.moments) if m.is_scored]
    # Decoding is counted apart, where it is known.
    for place, number in enumerate(scored):
        assert play.flops[number] + play.decode_flops[place] == flops[number]
    assert world.encoded == len(sensors) * len(scored)


class KnownSensors(IndependentSensors):
    """Tells what last answers are worth too, as a fitted model does."""

    def held(
        self,
        key: str,
        condition: str | None,
        ages_ms: Mapping[str, float],
        held_ms: float,
        depth: int,
        precision: Precision,
    ) -> Estimate:
        given = self.one(ages_ms, depth, precision, {key: 1.0})
        return Estimate(given * 0.9 ** (held_ms / 250), 0.1)


@pytest.mark.parametrize("policy", ["round_robin", "greedy", "optimal"])
@pytest.mark.parametrize("share", [0.5, 0.7, 1.1])
def test_policies_are_simulated_as_the_runtime_steps_them(
    fake: FakeRuntime,
    world: ScheduleWorld,
    drives: list[ScheduleDrive],
    policy: str,
    share: float,
) -> None:
    runtime = fake.runtime
    utility = KnownSensors({"cam_front": 0.3, "cam_back": 0.2, "lidar_top": 0.5})
    runtime.parts.utility, runtime.parts.fit_utility = utility, None
    runtime.set_policy(policy)
    planning = Planning(runtime.parts, runtime.depths, utility, tail_blocks=runtime.tail_blocks)
    everything = FixedPlan(frozenset(SENSORS), max(runtime.depths), "everything")
    full, play = Play(), Play()
    flops: list[int] = []
    given: list[str] = []
    for drive in drives:
        Simulation(
            *(world, planning, drive, everything.choose, Budget(), full),
            max_age_ms=runtime.max_age_ms,
            is_steered=False,
        ).run()
    runtime.budget = budget = Budget(flops=int(share * max(full.flops)))
    runtime.policy = policy
    for drive in drives:
        choose = make_policy(policy).choose
        Simulation(world, planning, drive, choose, budget, play, max_age_ms=1000.0).run()
        runtime.forget_frames()
        given += step_through(fake, drive, flops)
    assert not play.refused
    assert [one.text for one in play.scored] == given
    assert max(play.flops) <= (budget.flops or 0)
    scored = [n for n, m in enumerate(m for d in drives for m in d.moments) if m.is_scored]
    whole = [n for n in scored if play.answered[n] == 1.0]
    for place, number in enumerate(whole):
        assert play.flops[number] + play.decode_flops[place] == flops[number]


class SeldomPolicy:
    """Encodes a sensor's frame when its last tokens are 0.6 s old."""

    name = "seldom"

    def choose(self, request: PlanRequest) -> Plan:
        actions: dict[str, SensorAction] = {}
        for sensor, state in request.sensors.items():
            is_due = state.held_age_ms is None or state.held_age_ms > 600
            if state.fresh_age_ms is not None and is_due:
                actions[sensor] = "run"
            elif state.held_age_ms is not None:
                actions[sensor] = "reuse"
        cost = request.cost(actions, request.tail_blocks, request.precision)
        return Plan(
            sensors=actions,
            tail_blocks=request.tail_blocks,
            precision=request.precision,
            flops=cost.flops,
            policy=self.name,
        )


def test_reused_objects_are_carried_as_the_runtime_does(
    fake: FakeRuntime,
    world: ScheduleWorld,
    drives: list[ScheduleDrive],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    carried: list[int] = []
    carry = Standpoint.carry

    def noted(here: Standpoint, tokens: Float, stamp_ns: int, geometry: SensorGeometry) -> Float:
        carried.append(here.stamp_ns - stamp_ns)
        return carry(here, tokens, stamp_ns, geometry)

    monkeypatch.setattr(Standpoint, "carry", noted)
    runtime, policy, play = fake.runtime, SeldomPolicy(), Play()
    runtime.parts.policy = policy
    planning = Planning(runtime.parts, runtime.depths, None, tail_blocks=runtime.tail_blocks)
    given: list[str] = []
    flops: list[int] = []
    for drive in drives:
        Simulation(world, planning, drive, policy.choose, Budget(), play, max_age_ms=1000.0).run()
    in_world = sorted(carried)
    carried.clear()
    for drive in drives:
        runtime.forget_frames()
        given += step_through(fake, drive, flops)
    assert [one.text for one in play.scored] == given
    gives_objects = fake.perception.encoder_of("lidar_top")[1].spec.gives_objects
    assert bool(carried) == gives_objects
    # Of the world only answers that are scored need tokens.
    assert set(in_world) <= set(carried)
    assert bool(in_world) == gives_objects
    scored = [n for n, m in enumerate(m for d in drives for m in d.moments) if m.is_scored]
    for place, number in enumerate(scored):
        assert play.flops[number] + play.decode_flops[place] == flops[number]


def step_through(fake: FakeRuntime, drive: ScheduleDrive, flops: list[int]) -> list[str]:
    """What the runtime says at the keyframes that are scored."""
    runtime, texts, pushed = fake.runtime, [], dict.fromkeys(drive.frames, -1)
    keys: list[int] = []
    window = -1
    for moment in drive.moments:
        if moment.window != window:
            window = moment.window
            for key in keys:
                runtime.unwatch(key)
            keys = [runtime.watch(one.question) for one in drive.windows[window]]
        frames: list[SensorFrame] = []
        for sensor, place in moment.newest.items():
            files = drive.frames[sensor][pushed[sensor] + 1 : place + 1]
            frames += [drive.data.read(file) for file in files]
            pushed[sensor] = place
        answers = runtime.step(frames)
        flops.append(answers[0].flops)
        if moment.is_scored:
            texts += [answer.text for answer in answers]
    for key in keys:
        runtime.unwatch(key)
    return texts


def test_nothing_is_computed_twice(
    fake: FakeRuntime, world: ScheduleWorld, drives: list[ScheduleDrive], tmp_path: Path
) -> None:
    planning = Planning(fake.runtime.parts, (2, 4), None)
    plan = FixedPlan(frozenset(SENSORS), 4, "everything")

    def played(one: ScheduleWorld) -> Play:
        play = Play()
        for drive in drives:
            Simulation(
                *(one, planning, drive, plan.choose, Budget(), play),
                max_age_ms=1000.0,
                is_steered=False,
            ).run()
        return play

    first = played(world)
    made = (world.encoded, world.answered)
    assert played(world).scored == first.scored
    assert (world.encoded, world.answered) == made
    world._store.flush()
    later = ScheduleWorld(fake.runtime.parts, (2, 4), ScheduleStore(tmp_path / "store", {}))
    assert played(later).scored == first.scored
    assert (later.encoded, later.answered) == (0, 0)


class _Remembering:
    """An encoder that wants an earlier frame and notes which one it was shown."""

    spec = EncoderSpec(
        modality="lidar",
        kind="bev_detector",
        input=BevInput(previous_ms=(200, 700)),
        tokens=2,
        width=64,
        file="lidar.safetensors",
        licence="Apache-2.0",
        source="tests",
    )

    reloadable = None

    def __init__(self) -> None:
        self.shown: list[int | None] = []

    def prepare(self, frame: SensorFrame, previous: SensorFrame | None = None) -> dict[str, object]:
        self.shown.append(None if previous is None else previous.stamp_ns)
        return {}

    def encode(self, prepared: Sequence[object], sensors: Sequence[str] = ()) -> object:
        return np.ones((len(prepared), 2, 64), np.float32)

    def close(self) -> None:
        """Nothing is open."""


def test_earlier_frames_are_chosen_as_perception_does() -> None:
    rng = np.random.default_rng(5)
    encoder = _Remembering()
    perception = Perception({"lidar": encoder}, {"lidar_top": "lidar"}, threads=1)  # pyright: ignore[reportArgumentType]
    stamps = np.cumsum(rng.integers(40, 320, 200) * 1_000_000).tolist()
    cloud = np.ones((4, 5), np.float32)
    encoded: list[int] = []
    expected: list[int | None] = []
    for place, stamp in enumerate(stamps):
        if rng.random() < 0.6:
            perception.encode([SensorFrame("lidar_top", "lidar", stamp, "l", cloud)], StageClock())
            found = previous_frame(stamps, place, encoded, (200, 700))
            expected.append(None if found is None else stamps[found])
            encoded.append(place)
    assert encoder.shown == expected
    assert None in expected
    perception.close()
