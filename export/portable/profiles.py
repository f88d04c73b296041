"""The sizes that portable graphs are built for: least, usual and most of every free dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from ...runtime.errors import ConfigError

#: A dimension of a tensor: its size, or the name of a free one.
Dim = int | str


class SizeRange(BaseModel):
    """Least, usual and most of one free dimension."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    least: int = Field(gt=0)
    usual: int = Field(gt=0)
    most: int = Field(gt=0)


class SizeLimits(BaseModel):
    """What a robot asks of its engines at most.

    Attributes:
        questions: in one pass, least 1.
        question_tokens: tokens of one question with its answer.
        usual_questions: what engines are tuned for.
        usual_tokens: of a question.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: int = Field(default=8, gt=0)
    question_tokens: int = Field(default=64, gt=1)
    usual_questions: int = Field(default=5, gt=0)
    usual_tokens: int = Field(default=24, gt=0)

    def questions_range(self) -> SizeRange:
        """Of questions in one pass."""
        return _range(1, self.usual_questions, self.questions)

    def tokens_range(self) -> SizeRange:
        """Of the tokens of one question."""
        return _range(1, self.usual_tokens, self.question_tokens)

    def packed_range(self) -> SizeRange:
        """Of the tokens of all questions of a pass, one after the other."""
        usual = min(self.usual_questions, self.questions) * self.usual_tokens
        return _range(1, usual, self.questions * self.question_tokens)


def _range(least: int, usual: int, most: int) -> SizeRange:
    return SizeRange(least=least, usual=min(max(usual, least), most), most=most)


def language_model_sizes(
    limits: SizeLimits, prefix_rows: int, ranks: Mapping[str, int]
) -> dict[str, SizeRange]:
    """Free dimensions of the stages of a language model.

    Args:
        limits: of the robot.
        prefix_rows: most rows of one question's prefix; the rows of all questions of a pass lie in
            front of the tokens.
        ranks: by name of a LoRA's dimension, its largest rank.
    """
    tokens = limits.packed_range()
    questions = limits.questions_range()
    # Behind a question lies its own text, and in front of all that of the others.
    rows = limits.questions * (prefix_rows + limits.question_tokens)
    past = _range(1, questions.usual * prefix_rows, rows)
    return {
        "tokens": tokens,
        "questions": questions,
        "past": past,
        "past_and_new": SizeRange(
            least=past.least + tokens.least,
            usual=past.usual + tokens.usual,
            most=past.most + tokens.most,
        ),
        **{name: _range(1, rank, rank) for name, rank in ranks.items()},
    }


def connection_sizes(limits: SizeLimits, rows: int) -> dict[str, SizeRange]:
    """Free dimensions of a conditioned connection; `rows`: most of all sensors together."""
    tokens, sensor_rows = limits.tokens_range(), _range(1, rows, rows)
    return {
        "questions": limits.questions_range(),
        "tokens": tokens,
        "rows": sensor_rows,
        "kept": _range(2, 1 + rows, 1 + rows),
        "total": SizeRange(
            **{
                name: 1 + getattr(sensor_rows, name) + getattr(tokens, name)
                for name in ("least", "usual", "most")
            }
        ),
    }


def aligner_sizes(rows: int, widths: Sequence[int], hidden: int, out: int) -> dict[str, SizeRange]:
    """Free dimensions of a plain connection; its weights are inputs of the sizes of the pack.

    Args:
        rows: most tokens of one sensor.
        widths: of a token, of all encoders.
        hidden: inner width.
        out: columns of keys.
    """
    return {
        "tokens": _range(1, rows, rows),
        "width": _range(min(widths), max(widths), max(widths)),
        "hidden": _range(hidden, hidden, hidden),
        "out": _range(out, out, out),
    }


def encoder_sizes(sensors: int) -> dict[str, SizeRange]:
    """Free dimensions of an encoder that `sensors` sensors share."""
    return {"batch": _range(1, sensors, sensors)}


def shape_at(shape: Sequence[Dim], sizes: Mapping[str, SizeRange], which: str) -> tuple[int, ...]:
    """A shape with its free dimensions filled in.

    Args:
        shape: of a tensor.
        sizes: by name of the dimension.
        which: `least`, `usual` or `most`.

    Raises:
        ConfigError: a free dimension has no sizes.
    """
    missing = [d for d in shape if isinstance(d, str) and d not in sizes]
    if missing:
        raise ConfigError(
            f"no sizes are known of the free dimension '{missing[0]}'",
            field="profile",
            remedy="this is a fault of the exporter; please report it",
        )
    return tuple(d if isinstance(d, int) else int(getattr(sizes[d], which)) for d in shape)
