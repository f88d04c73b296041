"""Question files: ours round trip, one written by hand as NuScenes-QA writes it, broken ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tailwire.runtime.errors import DataError
from tailwire.simulation.nuscenes import NuScenes
from tailwire.simulation.questions.files import question_file, read_questions, write_questions
from tailwire.simulation.questions.items import QaItem

from .crowds import crowd, write_crowd

RECORD: dict[str, Any] = {
    "sample_token": "ca9a282c9e77460f8360f564131a8af5",
    "question": "What is the thing that is both ahead and waiting?",
    "answer": "car",
    "split": "val",
    "template_type": "object",
    "num_hop": 1,
}


def write(path: Path, *records: object) -> Path:
    path.write_text(json.dumps({"info": {"split": "val"}, "questions": list(records)}))
    return path


def test_files_hold_what_was_made(
    crowd_data: NuScenes, crowd_items: tuple[QaItem, ...], tmp_path: Path
) -> None:
    told: list[int] = []
    out = tmp_path / "deep" / "questions"
    summary = write_questions(crowd_data, seed=7, out=out, progress=told.append)
    train, val = (read_questions(question_file(out, split)) for split in ("train", "val"))
    assert {item.split for item in train} == {"train"}
    assert {item.split for item in val} == {"val"}
    in_order = sorted(crowd_items, key=lambda item: item.split == "val")
    assert [*train, *val] == in_order
    assert summary.total == len(crowd_items)
    assert summary.splits == Counter(item.split for item in crowd_items)
    assert summary.answers["exist"].total() == sum(
        count for (kind, _), count in summary.by_type_and_hop.items() if kind == "exist"
    )
    assert told == list(range(1000, len(crowd_items) + 1, 1000))
    assert sorted(path.name for path in out.iterdir()) == [
        "NuScenes_QA_train.json",
        "NuScenes_QA_val.json",
    ]


def test_files_are_those_of_nuscenes_qa_and_lie_in_the_dataroot(tmp_path: Path) -> None:
    data = write_crowd(tmp_path / "root", [crowd(1, 2), crowd(2, 2)])
    write_questions(data.dataroot, seed=1)
    file = data.dataroot / "questions" / "NuScenes_QA_val.json"
    document = json.loads(file.read_text())
    assert set(document) == {"info", "questions"}
    assert set(document["questions"][0]) == {*RECORD, "template"}
    first = file.read_bytes()
    write_questions(data.dataroot, seed=1)
    assert file.read_bytes() == first


def test_a_failure_leaves_the_files_of_before(tmp_path: Path) -> None:
    data = write_crowd(tmp_path / "root", [[[]]])
    out = tmp_path / "out"
    out.mkdir()
    before = write(question_file(out, "train"), RECORD).read_bytes()
    with pytest.raises(DataError, match="nothing can be asked"):
        write_questions(data, out=out)
    assert [path.name for path in out.iterdir()] == ["NuScenes_QA_train.json"]
    assert question_file(out, "train").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, crowd_data: NuScenes) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DataError, match="cannot be written") as error:
        write_questions(crowd_data, out=blocked / "questions")
    assert str(blocked) in error.value.field


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    count = {**RECORD, "question": "How many?", "template_type": "count", "num_hop": 0, "answer": 3}
    extra = {**RECORD, "answer": "yes", "template_type": "exist", "scene": {"more": 1}}
    items = read_questions(write(tmp_path / "NuScenes_QA_val.json", RECORD, count, extra))
    assert [(item.answer, item.template_type, item.num_hop) for item in items] == [
        ("car", "object", 1),
        ("3", "count", 0),
        ("yes", "exist", 1),
    ]
    assert items[0].question == RECORD["question"]
    assert {item.template for item in items} == {None}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sample_token": None}, "sample_token is None"),
        ({"sample_token": ""}, "sample_token is ''"),
        ({"question": 7}, "question is 7"),
        ({"answer": "elephant"}, "answer 'elephant' is none of the 30"),
        ({"answer": 11}, "answer 11 is none of the 30"),
        ({"answer": True}, "answer is True"),
        ({"template_type": "compare"}, "template_type 'compare' is none of exist"),
        ({"template_type": ["exist"]}, "template_type is"),
        ({"num_hop": 2}, "num_hop is 2"),
        ({"num_hop": "1"}, "num_hop is '1'"),
        ({"num_hop": True}, "num_hop is True"),
        ({"split": 1}, "split is 1"),
        ({"template": 4}, "template is 4"),
    ],
)
def test_a_broken_record_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    path = write(tmp_path / "broken.json", RECORD, {**RECORD, **change})
    with pytest.raises(DataError, match="record 1") as error:
        read_questions(path)
    assert problem in error.value.problem
    assert error.value.field == str(path)
    assert error.value.remedy


@pytest.mark.parametrize("name", sorted(RECORD))
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    record = {key: value for key, value in RECORD.items() if key != name}
    with pytest.raises(DataError, match=f"record 0: {name} is missing"):
        read_questions(write(tmp_path / "broken.json", record))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no JSON"),
        (b'{"questions": [', "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b"[]", "no list 'questions'"),
        (b'{"questions": {}}', "no list 'questions'"),
        (b'{"questions": [[]]}', "record 0 is no object"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read_questions(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_questions(path)


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as stream:
        stream.truncate(3 * 1024**3)
    with pytest.raises(DataError, match="bytes"):
        read_questions(path)
