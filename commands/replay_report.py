"""What `tailwire replay` prints when it ends: accuracy beside baselines, times, frames, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.files import readable_bytes
from ..runtime.metrics import PEAK_MEMORY_METHOD, peak_memory_bytes
from ..simulation.questions.baselines import MAJORITY_PER_TEMPLATE
from ..simulation.questions.scores import Score, Share
from ..simulation.replay.scoring import ReplayScore, percentiles
from .printing import print_fact, print_table

if TYPE_CHECKING:
    from .replay_view import ReplayTitle
    from .results import Results


def print_summary(
    facts: Mapping[str, object],
    score: ReplayScore,
    title: ReplayTitle,
    results: Results,
    summary_file: Path,
) -> None:
    """Print what a replay came to.

    Args:
        facts: what was kept as JSON.
        score: the counts.
        title: what did not change.
        results: where the answers are.
        summary_file: where the facts are.
    """
    drives = facts["drives"]
    assert isinstance(drives, list)
    whole = "" if facts["complete"] else ", stopped before the end"
    print_fact("played", f"{len(drives)} drive{'s' * (len(drives) != 1)}{whole}: {title.found}")
    print_fact("moments", f"{score.moments_answered} answered, {score.moments_skipped} skipped")
    blind = f", {score.blind} of them with no sensor left" if score.blind else ""
    print_fact("answers", f"{score.answers}{blind}")
    for note in _strings(facts["notes"]):
        print_fact("note", note)
    if title.warning:
        print_fact("warning", title.warning)
    if score.said.overall.questions:
        print_table(_accuracy_rows(score))
    if score.heads:
        mean = score.heads_ms / score.heads
        print_fact("heads", f"{score.heads} of {mean:.0f} ms each, before the frames are there")
    print_fact("step ms", _times(percentiles(score.step_ms)))
    if title.rate is not None:
        print_fact("lag ms", _times(percentiles(score.lag_ms)))
    print_table(_sensor_rows(score))
    print_fact("memory", f"{readable_bytes(peak_memory_bytes())}, {PEAK_MEMORY_METHOD}")
    for bag in _strings(facts["bags"]):
        print_fact("bag", bag)
    print_fact("answers in", f"{results.answers_file} ({results.written} lines)")
    print_fact("summary in", str(summary_file))
    print_fact("settings in", str(results.config_file))


def _accuracy_rows(score: ReplayScore) -> Iterator[Sequence[str]]:
    columns = accuracy_columns(score)
    yield ("accuracy", "questions", *columns)

    def row(name: str, part: Callable[[Score], Share | None]) -> Sequence[str]:
        shares = [part(one) or Share() for one in columns.values()]
        return (name, str(shares[0].questions), *(share_text(share) for share in shares))

    yield row("all", lambda one: one.overall)
    for name in sorted(score.said.by_type):
        yield row(name, lambda one, name=name: one.by_type.get(name))
    for hop in sorted(score.said.by_hop):
        yield row(f"{hop} hop", lambda one, hop=hop: one.by_hop.get(hop))
    for key in sorted(score.said.by_type_and_hop):
        yield row(f"{key[0]}, {key[1]} hop", lambda one, key=key: one.by_type_and_hop.get(key))


def accuracy_columns(score: ReplayScore) -> dict[str, Score]:
    """What stands beside each other: the runtime, the majority answer, and the best blind guess."""
    columns = {"answered": score.said}
    if MAJORITY_PER_TEMPLATE in score.guessed:
        columns["majority"] = score.guessed[MAJORITY_PER_TEMPLATE]
    if score.best_guesser is not None:
        columns["blind"] = score.guessed[score.best_guesser]
    return columns


def share_text(share: Share) -> str:
    """`43.1 %`, or a dash without questions."""
    return "–" if share.accuracy is None else f"{100 * share.accuracy:.1f} %"


def _sensor_rows(score: ReplayScore) -> Iterator[Sequence[str]]:
    yield ("frames", "taken", "late", "withheld", "unreadable", "refused")
    for name, count in score.sensors.items():
        numbers = (count.pushed, count.late, count.withheld, count.unreadable, count.refused)
        yield (name, *map(str, numbers))


def _times(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in found.items()) or "none"


def _strings(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
