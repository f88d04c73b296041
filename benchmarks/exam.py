"""What `tailwire eval` asks: questions with answers about keyframes of drives, split by scene.

Data sets are opened and questions chosen here; who answers them is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import ConfigError, DataError
from ..simulation.nuscenes import NuScenes, Scene
from ..simulation.questions.conditions import CONDITIONS, check_conditions, condition_of
from ..simulation.questions.files import FOLDER, question_file, read_questions, with_train_split
from ..simulation.questions.items import QaItem
from ..simulation.replay.planning import select


@dataclass(frozen=True)
class ExamDrive:
    """A scene that is asked about.

    Attributes:
        name: of the scene, with its data set in front where there are several.
        condition: of light and weather.
        data: its data set.
        scene: its record.
        tokens: of its keyframes, in stamp order.
    """

    name: str
    condition: str
    data: NuScenes
    scene: Scene
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Exam:
    """All that is asked.

    Attributes:
        drives: those with at least one question.
        items: the questions, in the order of their files.
        train: questions of the train split, which blind guesses are learned from; of the same data
            sets where there are any.
        split: of the questions.
        files: they were read from.
        left_out: why questions of the files are not asked, to how many.
        notes: what a reader of the figures should know.
    """

    drives: tuple[ExamDrive, ...]
    items: tuple[QaItem, ...]
    train: tuple[QaItem, ...]
    split: str
    files: tuple[Path, ...]
    left_out: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def asked_tokens(self) -> frozenset[str]:
        """Keyframes that have a question."""
        return frozenset(item.sample_token for item in self.items)


def set_exam(
    dataroots: Sequence[Path],
    *,
    version: str | None = None,
    files: Sequence[Path] = (),
    split: str = "val",
    conditions: Sequence[str] = CONDITIONS,
    limit: int | None = None,
    keyframes: int | None = None,
) -> Exam:
    """Open data sets and choose questions.

    Args:
        dataroots: of nuScenes data sets, real or made.
        version: of all of them; None where each has only one.
        files: of questions; none takes those that lie in each dataroot.
        split: `val`, `train` or `all`.
        conditions: only drives of these.
        limit: most questions of a keyframe, evenly over those that the file has of it.
        keyframes: most keyframes in all, evenly over those that have questions.

    Raises:
        ConfigError: a condition is unknown, or a data set given twice.
        DataError: a data set or a file is broken, a scene is in both splits, or nothing is left.
    """
    check_conditions(conditions, "--conditions")
    drives = _open(dataroots, version)
    kept = [drive for drive in drives if drive.condition in conditions]
    if not kept:
        there = ", ".join(dict.fromkeys(drive.condition for drive in drives))
        raise DataError(
            f"no drive is of the condition {', '.join(conditions)}; there are {there}",
            field="--conditions",
            remedy="name other conditions, or other data sets",
        )
    paths = tuple(files) or tuple(_beside(dataroots))
    items = [item for path in paths for item in read_questions(path)]
    everything = with_train_split(paths, items)
    _check_split_by_scene(drives, everything)
    tokens = {token for drive in kept for token in drive.tokens}
    named = ", ".join(map(str, paths))
    selection = select(items, tokens, split=split, limit=limit, file=named)
    chosen = list(selection.items)
    left_out = {
        "of another split": selection.other_split,
        "about keyframes that are not here or of other conditions": selection.elsewhere,
        "over the limit of a keyframe": selection.over_limit,
    }
    if keyframes is not None:
        some = _evenly(kept, {item.sample_token for item in chosen}, keyframes)
        left_out["about keyframes beyond the number asked for"] = sum(
            item.sample_token not in some for item in chosen
        )
        chosen = [item for item in chosen if item.sample_token in some]
    asked = {item.sample_token for item in chosen}
    train = [item for item in everything if item.split == "train"]
    here = {token for drive in drives for token in drive.tokens}
    own = [item for item in train if item.sample_token in here]
    return Exam(
        drives=tuple(drive for drive in kept if asked & set(drive.tokens)),
        items=tuple(chosen),
        train=tuple(own or train),
        split=split,
        files=paths,
        left_out={why: count for why, count in left_out.items() if count},
        notes=tuple(_notes(split, own, train)),
    )


def _open(dataroots: Sequence[Path], version: str | None) -> list[ExamDrive]:
    """The scenes with a keyframe, in the order of the data sets and their tables."""
    drives: list[ExamDrive] = []
    opened: dict[Path, str] = {}
    owner: dict[str, Path] = {}
    for root in dataroots:
        if root.resolve() in opened:
            raise ConfigError(
                "this data set is given twice",
                field=f"--dataroot {root}",
                remedy="give each data set once",
            )
        folder = root.resolve().name
        # Two data sets in folders of one name are told apart by their whole paths.
        opened[root.resolve()] = label = str(root) if folder in opened.values() else folder
        data = NuScenes.open(root, version)
        for scene in data.scenes:
            tokens = tuple(sample.token for sample in data.samples(scene))
            for token in tokens:
                if owner.setdefault(token, root) is not root:
                    raise DataError(
                        f"keyframe {token} is in {owner[token]} too: its questions could be "
                        "about either",
                        field=f"--dataroot {root}",
                        remedy="evaluate these data sets one by one",
                    )
            if tokens:
                name = f"{label}/{scene.name}" if len(dataroots) > 1 else scene.name
                condition = condition_of(scene.description)
                drives.append(ExamDrive(name, condition, data, scene, tokens))
    return drives


def _beside(dataroots: Sequence[Path]) -> list[Path]:
    """The question files in the dataroots.

    Raises:
        DataError: a dataroot has none.
    """
    found: list[Path] = []
    for root in dataroots:
        own = [question_file(root / FOLDER, split) for split in ("train", "val")]
        own = [path for path in own if path.is_file()]
        if not own:
            raise DataError(
                "there is no file of questions",
                field=str(root / FOLDER),
                remedy="make one with `tailwire questions DATAROOT`, or name one with --questions",
            )
        found += own
    return found


def _check_split_by_scene(drives: Sequence[ExamDrive], items: Sequence[QaItem]) -> None:
    """Refuse questions whose scene was trained on.

    Raises:
        DataError: a scene has questions of more than one split.
    """
    drive_of = {token: drive.name for drive in drives for token in drive.tokens}
    split_of: dict[str, str] = {}
    for item in items:
        drive = drive_of.get(item.sample_token)
        if drive is None:
            continue
        known = split_of.setdefault(drive, item.split)
        if known != item.split:
            raise DataError(
                f"{drive} has questions of the splits '{known}' and '{item.split}', so what is "
                "tested could have been trained on",
                field="split",
                remedy="split by scene: give all questions of a scene one split",
            )


def _evenly(drives: Sequence[ExamDrive], asked: set[str], count: int) -> set[str]:
    """Some of the keyframes that have questions, evenly over all drives."""
    tokens = [token for drive in drives for token in drive.tokens if token in asked]
    count = min(count, len(tokens))
    return {tokens[place * len(tokens) // count] for place in range(count)}


def _notes(split: str, own: Sequence[QaItem], train: Sequence[QaItem]) -> list[str]:
    if not train:
        return ["no blind guesses: there is no train split to learn them from"]
    notes: list[str] = []
    if not own:
        notes.append("blind guesses were learned from drives that are not here")
    if split != "val":
        notes.append("pack and blind guesses may have been trained on these very questions")
    return notes
