"""Which questions `tailwire replay` asks: those of a file, the user's own, or the data set's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..runtime.errors import ConfigError, DataError
from ..runtime.questions import Question
from ..simulation.questions.baselines import Baselines
from ..simulation.questions.files import FOLDER, question_file, read_questions, with_train_split
from ..simulation.replay.asking import PlannedQuestion, QuestionPlan
from ..simulation.replay.planning import Selection, planned_by_sample, select
from .replay_sources import Found


@dataclass(frozen=True)
class ChosenQuestions:
    """What is going to be asked; nothing at all leaves it to the pack.

    Attributes:
        plan: the questions.
        files: they were read from.
        split: of the questions of the files.
        selection: what was taken of them, None without files.
        learned_from: questions of the train split that baselines were learned from.
    """

    plan: QuestionPlan
    files: Sequence[Path] = ()
    split: str = ""
    selection: Selection | None = field(default=None, repr=False)
    learned_from: int = 0

    @property
    def notes(self) -> list[str]:
        """What a user should know of the questions, a line each."""
        if self.selection is None:
            return []
        left = [
            (self.selection.elsewhere, "are about keyframes that are not played"),
            (self.selection.over_limit, "are over the limit of a keyframe"),
        ]
        notes = [f"{count} questions of the file {why}" for count, why in left if count]
        if not self.learned_from:
            notes.append("no baselines: there is no train split to learn them from")
        elif self.split != "val":
            notes.append("the baselines were learned from some of these very questions")
        return notes

    def as_json(self) -> dict[str, object]:
        """For the summary of a replay."""
        if self.selection is None:
            return {"question_files": []}
        return {
            "question_files": [str(file) for file in self.files],
            "split": self.split,
            "questions_planned": len(self.selection.items),
            "questions_of_other_drives": self.selection.elsewhere,
            "questions_of_other_splits": self.selection.other_split,
            "questions_over_limit": self.selection.over_limit,
            "baselines_learned_from": self.learned_from,
        }


def choose_questions(
    path: Path,
    found: Found,
    *,
    file: Path | None,
    split: str | None,
    limit: int | None,
    standing: Sequence[Question],
) -> ChosenQuestions:
    """Choose the questions of a replay.

    Args:
        path: of the drives.
        found: the drives.
        file: of questions; None takes those of the data set, unless there are standing ones.
        split: None takes `val` where the file has it, else all.
        limit: most questions of the file per keyframe.
        standing: asked at every moment.

    Raises:
        DataError: the file is broken, or none of its questions is about these drives.
        ConfigError: an option needs a file, and there is none.
    """
    own = QuestionPlan(standing=[PlannedQuestion(question) for question in standing])
    files = _files(path, file, wanted=not standing)
    if not files:
        for option, value in (("--split", split), ("--limit", limit)):
            if value is not None:
                raise ConfigError(
                    "there is no file of questions to choose from",
                    field=option,
                    remedy="name one with --questions FILE",
                )
        return ChosenQuestions(own)
    tokens = {token for entry in found.entries for token in entry.sample_tokens}
    named = ", ".join(map(str, files))
    if not tokens:
        raise DataError(
            "the drive has no keyframes, so no question of a file is about it",
            field=named,
            remedy="ask standing questions with --question TEXT",
        )
    items = [item for one in files for item in read_questions(one)]
    if split is None:
        here = any(item.split == "val" and item.sample_token in tokens for item in items)
        split = "val" if here else "all"
    selection = select(items, tokens, split=split, limit=limit, file=named)
    train = [item for item in with_train_split(files, items) if item.split == "train"]
    guesses = Baselines.fit(train).predict(selection.items) if train else {}
    plan = QuestionPlan(own.standing, planned_by_sample(selection.items, guesses))
    return ChosenQuestions(plan, files, split, selection, len(train))


def _files(path: Path, file: Path | None, *, wanted: bool) -> list[Path]:
    """The files to read; those of the data set only where nothing else is asked."""
    if file is not None:
        return [file]
    beside = [question_file(path / FOLDER, split) for split in ("train", "val")]
    return [one for one in beside if one.is_file()] if wanted else []
