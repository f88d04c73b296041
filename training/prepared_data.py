"""What connections learn from in one file, so that they can be trained on another machine.

Drives and encoders stay where they are; tokens, questions and answers travel. Head states are
computed where training runs.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.object_tokens import mirrored_rows
from ..runtime.adaptation.samples import HeadTexts, Mirror, Samples, TrainingData
from ..runtime.errors import DataError
from ..runtime.files import open_atomic
from ..simulation.questions.items import QaItem
from .question_samples import mirrored_text

_FORMAT = 1


@dataclass(frozen=True)
class HeldOut:
    """What is known of the held-out decisions, for figures.

    Attributes:
        questions: the questions.
        question: int64 `[decisions]`, row in `questions`; a question is right if all of its are.
        conditions: of light and weather, by question.
        guesses: answers that see no sensor, by name of the baseline.
        scenes: by question; empty where they are not known, as in files of before.
    """

    questions: Sequence[QaItem]
    question: NDArray[np.int64]
    conditions: Sequence[str]
    guesses: Mapping[str, Sequence[str]]
    scenes: Sequence[str] = ()


@dataclass(frozen=True)
class PreparedData:
    """All that a training reads but the head states of its texts.

    Attributes:
        tokens: by sensor float16 `[moments, tokens, width]`; a row of zeros is no token.
        matches: by sensor int16 `[moments, tokens]`, see `TrainingData`.
        conditions: of light and weather, by moment.
        texts: distinct ones, by their tokens.
        mirrored: int32 `[texts]`, see `Mirror`.
        choices: sets of allowed tokens.
        groups: types of questions.
        train: decisions of the training scenes.
        held_out: of the others.
        known: of the held-out ones.
        origin: sensors, drives, encoders and language model that it was made of; JSON can hold it.
    """

    tokens: Mapping[str, NDArray[np.float16]]
    matches: Mapping[str, NDArray[np.int16]]
    conditions: Sequence[str]
    texts: Sequence[tuple[int, ...]]
    mirrored: NDArray[np.int32]
    choices: Sequence[tuple[int, ...]]
    groups: Sequence[str]
    train: Samples
    held_out: Samples
    known: HeldOut
    origin: Mapping[str, Any]

    def with_heads(
        self, heads: HeadTexts, wanted: Callable[[str], bool] = lambda sensor: True
    ) -> TrainingData:
        """What a trainer takes.

        Args:
            heads: of `texts`.
            wanted: tells which sensors to keep.
        """
        sensors = [sensor for sensor in self.tokens if wanted(sensor)]
        return TrainingData(
            {sensor: self.tokens[sensor] for sensor in sensors},
            heads,
            self.choices,
            self.train,
            self.held_out,
            self.groups,
            {sensor: self.matches[sensor] for sensor in sensors},
            _mirror(self.mirrored, sensors),
        )


def chosen_questions(count: int, most: int, seed: int) -> list[int]:
    """Which held-out questions are looked at: rows in their order, at most `most` of `count`."""
    return np.sort(np.random.default_rng([seed, 5]).permutation(count)[:most]).tolist()


def of_conditions(data: PreparedData, conditions: Collection[str]) -> PreparedData:
    """Without decisions of other conditions, and without texts that only these have.

    Args:
        data: of a training.
        conditions: of light and weather, to keep.
    """
    kept = np.array([one in conditions for one in data.conditions])
    train, held_out = (
        samples.take(np.flatnonzero(kept[samples.moment]))
        for samples in (data.train, data.held_out)
    )
    known = data.known
    asked = np.array([one in conditions for one in known.conditions])
    places = np.flatnonzero(asked)
    texts, numbers = np.unique(np.concatenate([train.text, held_out.text]), return_inverse=True)
    first, second = np.split(numbers.astype(np.int32), [len(train)])
    return replace(
        data,
        texts=[data.texts[text] for text in texts],
        # Mirrored texts may be gone.
        mirrored=np.arange(len(texts), dtype=np.int32),
        train=replace(train, text=first),
        held_out=replace(held_out, text=second),
        known=_questions_kept(known, places, known.question[asked[known.question]]),
    )


def _questions_kept(
    known: HeldOut, places: NDArray[np.int64], question: NDArray[np.int64]
) -> HeldOut:
    """Some questions; `question` are those of the decisions that are left, by their old row."""
    kept: list[int] = places.tolist()
    return HeldOut(
        [known.questions[place] for place in kept],
        np.searchsorted(places, question),
        [known.conditions[place] for place in kept],
        {name: [found[place] for place in kept] for name, found in known.guesses.items()},
        [known.scenes[place] for place in kept] if known.scenes else (),
    )


def held_out_part(data: PreparedData, most: int, seed: int) -> PreparedData:
    """Some held-out questions and nothing to learn, for looking at finished weights.

    Args:
        data: of a training.
        most: questions to keep.
        seed: of the choice.
    """
    known = data.known
    chosen = chosen_questions(len(known.questions), most, seed)
    decisions = np.flatnonzero(np.isin(known.question, chosen))
    held_out = data.held_out.take(decisions)
    texts, numbers = np.unique(held_out.text, return_inverse=True)
    held_out = replace(held_out, text=numbers.astype(np.int32))
    return replace(
        data,
        texts=[data.texts[text] for text in texts],
        mirrored=np.arange(len(texts), dtype=np.int32),
        # One sample to learn keeps a trainer content; it is never drawn.
        train=held_out.take(slice(0, 1)),
        held_out=held_out,
        known=_questions_kept(known, np.array(chosen, np.int64), known.question[decisions]),
    )


def _mirror(texts: NDArray[np.int32], sensors: Sequence[str]) -> Mirror | None:
    """Left and right, where all sensors have a partner and texts were mirrored."""
    words = {sensor: mirrored_text(sensor.replace("_", " ")) for sensor in sensors}
    partners = {sensor: text.replace(" ", "_") for sensor, text in words.items()}
    if not set(partners.values()) <= set(sensors) or (texts == np.arange(len(texts))).all():
        return None
    return Mirror(texts, partners, *mirrored_rows())


def write_prepared(path: Path, data: PreparedData) -> None:
    """Write one compressed file, whole or not at all.

    Raises:
        CacheError: the folder cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for sensor in data.tokens:
        arrays[f"tokens/{sensor}"] = data.tokens[sensor]
        arrays[f"matches/{sensor}"] = data.matches[sensor]
    arrays["texts"] = np.concatenate([np.asarray(text, np.int32) for text in data.texts])
    arrays["text_lengths"] = np.array([len(text) for text in data.texts], np.int32)
    for name, samples in (("train", data.train), ("held_out", data.held_out)):
        for field in fields(samples):
            column = getattr(samples, field.name)
            if column is not None:
                arrays[f"{name}/{field.name}"] = column
    arrays["mirrored"] = data.mirrored
    arrays["known"] = data.known.question
    about = {
        "format": _FORMAT,
        "origin": data.origin,
        "conditions": list(data.conditions),
        "choices": data.choices,
        "groups": data.groups,
        "questions": [asdict(item) for item in data.known.questions],
        "question_conditions": list(data.known.conditions),
        "guesses": data.known.guesses,
        "question_scenes": list(data.known.scenes),
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with open_atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(f"{name}.npy", content.getvalue())


def read_prepared(path: Path) -> PreparedData:
    """Read what `write_prepared` wrote; nothing in it is run.

    Raises:
        DataError: there is no such file, or it is broken or of another version.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop("about").tobytes())
        if about["format"] != _FORMAT:
            raise ValueError(f"format {about['format']}, not {_FORMAT}")
        return _read(arrays, about)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"the prepared data cannot be read ({type(error).__name__}: {error})",
            field=str(path),
            remedy="make it again: tailwire train connections --prepare-only ...",
        ) from error


def _read(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> PreparedData:
    def of(kind: str) -> dict[str, NDArray[Any]]:
        return {
            name.removeprefix(f"{kind}/"): array
            for name, array in arrays.items()
            if name.startswith(f"{kind}/")
        }

    ends = np.cumsum(arrays["text_lengths"])[:-1]
    return PreparedData(
        of("tokens"),
        of("matches"),
        about["conditions"],
        [tuple(text.tolist()) for text in np.split(arrays["texts"], ends)],
        arrays["mirrored"],
        [tuple(choice) for choice in about["choices"]],
        about["groups"],
        Samples(**of("train")),
        Samples(**of("held_out")),
        HeldOut(
            [QaItem(**item) for item in about["questions"]],
            arrays["known"],
            about["question_conditions"],
            about["guesses"],
            about.get("question_scenes", ()),
        ),
        about["origin"],
    )
