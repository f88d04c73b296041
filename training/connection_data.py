"""What connections learn from, made of drives: tokens, questions, traces, matches.

Tokens are slow to make and lie in a cache folder, by drives and encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ..export.checkpoint import Checkpoint
from ..runtime.encoders import Encoder
from ..runtime.errors import ConfigError, DataError
from ..runtime.pack import PromptSpec
from ..simulation.annotated_objects import OBJECTS, annotated_objects
from ..simulation.questions.baselines import Baselines
from ..simulation.questions.files import question_file, read_questions
from ..simulation.questions.items import QaItem
from .moments import TrainingMoment
from .prepared_data import HeldOut, PreparedData
from .question_samples import question_samples
from .sensor_tokens import sensor_tokens
from .traces import Traces, matches_of

#: What is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


def read_drive_questions(dataroots: Sequence[Path]) -> list[QaItem]:
    """The questions that lie in data sets, train before held out, data set by data set.

    Raises:
        DataError: a file is missing or broken.
    """
    return [
        item
        for root in dataroots
        for split in ("train", "val")
        for item in read_questions(question_file(root / "questions", split))
    ]


def prepared_data(
    moments: Sequence[TrainingMoment],
    items: Sequence[QaItem],
    sensors: Mapping[str, str],
    encoders: Mapping[str, Encoder],
    encoders_identity: str,
    checkpoint: Checkpoint,
    prompt: PromptSpec,
    cache: Path,
    origin: Mapping[str, Any],
    mirror: bool = False,
    progress: Progress = lambda what, done, count: None,
) -> PreparedData:
    """Make or take from the cache all that a training run reads, but head states.

    Args:
        moments: the keyframes.
        items: questions about them; others are left out.
        sensors: encoder name by sensor, in the pack's order.
        encoders: by name, as they will run.
        encoders_identity: of their weights.
        checkpoint: of the language model, for its tokenizer.
        prompt: around a question.
        cache: folder.
        origin: see `PreparedData`.
        mirror: whether texts are also there with left and right exchanged.
        progress: told what is being made.

    Raises:
        ConfigError: there are no questions to learn from, or none is held out.
        DataError: no drive has a sensor.
    """
    rows = {moment.token: row for row, moment in enumerate(moments)}
    known = [item for item in items if item.sample_token in rows]
    _check_questions(known)
    _check_sensors(moments, sensors)
    tokens = sensor_tokens(
        moments,
        sensors,
        encoders,
        encoders_identity,
        cache,
        lambda done, count: progress("tokens", done, count),
    )
    traces, told = Traces(moments), iter(range(1, len(known) + 1))

    def trace(item: QaItem):
        progress("questions", next(told), len(known))
        return traces(item)

    questions = question_samples(
        known,
        rows,
        Tokenizer.from_str(checkpoint.tokenizer_json()),
        checkpoint.config.eos_token_ids,
        prompt,
        traces=trace,
        mirror=mirror,
    )
    return PreparedData(
        tokens,
        _matches(moments, tokens),
        [moment.condition for moment in moments],
        questions.texts,
        questions.mirrored,
        questions.choices,
        questions.groups,
        questions.train,
        questions.held_out,
        _held_out(known, questions.held_out_items, moments, rows),
        origin,
    )


def _check_questions(items: Sequence[QaItem]) -> None:
    for split, wanted in (("train", "to learn from"), ("val", "held out")):
        if not any(item.split == split for item in items):
            raise ConfigError(
                f"no question about these keyframes is {wanted}",
                field="--dataroot",
                remedy="give drives of at least two scenes with questions (tailwire questions), "
                "or more conditions",
            )


def _check_sensors(moments: Sequence[TrainingMoment], sensors: Iterable[str]) -> None:
    there = {OBJECTS}.union(*(moment.data.sensors for moment in moments))
    for sensor in sensors:
        if sensor not in there:
            raise DataError(
                "no drive has this sensor",
                field=sensor,
                remedy="give drives that have it, or leave it out of --sensors",
            )


def _matches(
    moments: Sequence[TrainingMoment], tokens: Mapping[str, NDArray[np.float16]]
) -> dict[str, NDArray[np.int16]]:
    found = [
        matches_of(
            {sensor: rows[number] for sensor, rows in tokens.items()},
            annotated_objects(moment.data, moment.token),
        )
        for number, moment in enumerate(moments)
    ]
    return {sensor: np.stack([one[sensor] for one in found]) for sensor in tokens}


def _held_out(
    items: Sequence[QaItem],
    owners: NDArray[np.int64],
    moments: Sequence[TrainingMoment],
    rows: Mapping[str, int],
) -> HeldOut:
    numbers, question = np.unique(owners, return_inverse=True)
    questions = [items[number] for number in numbers]
    baselines = Baselines.fit([item for item in items if item.split == "train"])
    about = [moments[rows[item.sample_token]] for item in questions]
    # Scenes of two data sets may have the same name.
    roots = {key: number for number, key in enumerate({id(moment.data): 0 for moment in about})}
    return HeldOut(
        questions,
        question,
        [moment.condition for moment in about],
        baselines.predict(questions),
        [f"{roots[id(moment.data)]}/{moment.scene}" for moment in about],
    )
