"""Items in the form of MCUB: read, made from objects whose truth is known, scored."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from tailwire.benchmarks.commonality import (
    LETTERS,
    blind_answers,
    items_text,
    read_items,
    score_answers,
)
from tailwire.benchmarks.commonality_items import (
    CONCEPTS,
    NOTHING,
    SENSES,
    MadeItem,
    Moment,
    concepts_of,
    make_items,
    option_text,
)
from tailwire.cli import main
from tailwire.kernels.object_tokens import OBJECT_CLASSES, OBJECT_COLUMNS, OBJECT_STATUSES
from tailwire.runtime.errors import ConfigError, DataError
from tailwire.simulation.radar_returns import RADAR_COLUMNS, radar_returns
from tailwire.simulation.street_sound import (
    BANDS_HZ,
    MICROPHONES_DEG,
    level_at,
    sound_power,
    street_levels,
    street_sound,
)

Float = NDArray[np.float32]


def thing(name: str, x: float, y: float, status: str = "moving", **values: float) -> Float:
    """A row of objects that drives ahead at 10 m/s where nothing else is said."""
    row = dict.fromkeys(OBJECT_COLUMNS, 0.0) | {
        "class": float(OBJECT_CLASSES.index(name)),
        "score": 1.0,
        "x": x,
        "y": y,
        "length": 4.5,
        "width": 1.9,
        "height": 1.6,
        "vx": 10.0,
        "status": float(OBJECT_STATUSES.index(status)),
    }
    row |= values
    return np.array([row[name] for name in OBJECT_COLUMNS], np.float32)


def street(*rows: Float) -> Float:
    return np.array(rows, np.float32).reshape(len(rows), len(OBJECT_COLUMNS))


NO_CLOUD = np.zeros((0, 4), np.float32)


def test_concepts_say_what_holds_what_does_not_and_what_is_open() -> None:
    objects = street(
        thing("car", 20, 0),
        thing("bus", 0, 20, vx=0.0),
        thing("motorcycle", -20, 0, "with rider", score=0.5),
        thing("truck", -20, 0, vx=float("nan"), vy=float("nan")),
        thing("pedestrian", 10, 10),
    )
    found = concepts_of(objects)
    assert found["car", "front"] is True
    assert found["bus or truck", "front left"] is None  # it stands
    assert found["motorcycle", "back"] is None  # it is barely visible
    assert found["bus or truck", "back"] is None  # nobody knows whether it moves
    assert found["car", "back"] is False
    assert {c for c, holds in found.items() if holds and c[0] != NOTHING} == {("car", "front")}


# --- radar


def test_radar_finds_where_things_are_and_how_fast_they_go_away() -> None:
    car = thing("car", 30, 0, vx=-12.0)
    returns = np.concatenate(
        [radar_returns(street(car), NO_CLOUD, np.random.default_rng(i)) for i in range(40)]
    )
    x, y, radial, _ = returns.T
    assert len(returns) > 80
    # The side that faces the vehicle is 2.25 m nearer than the middle.
    assert abs(x[np.abs(y) < 0.8].min() - 27.75) < 1.0
    assert np.abs(y).max() < 3
    np.testing.assert_allclose(radial.mean(), -12, atol=0.3)


def test_crossing_things_have_no_radial_speed_and_standing_clutter_neither() -> None:
    wall = np.stack(
        [np.full(200, 25.0), np.linspace(-5, 5, 200), np.full(200, 1.0), np.zeros(200)], 1
    )
    crossing = thing("car", 20, 0, vx=0.0, vy=8.0, yaw=np.pi / 2)
    many = [
        radar_returns(street(crossing), wall.astype(np.float32), np.random.default_rng(i))
        for i in range(20)
    ]
    radial = np.concatenate(many)[:, RADAR_COLUMNS.index("radial_mps")]
    assert abs(radial.mean()) < 0.2
    assert sum(len(one) for one in many) > 100


def test_the_own_vehicle_gives_no_returns() -> None:
    own = np.stack([np.linspace(-1, 4, 100), np.zeros(100), np.ones(100), np.zeros(100)], 1)
    cloud = own.astype(np.float32)
    assert not len(radar_returns(street(), cloud, np.random.default_rng(0)))
    cloud[:, 1] = 5
    assert len(radar_returns(street(), cloud, np.random.default_rng(0)))


def test_far_small_and_hidden_things_are_found_more_seldom() -> None:
    def count(*rows: Float, within: float = 1e3) -> int:
        return sum(
            int((np.abs(r[:, 0] - rows[0][2]) < within).sum())
            for r in (
                radar_returns(street(*rows), NO_CLOUD, np.random.default_rng(i)) for i in range(60)
            )
        )

    assert count(thing("truck", 90, 0)) > 1.5 * count(thing("pedestrian", 90, 0)) + 5
    assert count(thing("car", 40, 0)) > count(thing("car", 140, 0)) + 5
    behind = count(thing("car", 60, 0), thing("bus", 30, 0, length=10.0, width=3.0), within=5)
    assert count(thing("car", 60, 0), within=5) > 1.5 * behind


# --- sound


def test_vehicles_sound_as_the_european_method_says() -> None:
    # Worked out by hand for 1 kHz at the reference speed, where both slopes are nothing.
    at_70 = sound_power("light", 70 / 3.6)[BANDS_HZ.index(1000)]
    assert at_70 == pytest.approx(10 * np.log10(10**9.73 + 10**8.42), abs=1e-9)
    rolling = 97.3 + 32.5 * np.log10(50 / 70)
    engine = 84.2 + 8.0 * (50 - 70) / 70
    expected = 10 * np.log10(10 ** (rolling / 10) + 10 ** (engine / 10))
    assert sound_power("light", 50 / 3.6)[4] == pytest.approx(expected, abs=1e-9)
    # One that stands has no rolling noise, and one that creeps sounds as at 20 km/h.
    idle = sound_power("heavy", 0.0)
    np.testing.assert_allclose(idle[0], 104.4, atol=1e-9)
    np.testing.assert_array_equal(sound_power("light", 3.0), sound_power("light", 20 / 3.6))


def test_sound_spreads_and_air_takes_high_bands_first() -> None:
    power = np.full(8, 100.0)
    near, far = level_at(power, 10), level_at(power, 100)
    np.testing.assert_allclose(near[0], 100 - 20 - 8, atol=0.01)
    np.testing.assert_allclose((near - far)[0], 20, atol=0.05)
    assert (near - far)[-1] == pytest.approx(20 + 0.09 * 117, abs=0.01)


def test_the_microphone_that_looks_at_a_thing_hears_it_most() -> None:
    for index, degrees in enumerate(MICROPHONES_DEG):
        angle = np.deg2rad(degrees)
        row = thing("truck", 15 * np.cos(angle), 15 * np.sin(angle), vx=0.0, vy=0.0)
        row[OBJECT_COLUMNS.index("status")] = OBJECT_STATUSES.index("stopped")
        levels = street_levels(street(row), 0.0).mean(axis=(0, 2))
        assert int(levels.argmax()) == index


def test_parked_things_people_and_bicycles_are_silent() -> None:
    silent = street(
        thing("car", 5, 5, "parked", vx=0.0),
        thing("pedestrian", 3, 0),
        thing("bicycle", 4, 0, "with rider"),
    )
    np.testing.assert_array_equal(street_levels(silent, 5.0), street_levels(street(), 5.0))
    heard = street_sound(street(thing("car", 5, 5)), 5.0, np.random.default_rng(0))
    assert heard.shape == (8, 6, 8) and heard.dtype == np.float32


# --- items


class KnownMoment(Moment):
    """A moment whose objects are given."""

    def __init__(self, scene: int, token: str, objects: Float) -> None:
        super().__init__(cast(Any, None), f"scene {scene}", token, 5.0)
        self.__dict__["objects"] = objects


def known_moments(scenes: int = 24) -> list[Moment]:
    rng = np.random.default_rng(3)
    found: list[Moment] = []
    for scene in range(scenes):
        for number in range(3):
            rows = [
                thing(
                    ("car", "bus", "motorcycle")[int(rng.integers(3))],
                    *(float(v) for v in rng.uniform(-25, 25, 2)),
                    status="moving",
                )
                for _ in range(5)
            ]
            for row in rows:
                if row[0] == OBJECT_CLASSES.index("motorcycle"):
                    row[-1] = OBJECT_STATUSES.index("with rider")
            found.append(KnownMoment(scene, f"{scene}-{number}", street(*rows)))
    return found


@pytest.fixture(scope="module")
def made() -> list[MadeItem]:
    return make_items(known_moments(), per_set=30, seed=1)


def test_one_option_holds_in_all_inputs_and_each_other_is_false_in_one(
    made: list[MadeItem],
) -> None:
    texts = {option_text(concept): concept for concept in CONCEPTS}
    sets = Counter(one.item.modalities for one in made)
    assert set(sets) == {
        tuple(sorted(names))
        for names in (
            ("image", "point"),
            ("image", "radar"),
            ("image", "audio"),
            ("point", "radar"),
            ("point", "audio"),
            ("radar", "audio"),
            ("image", "point", "radar"),
            ("image", "point", "audio"),
            ("image", "radar", "audio"),
            ("point", "radar", "audio"),
            SENSES,
        )
    }
    for one in made:
        facts = [moment.holds(sense) for sense, moment in one.moments.items()]
        assert len({moment.scene for moment in one.moments.values()}) == len(facts)
        assert len(set(one.item.options)) == 4
        for letter, text in zip(LETTERS, one.item.options, strict=True):
            holds = [fact[texts[text]] for fact in facts]
            if letter == one.item.answer:
                assert all(holds)
            else:
                assert False in holds


def test_each_input_leaves_a_wrong_option_open(made: list[MadeItem]) -> None:
    """So that a perfect answer from one input alone is right every other time at most."""
    by_text = {option_text(concept): concept for concept in CONCEPTS}
    for one in made:
        for sense, moment in one.moments.items():
            holds = [moment.holds(sense)[by_text[text]] for text in one.item.options]
            assert holds.count(True) >= 2


def test_there_are_as_many_items_of_each_number_of_senses(made: list[MadeItem]) -> None:
    assert Counter(len(one.moments) for one in made) == {2: 180, 3: 180, 4: 180}


def test_letters_are_even_and_a_blind_guess_is_near_chance(made: list[MadeItem]) -> None:
    items = [one.item for one in made]
    letters = Counter(item.answer for item in items)
    assert min(letters.values()) > 0.23 * len(items)
    others = [one.item for one in make_items(known_moments(), per_set=30, seed=2)]
    blind = score_answers(items, blind_answers(items, others)).accuracy
    assert blind < 0.36


def test_nothing_drives_where_vehicles_are_parked_or_none() -> None:
    def of(*things: Float) -> bool | None:
        return concepts_of(street(*things))[NOTHING, "front"]

    assert of() is True
    assert of(thing("car", 20, 0, "parked", vx=0.0)) is True
    assert of(thing("car", 20, 0, "stopped", vx=0.0)) is None
    assert of(thing("car", 20, 0, "parked", vx=0.0), thing("bus", 30, 0, "moving")) is False
    assert of(thing("car", -20, 0, "moving"), thing("pedestrian", 20, 0, "moving")) is True


def test_items_are_the_same_for_one_seed_and_survive_the_file(
    made: list[MadeItem], tmp_path: Path
) -> None:
    again = make_items(known_moments(), per_set=30, seed=1)
    items = [one.item for one in made]
    assert items == [one.item for one in again]
    assert items != [one.item for one in make_items(known_moments(), per_set=30, seed=2)]
    (tmp_path / "items.json").write_text(items_text(items))
    assert read_items(tmp_path / "items.json") == items


def test_too_little_to_draw_from_is_refused() -> None:
    for count, senses in ((0, SENSES), (3, ("image",))):
        with pytest.raises(ConfigError):
            make_items(known_moments(2), count, 0, senses)  # pyright: ignore[reportArgumentType]
    assert make_items(known_moments(1), 3, 0) == []


# --- the file

PUBLISHED = [
    {
        "id": 17,
        "conversations": [
            {"from": "human", "value": "What is common?\nA. Water\nB. Dogs\nC. Cars\nD. Rain"},
            {"from": "gpt", "value": "B"},
        ],
        "modal_inputs": {"audio": "a/1.wav", "image": "i/1.jpg", "point": "p/1.npy", "video": "v"},
    },
    {
        "id": "x",
        "conversations": [
            {"from": "human", "value": "Choose: (A) water (B) dogs"},
            {"from": "gpt", "value": "(not a letter)"},
        ],
        "modal_inputs": {"image": "i/2.jpg"},
    },
]


def test_published_items_load(tmp_path: Path) -> None:
    path = tmp_path / "mcub.json"
    path.write_text(json.dumps(PUBLISHED[:1]))
    (item,) = read_items(path)
    assert (item.id, item.answer, item.options) == ("17", "B", ("Water", "Dogs", "Cars", "Rain"))
    assert item.modalities == ("audio", "image", "point", "video")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "no list of items"),
        ("{}", "no list of items"),
        ("[1]", "item 0: item"),
        (json.dumps([PUBLISHED[1]]), "begins with none of A to D"),
        (json.dumps([{**PUBLISHED[0], "modal_inputs": {}}]), "modal_inputs"),
        (json.dumps([{**PUBLISHED[0], "modal_inputs": {"image": 3}}]), "modal_inputs"),
        (json.dumps([{**PUBLISHED[0], "conversations": []}]), "conversations"),
        (json.dumps([PUBLISHED[0], PUBLISHED[0]]), "'17' is there twice"),
        (json.dumps([{k: v for k, v in PUBLISHED[0].items() if k != "id"}]), "id"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_items(path)
    assert words in str(caught.value) or words in str(caught.value.field)


def test_the_first_character_counts(made: list[MadeItem]) -> None:
    items = [one.item for one in made[:4]]
    said = [" b. cars", "B", "The answer is B", ""]
    items = [replace(item, answer="B") for item in items]
    score = score_answers(items, {i.id: text for i, text in zip(items, said, strict=True)})
    assert (score.items, score.right, score.unread) == (4, 2, 2)
    with pytest.raises(DataError, match="has no answer"):
        score_answers(items, {})
    with pytest.raises(DataError, match="not asked"):
        score_answers(items[:1], {items[0].id: "A", "other": "A"})


def test_the_command_scores(
    made: list[MadeItem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [one.item for one in made]
    (tmp_path / "items.json").write_text(items_text(items))
    answers = {item.id: item.answer if "audio" in item.inputs else "Z" for item in items}
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    files = [str(tmp_path / name) for name in ("items.json", "answers.json")]
    arguments = ["commonality", "score", *files, "--learn-from", files[0], "--json"]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["by_modalities"]["audio+image"]["accuracy"] == 1
    assert said["by_modalities"]["image+point"]["accuracy"] == 0
    assert said["blind"] is not None
    assert main(["commonality", "score", files[0], files[0]]) == 2
    assert "answers are one object" in capsys.readouterr().err
