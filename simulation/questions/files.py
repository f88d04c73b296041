"""Files in the format of NuScenes-QA: `{"info": {...}, "questions": [{...}, ...]}`.

Ours hold one more field per question, `template`, which readers of the plain format ignore, as
this one ignores fields that it does not know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, cast

from ...runtime.errors import DataError
from ...runtime.questions import NUSCENES_QA_ANSWERS
from ..nuscenes import NuScenes
from ..nuscenes.disk import sync_folder
from .generate import PER_KEYFRAME, make_questions
from .items import QaItem
from .summary import Summary
from .templates import TEMPLATE_TYPES

FOLDER = "questions"
_FILES = {"train": "NuScenes_QA_train.json", "val": "NuScenes_QA_val.json"}
#: The published files have about 90 MB; a file far beyond would only fill the memory.
_MAX_BYTES = 2 * 1024**3
_REMEDY = "check that it is a question file of NuScenes-QA, or make one with `tailwire questions`"


def question_file(folder: Path, split: str) -> Path:
    """Where the questions of a split are, in the folder that `write_questions` was given."""
    return folder / _FILES[split]


def write_questions(
    dataroot: Path | NuScenes,
    seed: int = 7,
    per_keyframe: int = PER_KEYFRAME,
    out: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Make questions for a data set and write one file per split.

    Questions are written as they are made, so the memory that is used does not grow with the
    data set. Files that are there are replaced, once both are whole.

    Args:
        dataroot: of a nuScenes data set with annotations, or the opened set.
        seed: from 0.
        per_keyframe: largest number of questions of one keyframe.
        out: folder for the files; `<dataroot>/questions` where left out.
        progress: told how many questions there are, every now and then.

    Returns:
        Counts of what was written.

    Raises:
        ConfigError: the seed or the number is out of range.
        DataError: the data set is broken or gives no question, or the folder cannot be written.
        SensorError: a keyframe has no file of the LiDAR.
    """
    data = dataroot if isinstance(dataroot, NuScenes) else NuScenes.open(dataroot)
    folder = data.dataroot / FOLDER if out is None else out
    items = make_questions(data, seed, per_keyframe)
    paths = {split: question_file(folder, split) for split in _FILES}
    aside = {path: path.with_name(f".{path.name}.{os.getpid()}.writing") for path in paths.values()}
    summary = Summary()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            writers = {
                split: _Writer(
                    stack.enter_context(aside[path].open("w", encoding="utf-8")), split, seed
                )
                for split, path in paths.items()
            }
            for item in items:
                writers[item.split].add(item)
                summary.add(item)
                if progress is not None and summary.total % 1000 == 0:
                    progress(summary.total)
            for writer in writers.values():
                writer.finish()
        if not summary.total:
            raise DataError(
                "nothing can be asked: no annotated object is well visible",
                field=str(data.dataroot / data.version),
                remedy="give a data set with annotations",
            )
        for path, temporary in aside.items():
            temporary.replace(path)
        sync_folder(folder)
    except OSError as error:
        raise DataError(
            f"the questions cannot be written: {error.strerror or error}",
            field=str(folder),
            remedy="name a folder that can be written",
        ) from error
    finally:
        for temporary in aside.values():
            # A folder that could not be made holds nothing to remove.
            with suppress(OSError):
                temporary.unlink()
    return summary


class _Writer:
    """One question file while it grows."""

    def __init__(self, stream: IO[str], split: str, seed: int) -> None:
        self._stream = stream
        self._before = "\n"
        info = {"description": "questions made by tailwire", "split": split, "seed": seed}
        stream.write(f'{{"info": {json.dumps(info)}, "questions": [')

    def add(self, item: QaItem) -> None:
        self._stream.write(self._before + json.dumps(asdict(item)))
        self._before = ",\n"

    def finish(self) -> None:
        self._stream.write("\n]}\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())


def read_questions(path: Path) -> tuple[QaItem, ...]:
    """Read a question file, ours or one of NuScenes-QA.

    Args:
        path: e.g. `NuScenes_QA_val.json`.

    Raises:
        DataError: the file is missing, too large or no such file, or a record is wrong; the
            message names file, record number (from 0) and field.
    """
    document = _load(path)
    records = document.get("questions") if isinstance(document, dict) else None
    if not isinstance(records, list):
        raise DataError(
            "there is no list 'questions' at the top of the file", field=str(path), remedy=_REMEDY
        )
    shared: dict[str, str] = {}
    items: list[QaItem] = []
    # Records are let go one by one: half of the memory of the parsed file, as items share texts.
    cast("list[Any]", records).reverse()
    while records:
        items.append(_item(path, len(items), cast("list[Any]", records).pop(), shared))
    return tuple(items)


def with_train_split(files: Sequence[Path], items: Sequence[QaItem]) -> Sequence[QaItem]:
    """The questions, and those of the train file that lies beside a val file.

    Args:
        files: that the questions were read from.
        items: the questions; nothing is read where some are of the train split.

    Raises:
        DataError: the train file is broken.
    """
    if any(item.split == "train" for item in items):
        return items
    for file in files:
        train = file.with_name(file.name.replace("val", "train"))
        if train != file and train.is_file():
            return [*items, *read_questions(train)]
    return items


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise DataError(
                f"the file has {size} bytes, more than the {_MAX_BYTES} that are read",
                field=str(path),
                remedy=_REMEDY,
            )
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"the file cannot be read: {error.strerror or error}",
            field=str(path),
            remedy="check the path",
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"the file is no JSON: {error}", field=str(path), remedy=_REMEDY) from error


def _item(path: Path, number: int, record: object, shared: dict[str, str]) -> QaItem:
    def fail(field: str, problem: str) -> DataError:
        return DataError(f"record {number}: {field} {problem}", field=str(path), remedy=_REMEDY)

    if not isinstance(record, dict):
        raise DataError(f"record {number} is no object", field=str(path), remedy=_REMEDY)
    fields = cast("dict[str, object]", record)

    def text(name: str) -> str:
        value = fields.get(name)
        if not isinstance(value, str) or not value.strip():
            missing = "is missing" if name not in fields else f"is {value!r}, not a text"
            raise fail(name, missing)
        return shared.setdefault(value, value)

    answer = fields.get("answer")
    if isinstance(answer, int) and not isinstance(answer, bool):
        # The evaluation of NuScenes-QA takes counts as numbers, too.
        fields["answer"] = str(answer)
    if text("answer") not in NUSCENES_QA_ANSWERS:
        raise fail("answer", f"{answer!r} is none of the {len(NUSCENES_QA_ANSWERS)} answers")
    if text("template_type") not in TEMPLATE_TYPES:
        known = ", ".join(TEMPLATE_TYPES)
        raise fail("template_type", f"{fields['template_type']!r} is none of {known}")
    num_hop = fields.get("num_hop")
    if type(num_hop) is not int or num_hop not in (0, 1):
        problem = "is missing" if "num_hop" not in fields else f"is {num_hop!r}, not 0 or 1"
        raise fail("num_hop", problem)
    return QaItem(
        sample_token=text("sample_token"),
        question=text("question"),
        answer=text("answer"),
        template_type=text("template_type"),
        num_hop=num_hop,
        split=text("split"),
        template=text("template") if fields.get("template") is not None else None,
    )
