"""What `tailwire eval` prints and keeps: one table, one JSON object, two pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..benchmarks.evaluation_figures import accuracy_rows, set_figures
from ..benchmarks.evaluation_plots import draw_evaluation
from ..benchmarks.measure import machine_card
from ..runtime.errors import CacheError, ConfigError
from ..runtime.files import readable_bytes, write_atomic
from ..runtime.metrics import PEAK_MEMORY_METHOD, peak_memory_bytes
from .printing import print_fact, print_table

if TYPE_CHECKING:
    from ..benchmarks.evaluation import Evaluation
    from ..benchmarks.exam import Exam
    from ..runtime.config import RuntimeConfig
    from ..runtime.runtime import Runtime
    from .results import Results

_SHOWN_COVERAGES = (1.0, 0.8, 0.5, 0.2)


@dataclass
class EvaluationReport:
    """All that is told of an evaluation.

    Attributes:
        runtime: that answered.
        config: that it was loaded with.
        exam: what was asked.
        evaluation: has the answers.
        sets: sensors by the name of the set; the first is the main one.
        bound_name: of the set that gives the bound, None without one.
        no_bound: why there is none.
        results: where it is kept, None to keep nothing.
        complete: whether everything was asked.
    """

    runtime: Runtime
    config: RuntimeConfig
    exam: Exam
    evaluation: Evaluation
    sets: Mapping[str, Sequence[str]]
    bound_name: str | None
    no_bound: str
    results: Results | None
    complete: bool = False

    def tell(self, *, as_json: bool) -> None:
        """Print and keep what the answers come to; there must be one.

        Args:
            as_json: print one line of JSON instead of text.

        Raises:
            ConfigError: results cannot be written.
        """
        facts = self._facts()
        pictures, missing = self._keep(facts)
        if as_json:
            print(json.dumps(facts, separators=(",", ":")), flush=True)
        else:
            self._print(facts, pictures)
        if missing:
            print(f"note: {missing}", file=sys.stderr)

    def _keep(self, facts: dict[str, Any]) -> tuple[list[str], str]:
        """Write the files; pictures may be missing, with the reason."""
        if self.results is None:
            return [], ""
        folder = self.results.folder
        try:
            write_atomic(folder / "eval.json", json.dumps(facts, indent=1) + "\n")
            try:
                pictures = draw_evaluation(folder, facts["sensor_sets"], facts["blind_accuracy"])
            except ConfigError as error:
                return [], f"{error.problem} ({error.remedy})"
        except CacheError as error:
            raise ConfigError(
                f"the results cannot be written: {error.problem}",
                field=str(folder),
                remedy="name a folder that can be written with --out DIR",
            ) from error
        return [str(path) for path in pictures], ""

    def _facts(self) -> dict[str, Any]:
        evaluation, exam, runtime = self.evaluation, self.exam, self.runtime
        marks, main = evaluation.marks, next(iter(self.sets))
        rows = accuracy_rows(marks, main, self.bound_name)
        sets = [set_figures(marks, name, sensors) for name, sensors in self.sets.items()]
        overall, first = rows["overall"], sets[0]
        pack, card = runtime.pack, machine_card(self.config.threads)
        scenes = list(dict.fromkeys(mark.drive for mark in marks))
        return {
            "command": "eval",
            "complete": self.complete,
            "accuracy": overall["accuracy"],
            "accuracy_interval_95": first["accuracy_interval_95"],
            "blind_accuracy": overall["blind_accuracy"],
            "blind_baseline": overall["blind_baseline"],
            "majority_accuracy": overall["majority_accuracy"],
            "objects_bound": overall["objects_bound"],
            "no_objects_bound": None if self.bound_name else self.no_bound,
            "by_type": rows["by_type"],
            "by_hop": rows["by_hop"],
            "by_type_and_hop": rows["by_type_and_hop"],
            "by_condition": rows["by_condition"],
            "calibration_error": first["calibration"]["error"],
            "calibration": first["calibration"],
            "coverage": first["coverage"],
            "sensor_sets": sets,
            "questions": len(marks),
            "questions_planned": len(exam.items),
            "questions_left_out": dict(exam.left_out),
            "keyframes": evaluation.keyframes,
            "scenes": len(scenes),
            "scene_names": scenes,
            "scenes_broken": evaluation.broken,
            "split": exam.split,
            "question_files": [str(path) for path in exam.files],
            "blind_learned_from": len(exam.train),
            "sensors": list(next(iter(self.sets.values()))),
            "frames": {
                name: {
                    "pushed": count.pushed,
                    "unreadable": count.unreadable,
                    "refused": count.refused,
                }
                for name, count in evaluation.frames.items()
            },
            "pack": f"{pack.name} {pack.version}",
            "pack_trained": pack.trained,
            "model": runtime.model.manifest.name,
            "precision": runtime.model.manifest.precision,
            "tail_blocks": runtime.tail_blocks,
            "threads": self.config.threads,
            "heads": evaluation.heads,
            "seconds": evaluation.seconds,
            "questions_per_second": len(marks) / max(evaluation.seconds, 1e-9),
            "peak_memory_bytes": peak_memory_bytes(),
            "peak_memory_method": PEAK_MEMORY_METHOD,
            "versions": {"tailwire": _own_version(), **card["versions"]},
            "machine": {
                key: card[key] for key in ("cpu", "architecture", "system", "python", "date")
            },
            "notes": self._notes(sets),
        }

    def _notes(self, sets: Sequence[dict[str, Any]]) -> list[str]:
        evaluation = self.evaluation
        notes = list(self.exam.notes)
        if not self.runtime.pack.trained:
            notes.append("the pack is not trained, so its answers mean nothing")
        if not self.complete:
            asked, planned = len(evaluation.marks), len(self.exam.items)
            notes.append(f"stopped after {asked} of {planned} questions")
        if self.bound_name is None:
            notes.append(f"no ground-truth-objects bound: {self.no_bound}")
        notes += [f"{count} questions {why}" for why, count in self.exam.left_out.items()]
        notes += [f"{drive} was left: {why}" for drive, why in evaluation.broken.items()]
        notes += [
            f"{drive} has no {', '.join(sensors)}"
            for drive, sensors in evaluation.missing_sensors.items()
        ]
        for name, count in evaluation.frames.items():
            if count.unreadable or count.refused:
                bad = count.unreadable + count.refused
                notes.append(f"{bad} frames of {name} could not be used")
        for one in sets:
            if one["answers_without_sensors"]:
                count, name = one["answers_without_sensors"], one["name"]
                notes.append(f"{count} answers of {name} had no sensor behind them")
        return notes

    def _print(self, facts: dict[str, Any], pictures: Sequence[str]) -> None:
        asked = f"{facts['questions']} questions, {facts['keyframes']} keyframes"
        print_fact("asked", f"{asked}, {facts['scenes']} scenes, split {facts['split']}")
        model = f"{facts['model']} {facts['precision']}, tail of {facts['tail_blocks']} blocks"
        print_fact("pack", f"{facts['pack']} on {model}")
        print_table(self._table(facts))
        for one in facts["sensor_sets"]:
            print_fact("confidence", _confidence(one))
            print_fact("", _abstaining(one))
        for note in facts["notes"]:
            print_fact("note", note)
        speed = f"{facts['questions_per_second']:.1f} questions a second"
        heads = f"{facts['heads']} heads ran"
        print_fact(
            "took", f"{facts['seconds']:.0f} s, {speed}, {heads}, {facts['threads']} threads"
        )
        print_fact("memory", f"{readable_bytes(facts['peak_memory_bytes'])}, {PEAK_MEMORY_METHOD}")
        if self.results is not None:
            print_fact("answers in", f"{self.results.answers_file} ({self.results.written} lines)")
            print_fact("figures in", str(self.results.folder / "eval.json"))
        for picture in pictures:
            print_fact("picture", picture)

    def _table(self, facts: dict[str, Any]) -> Iterator[Sequence[str]]:
        """Accuracies: sets of sensors, the bound and the blind side by side."""
        main, *more = facts["sensor_sets"]
        others = [one for one in more if one["name"] != self.bound_name]
        columns = [one["name"] for one in (main, *others)]
        yield ("right answers", "questions", *columns, "objects", "blind", "majority")

        def row(name: str, part: Mapping[str, Any], own: Sequence[float | None]) -> Sequence[str]:
            beside = (part["objects_bound"], part["blind_accuracy"], part["majority_accuracy"])
            shares = (part["accuracy"], *own, *beside)
            return (name, str(part["questions"]), *map(_percent, shares))

        yield row("all", _overall(facts), [one["accuracy"] for one in others])
        for group in ("by_type", "by_condition"):
            for name, part in facts[group].items():
                yield row(name, part, [one[group][name] for one in others])
        if not others:
            for name, part in facts["by_type_and_hop"].items():
                yield row(f"{name} hop", part, [])


def _overall(facts: Mapping[str, Any]) -> dict[str, Any]:
    names = ("questions", "accuracy", "objects_bound", "blind_accuracy", "majority_accuracy")
    return {name: facts[name] for name in names}


def _confidence(one: Mapping[str, Any]) -> str:
    found, interval = one["calibration"], one["accuracy_interval_95"]
    between = "" if interval is None else f" ({_percent(interval[0])} to {_percent(interval[1])})"
    return (
        f"{one['name']}: {_percent(one['accuracy'])}{between} right, "
        f"{_percent(found['mean_confidence'])} sure, calibration error {found['error']:.3f}"
    )


def _abstaining(one: Mapping[str, Any]) -> str:
    points = {point["coverage"]: point["accuracy"] for point in one["coverage"]}
    shown = [f"{share:.0%}: {_percent(points[share])}" for share in _SHOWN_COVERAGES]
    return f"of the surest {', '.join(shown)} right"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _own_version() -> str:
    from .. import __version__

    return __version__
