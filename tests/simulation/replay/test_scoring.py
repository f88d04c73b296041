"""Accuracy, frames and times against counts made by hand."""

from __future__ import annotations

import json

import pytest

from tailwire.simulation.replay.asking import QuestionPlan
from tailwire.simulation.replay.player import Pace, Player
from tailwire.simulation.replay.records import ReplayedAnswer, records_of
from tailwire.simulation.replay.scoring import ReplayScore, percentiles

from .fake_drive import SENSORS, FakeDrive, FakeRuntime, HandClock, item, planned, standing

ASKED = [
    # (type, hops, right answer, majority's guess, blind guess); the runtime says `yes`.
    ("exist", 0, "yes", "yes", "yes"),
    ("exist", 1, "no", "yes", "no"),
    ("exist", 1, "yes", "yes", "no"),
    ("count", 0, "3", "0", "3"),
    ("comparison", 1, "yes", "no", "yes"),
]


def plan() -> QuestionPlan:
    return QuestionPlan(
        standing=standing("a standing question").standing,
        by_sample={
            "sample-0": [
                planned(item(f"q{n}", right, kind=kind, hop=hop), majority=guess, blind=blind)
                for n, (kind, hop, right, guess, blind) in enumerate(ASKED)
            ]
        },
    )


@pytest.fixture
def score() -> ReplayScore:
    clock = HandClock()
    score, runtime = ReplayScore(), FakeRuntime(clock, step_s=0.2, head_s=0.05)
    drive = FakeDrive(keyframes_s=(0.0,), broken=[("cam_front", 0.0)])
    for _ in range(2):
        runtime.forget_frames()
        player = Player(drive, runtime, plan(), SENSORS, pace=Pace(clock=clock))
        for step in player.play():
            score.add(step)
        player.skipped += 3
        score.add_drive(player)
    return score


def test_accuracy_stands_beside_the_baselines_by_type_and_hop(score: ReplayScore) -> None:
    found = score.as_json()
    assert found["overall"] == {
        "questions": 10,
        "right": 6,
        "accuracy": 0.6,
        "baselines": {"majority": 0.4, "blind": 0.8},
    }
    rows = {**found["by_type"], **found["by_hop"], **found["by_type_and_hop"]}  # pyright: ignore[reportGeneralTypeIssues]
    table = {
        name: (row["questions"], row["right"], row["baselines"]["majority"])
        for name, row in rows.items()
    }
    assert table == {
        "exist": (6, 4, pytest.approx(2 / 3)),
        "count": (2, 0, 0.0),
        "comparison": (2, 2, 0.0),
        "0": (4, 2, 0.5),
        "1": (6, 4, pytest.approx(1 / 3)),
        "exist, 0": (2, 2, 1.0),
        "exist, 1": (4, 2, 0.5),
        "count, 0": (2, 0, 0.0),
        "comparison, 1": (2, 2, 0.0),
    }
    assert found["best_baseline"] == "blind"


def test_standing_questions_are_answers_and_no_accuracy(score: ReplayScore) -> None:
    assert score.answers == 2 * (1 + len(ASKED))
    assert score.said.overall.questions == 2 * len(ASKED)


def test_frames_and_moments_add_up_over_drives(score: ReplayScore) -> None:
    found = score.as_json()
    assert (found["moments_answered"], found["moments_skipped"]) == (2, 6)
    assert found["sensors"]["cam_front"] == {  # pyright: ignore[reportIndexIssue]
        "pushed": 0,
        "late": 0,
        "withheld": 0,
        "unreadable": 2,
        "refused": 0,
    }
    assert found["sensors"]["lidar_top"]["pushed"] == 2  # pyright: ignore[reportIndexIssue]


def test_heads_are_timed_apart_from_steps(score: ReplayScore) -> None:
    found = score.as_json()
    assert found["heads"] == 2 * (1 + len(ASKED))
    assert found["head_ms"] == pytest.approx(50)
    assert found["step_ms"]["p50"] == pytest.approx(200)  # pyright: ignore[reportIndexIssue]


def test_all_of_it_is_json_and_empty_scores_are_too(score: ReplayScore) -> None:
    for one in (score, ReplayScore()):
        assert json.loads(json.dumps(one.as_json(), allow_nan=False)) == one.as_json()


def test_percentiles_are_interpolated() -> None:
    assert percentiles([]) == {}
    assert percentiles([float(n) for n in range(101)]) == {
        "p50": 50.0,
        "p90": 90.0,
        "p99": 99.0,
        "max": 100.0,
    }
    assert percentiles([1.0, 2.0])["p50"] == 1.5


def test_a_line_of_the_answers_file_holds_answer_and_truth() -> None:
    player = Player(FakeDrive(keyframes_s=(0.0,)), FakeRuntime(), plan(), SENSORS)
    (step,) = player.play()
    lines = [record.model_dump_json() for record in records_of("scene-0001", step)]
    records = [ReplayedAnswer.model_validate_json(line) for line in lines]
    assert [record.right for record in records] == [None, True, False, True, False, True]
    assert [record.question for record in records][1:] == [f"q{n}" for n in range(5)]
    last = records[-1]
    assert (last.drive, last.sample_token, last.expected) == ("scene-0001", "sample-0", "yes")
    assert (last.template_type, last.num_hop) == ("comparison", 1)
    assert last.guesses == {"majority": "no", "blind": "yes"}
