"""Makes a question ready to be answered: prompt, head, and the tokens of its allowed answers."""

from __future__ import annotations

from collections.abc import Sequence

from .answering import AskedQuestion
from .errors import ConfigError
from .language_model import LanguageModel
from .pack import PromptSpec
from .questions import AnswerTrie, Question


def as_question(question: str | Question, answers: Sequence[str] | None = None) -> Question:
    """A question from what a caller gave.

    Raises:
        ConfigError: allowed answers are given twice, or as one text.
    """
    if answers is None:
        return question if isinstance(question, Question) else Question(question)
    if isinstance(question, Question):
        raise ConfigError(
            "allowed answers are given beside a Question",
            field="answers",
            remedy="put them into the Question",
        )
    # A text is a sequence of texts too, of one letter each, and never meant so.
    if isinstance(answers, str):
        raise ConfigError(
            f"allowed answers are the text {answers!r}", field="answers", remedy="give a list"
        )
    return Question(question, tuple(answers))


class Preparer:
    """Runs heads and spells answers, for one language model and one prompt."""

    def __init__(self, model: LanguageModel, prompt: PromptSpec) -> None:
        self._model = model
        self._prompt = prompt

    def prepare(self, question: Question, depths: Sequence[int]) -> AskedQuestion:
        """Run a question's head.

        Args:
            question: as asked.
            depths: tail depths whose boundary states are kept.

        Raises:
            ConfigError: question and answer are too long for the model, or answers are spelled
                alike.
        """
        tokens = self._model.tokenizer.encode(self._prompt.render(question.text)).ids
        trie = None
        room = question.max_new_tokens
        if question.answers is not None:
            trie = AnswerTrie(question.answers, self._spell, self._end_token())
            room = trie.depth
        self._check_room(len(tokens), room)
        return AskedQuestion(question, self._model.encode(tokens, sorted(set(depths))), trie)

    def _check_room(self, length: int, room: int) -> None:
        """Refuse here what would otherwise stop the step loop later."""
        limit = self._model.manifest.max_text_tokens
        if length + room > limit:
            raise ConfigError(
                f"a question of {length} tokens leaves no room for an answer of {room}",
                field="question",
                remedy=f"question and answer together may have {limit} tokens",
            )

    def _spell(self, answer: str) -> Sequence[int]:
        text = self._prompt.answer_prefix + answer
        return self._model.tokenizer.encode(text, add_special_tokens=False).ids

    def _end_token(self) -> int:
        ends = self._model.config.eos_token_ids
        if not ends:
            raise ConfigError(
                "the language model names no end-of-text token",
                field="eos_token_id",
                remedy="add it to the model's configuration",
            )
        return ends[0]
