"""What is right to answer at the keyframes of a data set, from its annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...runtime.errors import SensorError
from ..nuscenes import NuScenes
from .parse import program_of
from .programs import GraphIndex, Program
from .scene_graph import scene_graph


class GroundTruth:
    """The right answers to a few questions, keyframe by keyframe."""

    def __init__(self, data: NuScenes, questions: Sequence[str]) -> None:
        """Read the questions; annotations are read when the first answer is asked for.

        Args:
            data: an opened data set; one without annotations or LiDAR knows no answer.
            questions: in words of our templates; others have no answer.
        """
        self._data = data
        self._programs: list[Program | None] = [program_of(text) for text in questions]
        self._answers: dict[str, tuple[str | None, ...]] = {}
        self._nothing: tuple[str | None, ...] = (None,) * len(questions)
        self._known = any(name.startswith("lidar") for name in data.sensors)

    def at(self, sample_token: str) -> tuple[str | None, ...]:
        """The right answers at a keyframe, one per question.

        None where it hinges on what is barely visible, where the question supposes what is not so
        ("the bus" of two), where nothing is annotated, and for questions of somebody else.

        Raises:
            DataError: there is no such keyframe, or a table of annotations is wrong.
        """
        if sample_token not in self._answers:
            self._answers[sample_token] = self._answer(sample_token)
        return self._answers[sample_token]

    def majority(self, sample_tokens: Sequence[str]) -> tuple[str | None, ...]:
        """The most frequent right answer to each question over some keyframes.

        Whoever looks at nothing cannot do better than to say it each time. Of equals the first in
        the alphabet; None for a question that has no answer anywhere.
        """
        columns = zip(*map(self.at, sample_tokens), strict=True)
        return tuple(_most(column) for column in columns) or self._nothing

    def _answer(self, sample_token: str) -> tuple[str | None, ...]:
        if not (self._known and any(self._programs) and self._data.has_annotations):
            return self._nothing
        try:
            graph = scene_graph(self._data, sample_token)
        except SensorError:  # no file of the LiDAR, so nobody knows where the vehicle was
            return self._nothing
        if not graph.objects:
            # An empty street cannot be told from one that was not annotated.
            return self._nothing
        index = GraphIndex(graph)
        return tuple(None if one is None else index.answer(one) for one in self._programs)


def _most(answers: Sequence[str | None]) -> str | None:
    counts = Counter(answer for answer in answers if answer is not None)
    return min(counts, key=lambda answer: (-counts[answer], answer), default=None)
