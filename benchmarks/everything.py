"""All benchmarks one after the other, each in a process of its own, and one page about them.

Own processes, because memory of one must not count for the next, and one that dies must not end
the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..runtime.errors import ConfigError
from .result_file import compare_results, read_result

#: Left for the page when the time is up.
_PAGE_S = 20.0


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes:
        name: of its result.
        words: behind `tailwire`.
        keys: of its result that the summary repeats.
    """

    name: str
    words: Sequence[str]
    keys: Sequence[str] = ()


@dataclass
class Outcome:
    """What came of all parts.

    Attributes:
        seconds: by part that ran through.
        figures: of each, those that its part names.
        failed: by part, the last thing it said.
        skipped: parts that there was no time for.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def all_parts(folder: Path, runtime_words: Sequence[str], model_words: Sequence[str]) -> list[Part]:
    """What `bench all` runs, the most telling first.

    Args:
        folder: for results.
        runtime_words: options that all with a runtime take (model, pack, precision, threads, ...).
        model_words: options that those of the language model alone take (model, threads).
    """

    def bench(name: str, *words: str, keys: Sequence[str]) -> Part:
        save = str(folder / f"{name}.json")
        return Part(name, ("bench", name, "--json", "--save", save, *words), keys)

    return [
        bench("frame", *runtime_words, keys=("p50_ms", "p99_ms", "p99_over_p50", "flops")),
        bench("card", *runtime_words, keys=("flops", "weight_bytes", "ceiling_ms")),
        bench("paper", "--count-only", *runtime_words, keys=("flops_ratio_equal_samples",)),
        bench("memory", *runtime_words, keys=("peak_memory_bytes", "memory_method")),
        bench("peers", *model_words, keys=("llm_time_ratio_vs_best_peer", "best_peer")),
        bench("standing", *model_words, keys=("speedup_vs_best_input_level",)),
        bench("llm", *model_words, keys=("ttft_ms", "ttft_standing_ms", "decode_tokens_per_s")),
        bench("scale", *runtime_words, keys=("no_faster_than_linear",)),
        Part("demo", ("demo", "--no-live", "--out", str(folder / "demo"), *runtime_words)),
    ]


def run_parts(
    parts: Sequence[Part],
    *,
    seconds: float,
    progress: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    program: Sequence[str] = (sys.executable, "-m", "tailwire.cli"),
) -> Outcome:
    """Run parts until the time is up.

    Args:
        parts: in order.
        seconds: for all together; what would begin later is skipped, what runs is ended then.
        progress: told what begins and what fails.
        clock: seconds.
        program: that the words are given to.
    """
    begun, outcome = clock(), Outcome()
    for part in parts:
        left = seconds - _PAGE_S - (clock() - begun)
        if left <= 0:
            outcome.skipped.append(part.name)
            continue
        progress(f"{part.name} ({left / 60:.0f} minutes left)")
        start = clock()
        try:
            done = subprocess.run(
                [*program, *part.words], capture_output=True, text=True, timeout=left, check=False
            )
        except subprocess.TimeoutExpired:
            outcome.failed[part.name] = f"did not end within the {left:.0f} s that were left"
            progress(f"{part.name}: {outcome.failed[part.name]}")
            continue
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            outcome.failed[part.name] = said
            progress(f"{part.name} fails: {said}")
            continue
        outcome.seconds[part.name] = clock() - start
        outcome.figures[part.name] = _figures(done.stdout, part.keys)
    return outcome


def earlier_folder(path: Path) -> Path:
    """The folder of an earlier run of all benchmarks.

    Args:
        path: the folder, or what `bench all --save` wrote of the run.

    Raises:
        ConfigError: it is neither, or the run's folder is gone.
    """
    if path.is_dir():
        return path
    result = read_result(path)
    if result["benchmark"] != "all":
        raise ConfigError(
            f"this is a result of '{result['benchmark']}', not of 'all'",
            field=str(path),
            remedy="name the folder of an earlier run of all benchmarks",
        )
    # Kept beside its parts, it may have been moved with them.
    for folder in (Path(result["folder"]), path.parent):
        if any((folder / f"{part}.json").is_file() for part in result["seconds"]):
            return folder
    raise ConfigError(
        f"the results of that run are not in {result['folder']} any more",
        field=str(path),
        remedy="name the folder that they are in now",
    )


def compare_parts(
    old: Path, new: Path, names: Sequence[str], *, tolerance: float
) -> dict[str, Any]:
    """What has changed in each part between two folders of results.

    Args:
        old: the earlier one.
        new: the later one.
        names: of parts that ran through; those without a result of their own are left out.
        tolerance: by which share a time may be worse.

    Returns:
        `parts` by name, each as of `compare_results` or with `skipped` and why; `regressions`
        names all that are marked, as `part.figure`.
    """
    parts: dict[str, Any] = {}
    for name in names:
        now, before = (folder / f"{name}.json" for folder in (new, old))
        if not now.is_file():
            continue
        if not before.is_file():
            parts[name] = {"skipped": "there is no earlier result", "regressions": []}
            continue
        try:
            parts[name] = compare_results(
                read_result(before), read_result(now), tolerance=tolerance
            )
        except ConfigError as error:
            parts[name] = {"skipped": f"{error.problem}; {error.remedy}", "regressions": []}
    marked = [f"{name}.{one}" for name, found in parts.items() for one in found["regressions"]]
    return {"with": str(old), "parts": parts, "regressions": marked}


def _figures(printed: str, keys: Sequence[str]) -> dict[str, Any]:
    """Those of the last line, where it is a JSON object."""
    lines = printed.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    is_result = isinstance(found, dict) and bool(found)
    return {key: found.get(key) for key in keys} if is_result else {}
