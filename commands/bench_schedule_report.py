"""What `tailwire bench schedule` prints above its last line."""

from __future__ import annotations

from typing import Any


def print_schedule(result: dict[str, Any]) -> None:
    """Print the tables of the parts that are there."""
    machine = result["machine"]
    print(f"{machine['cpu']}, {machine['threads']} threads, {machine['versions']}")
    if result["accuracy"] is not None:
        _print_accuracy(result["accuracy"])
    if result["decisions"] is not None:
        for name, one in result["decisions"]["policies"].items():
            print(
                f"\na decision of {name}, {one['plans']:,} plans of {one['sensors']} sensors: "
                f"p50 {one['p50']:.0f} us, p99 {one['p99']:.0f} us (of the thread alone "
                f"{one['cpu_p50']:.0f} and {one['cpu_p99']:.0f})"
            )
    if result["live"] is not None:
        _print_live(result["live"])


def _print_accuracy(found: dict[str, Any]) -> None:
    print(
        f"{found['questions']} questions at {found['keyframes']} keyframes of {found['scenes']} "
        f"scenes, {found['steps']} steps; question only {_percent(found['blind_accuracy'])}, "
        f"majority per template {_percent(found['majority_accuracy'])}"
    )
    names = list(found["curves"])
    head = ("budget", "best fixed", *names, "oracle", "gain", "95 %")
    print("\n" + "".join(f"{name:>13}" for name in head))
    for place, row in enumerate(found["gains"]["optimal"]):
        gain = row["at_equal_budget"]
        accuracies = [found["curves"][name][place]["accuracy"] for name in names]
        cells = [
            f"{row['budget_gflop']:.1f}",
            "-" if gain is None else _percent(gain["fixed_accuracy"]),
            *map(_percent, accuracies),
            _percent(found["oracle"][place]["accuracy"]),
            "-" if gain is None else f"{gain['gain_points']:+.1f}",
            "-" if gain is None else _span(gain["interval_95"]),
        ]
        print("".join(f"{cell:>13}" for cell in cells))
    everything = found["everything"]
    half = found["everything_at_half_the_rate"]
    print(
        f"\neverything at full depth: {_percent(everything['accuracy'])} at "
        f"{everything['mean_gflop']:.1f} GFLOP a frame; at half the rate "
        f"{_percent(half['accuracy'])} at {half['mean_gflop']:.1f}"
    )
    for name, ratios in found["equal_accuracy"].items():
        told = [
            f"{text} {one['ratio']:.1f}x fewer FLOPs ({_percent(one['accuracy'])})"
            for text, one in (
                ("as right with", ratios["as_high"]),
                ("a point less right with", ratios["one_point_less"]),
            )
            if one is not None
        ]
        print(f"  {name}: {', '.join(told) or 'never as right'}")
    print("\nby condition:")
    for name in names:
        middle = found["curves"][name][len(found["curves"][name]) // 2]
        cells = ", ".join(f"{key} {_percent(v)}" for key, v in middle["by_condition"].items())
        print(f"  {name} at {middle['budget_gflop']:.1f} GFLOP: {cells}")


def _print_live(found: dict[str, Any]) -> None:
    disturbed = found["disturbed"]
    print(
        f"\ndeadline {disturbed['deadline_ms']:.1f} ms (1.5 x {disturbed['median_alone_ms']:.1f}), "
        f"{disturbed['frames']} frames, disturbed in {disturbed['disturbed_share']:.0%}: "
        f"{disturbed['deadline_miss_rate']:.2%} missed, p99 {disturbed['p99_ms']:.1f} ms, "
        f"{disturbed['answers_missing']} answers missing, {disturbed['frames_cut']} frames cut "
        f"short, {disturbed['frames_marked']} marked"
    )
    steps, dying = found["budget_steps"], found["sensors_dying"]
    print(
        f"budget steps: {steps['frames_over_budget']} of {steps['frames']} frames over it, "
        f"{steps['frames_refused']} refused, {steps['answers_missing']} answers missing"
    )
    print(
        f"sensors dying: {dying['answers_missing']} of the answers of {dying['frames']} frames "
        "missing"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _span(interval: list[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:+.1f}..{interval[1]:+.1f}"
