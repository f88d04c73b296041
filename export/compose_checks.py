"""Whether packs fit together: the same base model, tokenizer and prompt, sensors that differ.

Whatever does not fit is refused by the name of its field before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..runtime.errors import PackError
from .compose_parts import Part

#: Beginnings of SPDX identifiers, in lower case, and what they ask of whoever passes the pack on.
_TERMS = (
    ("cc-by-nc-sa", "not for commercial use; changed versions under the same licence"),
    ("cc-by-nc-nd", "not for commercial use; changed versions may not be passed on"),
    ("cc-by-nc", "not for commercial use"),
    ("cc-by-nd", "changed versions may not be passed on"),
    ("cc-by-sa", "changed versions under the same licence"),
    ("cc-by", "name the authors"),
    ("agpl", "source to whoever uses it, over a network too; under the same licence"),
    ("gpl", "source to whoever gets it; under the same licence"),
    ("lgpl", "source of the licensed part to whoever gets it"),
    ("apache-2.0", "keep licence and notices"),
    ("mit", "keep licence and notices"),
    ("bsd", "keep licence and notices"),
    ("llama", "the terms of use of Llama models"),
    ("gemma", "the terms of use of Gemma models"),
)


def check_parts(parts: Sequence[Part]) -> list[str]:
    """Refuse packs that cannot answer as one.

    Args:
        parts: at least one.

    Returns:
        Notes on what could not be checked.

    Raises:
        PackError: naming the first field that does not fit.
    """
    notes: list[str] = []
    first = parts[0]
    for other in parts[1:]:
        notes += _check_base(first, other)
        _check_prompt(first, other)
        _check_depth(first, other)
    for part in parts:
        if part.manifest.connection.kind != "plain":
            raise PackError(
                "its connection is question-conditioned: all its sensors go through one small "
                "transformer with the question, and two transformers cannot become one exactly",
                field=f"{part.label}: connection.kind",
                remedy="compose packs with plain connections "
                "(tailwire train connections --kind plain)",
            )
        if not part.manifest.trained:
            notes.append(f"{part.label} is not trained, so the composed pack is not either")
    _check_sensors(parts)
    _check_registry(parts)
    return notes


def _check_base(first: Part, other: Part) -> list[str]:
    notes: list[str] = []
    one, two = first.manifest.base_model, other.manifest.base_model
    for field in ("hidden_size", "num_blocks", "num_kv_heads", "head_dim"):
        if getattr(one, field) != getattr(two, field):
            _refuse(
                f"{field} is {getattr(two, field)}, in {first.label} it is {getattr(one, field)}",
                other,
                f"base_model.{field}",
                "compose packs made for the same language model",
            )
    for field, what in (("sha256", "language model"), ("tokenizer_sha256", "tokenizer")):
        mine, theirs = getattr(one, field), getattr(two, field)
        if mine is not None and theirs is not None:
            if mine != theirs:
                _refuse(
                    f"the {what} is another one ({theirs[:12]}…) than in {first.label} "
                    f"({mine[:12]}…)",
                    other,
                    f"base_model.{field}",
                    f"compose packs made for the same {what}",
                )
            if field == "sha256":
                return notes  # one checkpoint has one tokenizer
        elif one.name != two.name:
            _refuse(
                f"made for '{two.name}', {first.label} for '{one.name}', and one of them does not "
                f"say the hash of its {what}",
                other,
                "base_model.name",
                "compose packs made for the same language model",
            )
        else:
            silent = (first if mine is None else other).label
            notes.append(f"{silent} does not say the hash of its {what}; only names were compared")
    return notes


def _check_prompt(first: Part, other: Part) -> None:
    for field in ("template", "answer_prefix"):
        mine, theirs = (getattr(part.manifest.prompt, field) for part in (first, other))
        if mine != theirs:
            _refuse(
                f"{theirs!r} where {first.label} has {mine!r}; a question is put once, to all",
                other,
                f"prompt.{field}",
                "train the packs with one prompt",
            )


def _check_depth(first: Part, other: Part) -> None:
    mine, theirs = (part.manifest.connection.tail_blocks for part in (first, other))
    if mine != theirs:
        _refuse(
            f"its tail is {theirs} blocks deep, that of {first.label} {mine}; in a block where a "
            "modality has no keys the others must have none either",
            other,
            "connection.tail_blocks",
            "train the packs with one depth of the tail",
        )


def _check_sensors(parts: Sequence[Part]) -> None:
    owner: dict[str, Part] = {}
    for part in parts:
        for sensor in part.manifest.sensor_encoders:
            if sensor in owner:
                _refuse(
                    f"the sensor '{sensor}' is in {owner[sensor].label} too",
                    part,
                    "sensors",
                    "compose packs of different sensors, or drop it from one "
                    "(tailwire adapt --drop)",
                )
            owner[sensor] = part


def _check_registry(parts: Sequence[Part]) -> None:
    known: dict[str, tuple[Part, str]] = {}
    for part in parts:
        for name, spec in part.manifest.files.items():
            if spec.registry is None:
                continue
            other, digest = known.setdefault(name, (part, spec.sha256))
            if digest != spec.sha256:
                _refuse(
                    f"'{name}' of the registry is another one than in {other.label}",
                    part,
                    f"files.{name}",
                    "make the packs with one version of it",
                )


def licence_notes(parts: Sequence[Part]) -> tuple[tuple[str, ...], list[str]]:
    """Licences of all parts, and what each of them asks.

    Returns:
        All licences, in alphabetical order; and a line for each with the parts that it is of.
    """
    of: dict[str, list[str]] = {}
    for part in parts:
        encoders = (spec.licence for spec in part.manifest.encoders.values())
        for licence in dict.fromkeys((*part.manifest.licences, *encoders)):
            of.setdefault(licence, []).append(part.name)
    lines = []
    for licence in sorted(of):
        asked = [terms for begin, terms in _TERMS if licence.lower().startswith(begin)]
        terms = asked[0] if asked else "not known here, read it"
        lines.append(f"{licence} ({', '.join(sorted(of[licence]))}): {terms}")
    silent = [part.label for part in parts if not part.manifest.licences]
    lines += [f"{label} states no licence: ask its makers" for label in silent]
    return tuple(sorted(of)), lines


def _refuse(problem: str, part: Part, field: str, remedy: str) -> None:
    raise PackError(problem, field=f"{part.label}: {field}", remedy=remedy)
