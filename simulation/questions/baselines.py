"""What answers score that look at no sensor: majorities, and classifiers of the words alone.

A model that is no better than these has seen nothing. They are fitted on the training split and
tested on the other, whose scenes are others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from ...runtime.errors import DataError
from .blind import WordRegression
from .items import QaItem
from .scores import Score, score

#: Texts seen fewer times in training are answered by their template's majority.
_MIN_SEEN = 3

MAJORITY = "majority"
MAJORITY_PER_TEMPLATE = "majority per template"
SAME_TEXT = "same text"
WORDS = "words"


@dataclass(frozen=True)
class Baselines:
    """Fitted baselines, by name.

    `majority`: the most frequent answer of all; `majority per template`: of the template, or of
    type and hops where files name no template; `same text`: of the same question in training,
    else the one before; `words`: a regression over words, pairs and triples of words.
    """

    _majority: str
    _by_template: Mapping[Hashable, str]
    _by_text: Mapping[Hashable, str]
    _words: WordRegression

    @classmethod
    def fit(cls, train: Sequence[QaItem]) -> Baselines:
        """Fit on questions whose answers are known; seconds for some ten thousand.

        Raises:
            DataError: there is no question.
        """
        if not train:
            raise DataError(
                "there is no question to fit baselines on",
                field="questions",
                remedy="give the training split of a question file",
            )
        answers = Counter(item.answer for item in train)
        by_text = _counts([(item.question, item.answer) for item in train])
        often = {text: found for text, found in by_text.items() if found.total() >= _MIN_SEEN}
        return cls(
            _most(answers),
            _majorities(_counts([(_template_key(item), item.answer) for item in train])),
            _majorities(often),
            WordRegression([item.question for item in train], [item.answer for item in train]),
        )

    def predict(self, items: Sequence[QaItem]) -> dict[str, list[str]]:
        """Name of each baseline to one answer per question; right answers are not looked at."""
        template = [self._by_template.get(_template_key(item), self._majority) for item in items]
        return {
            MAJORITY: [self._majority] * len(items),
            MAJORITY_PER_TEMPLATE: template,
            SAME_TEXT: [
                self._by_text.get(item.question, guess)
                for item, guess in zip(items, template, strict=True)
            ],
            WORDS: self._words.predict([item.question for item in items]),
        }

    def scores(self, items: Sequence[QaItem]) -> dict[str, Score]:
        """Name of each baseline to its score on these questions."""
        return {name: score(items, answers) for name, answers in self.predict(items).items()}


def blind_score(scores: Mapping[str, Score]) -> tuple[str, Score]:
    """The best baseline over all questions and its name: what "blind" means in our tables.

    It is chosen by its score on the very questions that it is reported for, which can only make
    blindness look better and a model look worse.
    """
    name = max(scores, key=lambda name: scores[name].overall.accuracy or 0.0)
    return name, scores[name]


def _template_key(item: QaItem) -> Hashable:
    return item.template or (item.template_type, item.num_hop)


def _counts(pairs: Sequence[tuple[Hashable, str]]) -> dict[Hashable, Counter[str]]:
    found: defaultdict[Hashable, Counter[str]] = defaultdict(Counter)
    for key, answer in pairs:
        found[key][answer] += 1
    return dict(found)


def _majorities(counts: Mapping[Hashable, Counter[str]]) -> dict[Hashable, str]:
    return {key: _most(answers) for key, answers in counts.items()}


def _most(answers: Counter[str]) -> str:
    """The most frequent answer, of equals the first in the alphabet."""
    return min(answers, key=lambda answer: (-answers[answer], answer))
