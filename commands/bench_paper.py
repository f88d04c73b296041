"""`tailwire bench paper`: the measures of mPnP-LLM (2312.07886) for this pack, beside its own."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .arguments import comma_list
from .bench_adaptation_options import read_depths
from .bench_common import (
    add_drive_options,
    add_result_options,
    add_runtime_options,
    open_assembly,
    open_playback,
    print_machine,
    print_rows,
    say,
    standing_questions,
)
from .train_connections_options import fitting_sensors

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from ..benchmarks.paper_costs import PaperTask
    from ..runtime.frame_cost import EncoderCost
    from ..runtime.runtime import Runtime

_DEPTHS, _BASE, _ADD = "4,6,7,10,13,16,19,22,26,30", "cam_*", "lidar_*"
_BATCH, _STEPS, _MOMENTS, _LORA_RANK = 16, 3, 32, 8


def add_paper(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser(
        "paper", help="FLOPs, memory and accuracy of switching sensors, beside the paper's"
    )
    add_runtime_options(parser)
    add_drive_options(parser)
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument("--depths", metavar="LIST", default=_DEPTHS, help=f"of tails ({_DEPTHS})")
    parser.add_argument(
        "--base", metavar="LIST", default=_BASE, help=f"sensors that serve ({_BASE})"
    )
    parser.add_argument("--add", metavar="LIST", default=_ADD, help=f"that come ({_ADD})")
    parser.add_argument("--batch", **number, default=_BATCH, help=f"decisions a step ({_BATCH})")
    parser.add_argument(
        "--steps", **number, default=_STEPS, help=f"timed, of each method ({_STEPS})"
    )
    parser.add_argument(
        "--compute", choices=("bfloat16", "float32"), default="bfloat16", help="dtype of products"
    )
    parser.add_argument(
        "--count-only", action="store_true", help="train nothing: no memory and no times"
    )
    parser.add_argument(
        "--runs", metavar="DIR", type=Path, help="accuracies: a folder of `bench adaptation --out`"
    )
    add_result_options(parser)


def run_paper(arguments: Namespace) -> dict[str, Any]:
    """Count, train a few steps with each method, and set the paper beside it.

    Raises:
        TailwireError: an option is wrong, a folder is broken, something cannot be loaded, or torch
            is missing where something is to be trained.
    """
    from ..benchmarks import paper_costs, paper_numbers
    from ..benchmarks.input_level_methods import BASELINES
    from ..benchmarks.measure import machine_card
    from ..benchmarks.result_file import figure

    for name in ("batch", "steps"):
        if getattr(arguments, name) < 1:
            raise ConfigError("it is too small", field=f"--{name}", remedy="give at least 1")
    depths = read_depths(arguments.depths, _DEPTHS)
    runs = _Runs(arguments.runs)
    if not arguments.count_only:
        from .train_common import check_torch

        check_torch()
    assembly = open_assembly(arguments)
    with assembly.runtime() as runtime:
        task, encoders = _task(arguments, runtime, assembly.config.model)
        depths = [depth for depth in depths if depth <= task.config.num_blocks]
        pack, ships = runtime.pack, runtime.pack.tail_blocks
        precision = runtime.model.manifest.precision
    # The runtime is closed: its memory is no part of what training takes.
    frames = paper_costs.frame_table(task, encoders, depths)
    samples = paper_costs.sample_table(task, depths)
    methods = [row["method"] for row in samples]
    memory, how = _measured(arguments, task, methods)
    accuracy = runs.accuracies(methods)
    table = [
        {**row, **memory.get(row["method"], {}), "accuracy": accuracy.get(row["method"])}
        for row in samples
    ]
    tails = [paper_costs.method_of(depth) for depth in depths]
    counted = {
        "sample": {row["method"]: row["flops_per_sample"] for row in samples},
        "frame": {row["method"]: row["flops"] for row in frames},
    }
    return {
        "benchmark": "paper",
        **_headlines(table, paper_costs.method_of(ships)),
        **runs.equal_accuracy(tails, BASELINES),
        "frame": frames,
        "table": table,
        "runs": runs.as_json(),
        "paper": paper_numbers.paper_json(),
        "comparable": paper_numbers.COMPARABLE,
        "settings": {
            "model": task.checkpoint.name,
            "pack": f"{pack.name} {pack.version}",
            "precision": precision,
            "connection": task.spec.kind,
            "ships": ships,
            "base": list(task.base),
            "add": list(task.coming),
            "batch": task.batch,
            "steps": None if arguments.count_only else arguments.steps,
            "compute": arguments.compute,
            "lora_rank": task.lora_rank,
            "question_tokens": list(task.texts),
            "sensor_tokens_filled": {
                s: round(sum(task.filled[s]) / task.moments, 1) for s in task.sensors
            },
            "sensor_tokens": {s: task.sizes[task.modalities[s]][0] for s in task.sensors},
        },
        "counted": counted,
        "figures": {
            **{
                f"counted.{what}.{name}": figure("lower", counted=True)
                for what, found in counted.items()
                for name in found
            },
            "memory_saved": figure("higher"),
        },
        "machine": machine_card(arguments.threads, ["torch"]),
        "method": paper_costs.METHOD + how,
    }


def _task(
    arguments: Namespace, runtime: Runtime, model: str
) -> tuple[PaperTask, dict[str, EncoderCost]]:
    """Sizes of the pack, with the tokens that its encoders make of the drive's frames."""
    from ..assembly import model_path
    from ..benchmarks.paper_costs import PaperTask

    playback = open_playback(arguments, runtime)
    sensors = list(runtime.sensors)
    base = fitting_sensors(comma_list(arguments.base, "--base"), sensors, "--base")
    coming = fitting_sensors(comma_list(arguments.add, "--add"), sensors, "--add")
    for sensor in {*base} & {*coming}:
        raise ConfigError(f"'{sensor}' serves already", field="--add", remedy="name other sensors")
    questions = standing_questions(runtime)
    asked = [runtime.prepare(text, answers) for text, answers in questions]
    runtime.watch(*questions[0])
    say(f"encoding {_MOMENTS} moments of {playback.title}")
    filled: dict[str, list[int]] = {sensor: [] for sensor in sensors}
    perception = runtime.parts.perception
    for number in range(_MOMENTS):
        seen = playback.read(number, runtime.sensors)
        if seen.begins:
            runtime.forget_frames()
        runtime.step(list(seen.snapshot.frames.values()))
        for sensor in sensors:
            tokens = perception.tokens(sensor)
            filled[sensor].append(0 if tokens is None else int(tokens.tokens.any(-1).sum()))
    parts, pack = runtime.parts, runtime.pack
    modalities = {s: pack.sensor_encoders[s] for s in pack.sensor_encoders if s in sensors}
    task = PaperTask(
        checkpoint=model_path(model),
        config=runtime.model.config,
        spec=parts.connection.spec,
        modalities=modalities,
        sizes={n: (pack.encoders[n].tokens, pack.encoders[n].width) for n in modalities.values()},
        filled=filled,
        texts=[len(one.head.token_ids) for one in asked],
        answers=len({token for one in asked if one.trie for token in _tokens(one.trie.root)}),
        base=base,
        coming=coming,
        batch=arguments.batch,
        lora_rank=parts.connection.spec.lora_rank or _LORA_RANK,
    )
    return task, {s: parts.frame_cost().encoders[s] for s in modalities}


def _tokens(node: Any) -> set[int]:
    """All tokens of the answers below a node."""
    found = set(node.children)
    return found.union(*(_tokens(child) for child in node.children.values()))


def _measured(
    arguments: Namespace, task: PaperTask, methods: list[str]
) -> tuple[dict[str, dict[str, Any]], str]:
    """Memory and times by method, and how they are measured."""
    if arguments.count_only:
        return {}, " Memory and times: not asked for."
    from ..benchmarks.paper_training import METHOD, TrainingSettings, measure_training

    settings = TrainingSettings(arguments.steps, arguments.threads, arguments.compute)
    return measure_training(task, methods, settings, say), f" {METHOD}"


class _Runs:
    """Finished runs of the adaptation benchmark, or none."""

    def __init__(self, folder: Path | None) -> None:
        from ..benchmarks.paper_runs import read_runs

        self._folder, self._settings, self._rows = folder, None, []
        if folder is not None:
            self._settings, self._rows = read_runs(folder)
        conditions = (self._settings or {}).get("conditions") or [None]
        self._condition = conditions[0]

    def accuracies(self, methods: list[str]) -> dict[str, Any]:
        from ..benchmarks.paper_runs import accuracies

        return {} if self._condition is None else accuracies(self._rows, methods, self._condition)

    def equal_accuracy(self, ours: list[str], baselines: Any) -> dict[str, Any]:
        """`flops_ratio_equal_accuracy` over full fine-tuning, or why it is not there."""
        from ..benchmarks.adaptation_figures import FULL
        from ..benchmarks.paper_runs import REMEDY, equal_accuracy

        found: dict[str, Any] = {}
        if self._condition is not None:
            found = equal_accuracy(self._rows, ours, baselines, self._condition)
        full = next((name for name in FULL if name in found), None)
        ratio = None if full is None else found[full]["ratio"]
        why = f"no runs were given ({REMEDY})" if self._folder is None else None
        if self._folder is not None and full is None:
            why = f"the runs have no switch of full fine-tuning yet ({REMEDY})"
        elif found and ratio is None:
            why = f"none of the tails was as right as full fine-tuning ({full}) at its best"
        return {
            "flops_ratio_equal_accuracy": ratio,
            "equal_accuracy_full_is": full,
            "equal_accuracy_start": (self._settings or {}).get("start"),
            "equal_accuracy": found,
            **({} if why is None else {"equal_accuracy_absent": why}),
        }

    def as_json(self) -> dict[str, Any] | None:
        if self._settings is None:
            return None
        return {
            "folder": str(self._folder),
            "condition": self._condition,
            "settings": self._settings,
            "rows": len(self._rows),
        }


def _headlines(table: list[dict[str, Any]], ships: str) -> dict[str, Any]:
    """The paper's headlines for the depth that ships, beside each input-level method."""
    rows = {row["method"]: row for row in table}
    ours = rows.get(ships)
    if ours is None:
        return {"flops_ratio_equal_samples": None, "memory_saved": None, "against": {}}
    against: dict[str, Any] = {}
    for name, row in rows.items():
        if row["tail_blocks"] is not None:
            continue
        peaks = ours.get("peak_bytes"), row.get("peak_bytes")
        against[name] = {
            "flops_ratio": row["flops_per_sample"] / ours["flops_per_sample"],
            "flops_ratio_heads_computed": row["flops_per_sample"]
            / ours["flops_per_sample_heads_computed"],
            "memory_saved": 1 - peaks[0] / peaks[1] if peaks[0] and peaks[1] else None,
        }
    return {
        "flops_ratio_equal_samples": against["full"]["flops_ratio"],
        "flops_ratio_equal_samples_heads_computed": against["full"]["flops_ratio_heads_computed"],
        "memory_saved": against["full"]["memory_saved"],
        "against": against,
    }


def print_paper(result: dict[str, Any]) -> None:
    """Print frames, training and the paper's own table."""
    print_machine(result)
    rows: list[tuple[str, ...]] = [
        ("a frame behind the encoders", "GFLOP", "one question", "input level over it")
    ]
    for row in result["frame"]:
        flops = (f"{row[key] / 1e9:.3f}" for key in ("flops", "flops_one"))
        rows.append((row["method"], *flops, f"{row['ratio']:.2f}"))
    print_rows(rows)
    head = ("GFLOP a sample", "full over it", "heads computed", "peak MB", "samples/s", "C->C+L")
    learned: list[tuple[str, ...]] = [("learning a sensor", *head)]
    for row in result["table"]:
        peak, speed = row.get("peak_bytes"), row.get("samples_per_s")
        added = (row["accuracy"] or {}).get("added")
        learned.append(
            (
                row["method"],
                f"{row['flops_per_sample'] / 1e9:.2f}",
                f"{row['flops_ratio_vs_full']:.2f}",
                f"{row['flops_ratio_vs_full_heads_computed']:.2f}",
                "-" if peak is None else f"{peak / 1e6:.0f}",
                "-" if speed is None else f"{speed:.1f}",
                "-" if added is None else f"{added:.1%}",
            )
        )
    print_rows(learned)
    for row in result["table"]:
        if "failed" in row:
            print(f"  {row['method']}: {row['failed']}")
    paper: list[tuple[str, ...]] = [("the paper", "PFLOP", "full over it", "GB", "C->C+L")]
    for row in result["paper"]["table"]:
        cells = (f"{row['pflops']:.2f}", f"{row['flops_ratio_vs_full']:.2f}")
        paper.append((row["method"], *cells, f"{row['gigabytes']:.1f}", f"{row['added']:.1f}%"))
    print_rows(paper)
    print(f"  {result['paper']['source']}")
    _print_headlines(result)
    print(f"  {result['comparable']}")


def _print_headlines(result: dict[str, Any]) -> None:
    theirs = result["paper"]["headlines"]
    for name, one in result["against"].items():
        saved = one["memory_saved"]
        memory = "memory not measured" if saved is None else f"{saved:.0%} less memory"
        print(
            f"  beside {name}: {one['flops_ratio']:.1f}x fewer FLOPs at equal samples "
            f"({one['flops_ratio_heads_computed']:.1f}x with heads computed in each step), {memory}"
        )
    ratio = result["flops_ratio_equal_accuracy"]
    at_equal = result.get("equal_accuracy_absent")
    if ratio is not None:
        full, start = result["equal_accuracy_full_is"], result["equal_accuracy_start"]
        begun = f" from {start}" if start else ""
        at_equal = f"{ratio:.1f}x fewer than full fine-tuning ({full}{begun})"
    print(
        f"  FLOPs at equal accuracy: {at_equal}; the paper: up to "
        f"{theirs['flops_ratio_equal_accuracy']}x fewer, {theirs['memory_saved']:.0%} less memory"
    )
