"""`tailwire bench variants`: what a pack gets right at several precisions, part by part."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ConfigError
from .bench_common import add_result_options, print_machine, print_rows, say
from .keyframes import spread_moments
from .progress import ProgressLine, duration

if TYPE_CHECKING:
    from argparse import _SubParsersAction
    from collections.abc import Sequence

    from ..benchmarks.exam import Exam
    from ..benchmarks.variants import OpenVariant
    from ..runtime.runtime import Runtime

_VARIANTS = (
    "fp32;fp32,encoders=fp16;fp32,encoders=int8;fp32,tail=int8;fp32,tail=int4;fp32,head=int4;"
    "tensorrt:fp16,encoders=int8;cpu:fp32;cpu:int8;cpu:int4"
)
_LIMIT, _KEYFRAMES, _CALIBRATION, _ROUNDS = 4, 160, 48, 12


def add_variants(benches: _SubParsersAction[ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = benches.add_parser(
        "variants", help="accuracy, bytes and latency of a pack by precision of its parts"
    )
    parser.add_argument(
        "--dataroot",
        metavar="DIR",
        type=Path,
        nargs="+",
        required=True,
        help="data sets in nuScenes format with questions in them, which nothing was trained on",
    )
    parser.add_argument("--split", choices=("val", "train", "all"), default="val")
    parser.add_argument(
        "--variants",
        metavar="LISTS",
        default=_VARIANTS,
        help="separated by ';': what `tailwire export` takes as --precision (behind 'tensorrt:' "
        "for that target), or cpu:fp32, cpu:int8, cpu:int4 for the tuned engines; the first one "
        f"is what others are compared with (default: {_VARIANTS})",
    )
    parser.add_argument(
        "--calibrate",
        metavar="DIR",
        type=Path,
        help="drives for the scales of 8-bit encoders, other ones than those that are asked about "
        "(default: the clip that ships with Tailwire)",
    )
    parser.add_argument(
        "--calibration-keyframes", metavar="N", type=int, default=_CALIBRATION, help="(48)"
    )
    parser.add_argument(
        "--work",
        metavar="DIR",
        type=Path,
        required=True,
        help="where exports are made, and found again",
    )
    parser.add_argument(
        "--guess-from",
        metavar="DIR",
        type=Path,
        nargs="+",
        help="data sets whose train split blind guesses are learned from (that of --dataroot, "
        "which holds questions that are asked unless --split is val)",
    )
    parser.add_argument(
        "--note-in",
        metavar="PACK_DIR",
        type=Path,
        help="put what was measured into the calibration of this pack, where the scheduler and "
        "`tailwire export` find it; the first variant must be fp32",
    )
    parser.add_argument("--limit", type=int, default=_LIMIT, help=f"of a keyframe ({_LIMIT})")
    parser.add_argument(
        "--keyframes", type=int, default=_KEYFRAMES, help=f"evenly over the drives ({_KEYFRAMES})"
    )
    parser.add_argument(
        "--rounds", type=int, default=_ROUNDS, help=f"moments that are timed ({_ROUNDS})"
    )
    parser.add_argument("--pack", default=None, help="folder or name (that of the model)")
    parser.add_argument("--model", default=None, help="registry name, GGUF file or folder")
    parser.add_argument("--threads", type=int, default=2, help="of engines (2)")
    add_result_options(parser)


def run_variants(arguments: Namespace) -> dict[str, Any]:
    """Export, ask and time.

    Raises:
        TailwireError: an option is wrong, a drive is broken, or something cannot be loaded.
    """
    names = [name.strip() for name in arguments.variants.split(";") if name.strip()]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(
            "two different variants are needed at least",
            field="--variants",
            remedy="name them with ';' between them",
        )
    if arguments.note_in is not None:
        _check_note(arguments.note_in, names[0])
    from ..benchmarks.exam import set_exam
    from ..benchmarks.measure import machine_card
    from ..benchmarks.result_file import figure
    from ..benchmarks.variant_figures import METHOD, baselines, variant_rows
    from ..benchmarks.variants import Variants
    from ..runtime.config import read_config

    exam = set_exam(
        arguments.dataroot,
        split=arguments.split,
        limit=arguments.limit,
        keyframes=arguments.keyframes,
    )
    if arguments.guess_from:
        exam = _guessing(exam, arguments.guess_from)
    config = read_config(
        None, model=arguments.model, pack=arguments.pack, threads=arguments.threads
    )
    variants = Variants(
        config,
        arguments.work,
        moments=lambda: spread_moments(arguments.calibrate, arguments.calibration_keyframes, say),
        calibration=f"{arguments.calibrate} {arguments.calibration_keyframes}",
        progress=say,
    )
    try:
        opened = [variants.open(name) for name in names]
        marks, sensors = _asked(exam, opened)
        variants.shared.remembers = False
        say("timing")
        stages = _timed(exam, opened, sensors, arguments.rounds)
    finally:
        variants.close()
    rows = variant_rows(marks, names, {one.name: one.part_bytes for one in opened}, stages)
    guessed = baselines(marks, names[0])
    if arguments.note_in is not None:
        from ..benchmarks.variant_figures import measured_variants
        from ..runtime.calibrated_pack import note_variants

        told = measured_variants(rows, guessed, _measured_on(exam, opened[0].runtime))
        note_variants(arguments.note_in, told)
    return {
        "benchmark": "variants",
        "reference": names[0],
        **guessed,
        "variants": rows,
        "notes": list(exam.notes),
        "settings": {
            "pack": f"{opened[0].runtime.pack.name} {opened[0].runtime.pack.version}",
            "model": opened[0].runtime.model.manifest.name,
            "tail_blocks": opened[0].runtime.tail_blocks,
            "sensors": list(sensors),
            "split": exam.split,
            "scenes": len(exam.drives),
            "conditions": sorted({drive.condition for drive in exam.drives}),
            "calibration": str(arguments.calibrate or "clip"),
            "calibration_keyframes": arguments.calibration_keyframes,
            "rounds": arguments.rounds,
        },
        "figures": {
            f"variants.{place}.bytes": figure("lower", counted=True) for place in range(len(rows))
        },
        "machine": machine_card(arguments.threads),
        "method": METHOD,
    }


def _check_note(folder: Path, reference: str) -> None:
    """Say now, and not after an hour, that nothing can be put there.

    Raises:
        ConfigError: what others are compared with is not the pack in float32.
        PackError: the folder is no pack.
    """
    from ..runtime.pack import load_pack

    if reference != "fp32":
        raise ConfigError(
            f"variants are noted beside fp32, and the first one here is {reference}",
            field="--note-in",
            remedy="begin the list with fp32",
        )
    load_pack(folder)


def _guessing(exam: Exam, dataroots: Sequence[Path]) -> Exam:
    """An exam whose blind guesses are learned from the train split of other data sets.

    Raises:
        DataError: a data set is broken, has no such questions, or is asked about itself.
    """
    from ..benchmarks.exam import set_exam
    from ..runtime.errors import DataError

    others = set_exam(dataroots, split="train").items
    if exam.asked_tokens & {item.sample_token for item in others}:
        raise DataError(
            "blind guesses would be learned from questions that are asked",
            field="--guess-from",
            remedy="name data sets that are not asked about, or --split val",
        )
    notes = ["blind guesses were learned from other drives"]
    if exam.split != "val":
        notes.append("the pack may have been trained on these very questions")
    return replace(exam, train=tuple(others), notes=tuple(notes))


def _measured_on(exam: Exam, runtime: Runtime) -> str:
    return (
        f"{len(exam.items)} questions ({exam.split}) about {len(exam.asked_tokens)} keyframes of "
        f"{len(exam.drives)} scenes, language model {runtime.model.manifest.name}"
    )


def _asked(exam: Exam, opened: Sequence[OpenVariant]) -> tuple[Any, tuple[str, ...]]:
    """All questions with what every variant answered, and the sensors."""
    from ..benchmarks.evaluation import Evaluation
    from ..benchmarks.variants import VariantExaminer
    from ..runtime.encoder_specs import ObjectsInput
    from ..simulation.questions.baselines import Baselines

    runtime = opened[0].runtime
    pack = runtime.pack
    there = {sensor for drive in exam.drives for sensor in drive.data.sensors}
    sensors = tuple(
        sensor
        for sensor, name in pack.sensor_encoders.items()
        if sensor in there and not isinstance(pack.encoders[name].input, ObjectsInput)
    )
    warmed = [s for s in sensors if pack.encoders[pack.sensor_encoders[s]].previous_ms is not None]
    guesses = Baselines.fit(exam.train).predict(exam.items) if exam.train else {}
    with ProgressLine() as progress:
        evaluation = Evaluation(
            runtime,
            exam,
            guesses,
            {variant.name: sensors for variant in opened},
            with_history=warmed,
            examiner=VariantExaminer(opened, sensors, warmed),
            on_progress=lambda done: progress(
                f"{done.questions_done} of {done.questions} questions, "
                f"{duration(done.seconds_left)} left"
            ),
        )
        evaluation.run()
    for drive, problem in evaluation.broken.items():
        say(f"{drive} was left: {problem}")
    return evaluation.marks, sensors


def _timed(
    exam: Exam, opened: Sequence[OpenVariant], sensors: Sequence[str], rounds: int
) -> dict[str, Any]:
    """Times by variant and stage, over moments with the pack's questions."""
    import numpy as np

    from ..benchmarks.measure import Timings
    from .bench_common import standing_questions

    for variant in opened:
        variant.runtime.switch_sensors(sensors)
        for text, answers in standing_questions(variant.runtime):
            variant.runtime.watch(text, answers)
    found: dict[str, dict[str, list[float]]] = {variant.name: {} for variant in opened}
    asked = exam.asked_tokens
    tokens = [(drive, t) for drive in exam.drives for t in drive.tokens if t in asked]
    for number in range(-1, rounds):
        drive, token = tokens[max(number, 0) * len(tokens) // rounds]
        frames = drive.data.snapshot(token).frames
        turn = number % len(opened)
        for variant in [*opened[turn:], *opened[:turn]]:
            variant.runtime.forget_frames()
            (answer, *_) = variant.runtime.step(
                {name: frame for name, frame in frames.items() if name in sensors}
            )
            if number < 0:  # Warms up.
                continue
            stages = dict(answer.timings_ms)
            for stage, ms in {**stages, "whole frame": sum(stages.values())}.items():
                found[variant.name].setdefault(stage, []).append(ms)
    return {
        name: {stage: Timings(np.asarray(ms)) for stage, ms in stages.items()}
        for name, stages in found.items()
    }


def print_variants(result: dict[str, Any]) -> None:
    """Print the table."""
    print_machine(result)
    blind, majority = (result[f"{name}_accuracy"] for name in ("blind", "majority"))
    told = (
        "no guesses without sensors"
        if blind is None
        else (f"blind {blind:.1%}, majority {majority:.1%}")
    )
    print(f"{result['questions']} questions of {result['settings']['scenes']} scenes; {told}")
    rows: list[tuple[str, ...]] = [
        ("variant", "right", "points", "95 %", "same", "MB", "encode ms", "tail ms", "frame ms")
    ]
    for one in result["variants"]:
        between = one["difference_interval_95"]
        stages = {name: found["median"] for name, found in one["stages_ms"].items()}
        encode = sum(ms for name, ms in stages.items() if name.startswith("encode "))
        rows.append(
            (
                one["variant"],
                f"{one['accuracy']:.1%}",
                f"{one['difference_points']:+.1f}",
                "-" if between is None else f"{between[0]:+.1f} to {between[1]:+.1f}",
                f"{one['same_answers']}",
                f"{one['bytes'] / 1e6:.0f}",
                f"{encode:.1f}",
                f"{stages.get('tail', 0.0):.1f}",
                f"{stages.get('whole frame', 0.0):.1f}",
            )
        )
    print_rows(rows)
