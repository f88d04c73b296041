"""`tailwire plan`: what a frame would run within a budget, what else there was, and why.

Nothing is seen and nothing is answered: every sensor is taken to have a new frame. What is printed
is in `plan_report.py`.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, get_args

from ..runtime.errors import ConfigError
from .arguments import add_runtime_arguments, comma_list, read_arguments
from .budget_options import add_budget_arguments
from .command import Command
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..runtime.config import RuntimeConfig
    from ..runtime.questions import Question
    from ..runtime.runtime import Runtime
    from ..runtime.scheduler import Pin

_POLICY = "optimal"


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--questions",
        metavar="'TEXT;TEXT'",
        help="what is asked, with semicolons between (default: the standing questions of the pack)",
    )
    parser.add_argument(
        "--context", metavar="day|night|rain|fog", help="light and weather (default: not known)"
    )
    parser.add_argument(
        "--sensors",
        metavar="LIST",
        help="sensors that are switched on (default: all but given objects)",
    )
    parser.add_argument(
        "--pin",
        metavar="SENSOR=on|off",
        nargs="+",
        action="extend",
        default=[],
        help="sensors that must or must not be used, e.g. lidar_top=on",
    )
    parser.add_argument(
        "--no-measure",
        action="store_true",
        help="do not measure how long parts take; latency is then not known",
    )
    add_runtime_arguments(parser)
    add_budget_arguments(parser, policy=_POLICY)
    parser.add_argument("--json", action="store_true", help="print one JSON object, no text")


def _run(args: Namespace) -> int:
    config = _config(args)
    pins = [_pin(text) for text in args.pin]
    questions = _questions(args)
    _check_context(args.context)
    if args.no_measure and config.budget.latency_ms is not None:
        raise ConfigError(
            "a latency cannot be kept without knowing how long parts take",
            field="--no-measure",
            remedy="leave it out, or --budget-latency",
        )
    # What is heavy is imported from here on, so that a typing error is answered at once.
    from ..runtime.policies import make_policy
    from .drives import perceiving
    from .plan_report import PlanReport, limits_that_bind

    with ProgressLine(args.json) as progress:
        from ..assembly import open_runtime

        runtime = open_runtime(config, progress)
    with runtime:
        if config.sensors is None:
            runtime.switch_sensors(perceiving(runtime))
        for sensor, pin in pins:
            runtime.pin(sensor, pin)
        request = runtime.plan_request(questions or _standing(runtime), args.context)
        policy = make_policy(config.policy)
        plan = policy.choose(request)
        explanation = None
        if config.policy == _POLICY and request.utility is not None:
            explanation = policy.explain(request)  # pyright: ignore[reportAttributeAccessIssue]
        report = PlanReport(
            plan=plan,
            request=request,
            explanation=explanation,
            binding=limits_that_bind(policy, request, plan),
            num_blocks=runtime.model.config.num_blocks,
            pack=f"{runtime.pack.name} {runtime.pack.version}",
        )
    report.tell(as_json=args.json)
    return 0


def _config(args: Namespace) -> RuntimeConfig:
    config = read_arguments(args)
    changes: dict[str, object] = {"measure": not args.no_measure}
    if args.policy is None:
        changes["policy"] = _POLICY
    if args.sensors is not None:
        changes["sensors"] = comma_list(args.sensors, "--sensors")
    return config.model_copy(update=changes)


def _questions(args: Namespace) -> list[Question]:
    from ..runtime.questions import Question

    if args.questions is None:
        return []
    texts = [text.strip() for text in args.questions.split(";")]
    return [Question(text) for text in dict.fromkeys(filter(None, texts))]


def _standing(runtime: Runtime) -> list[Question]:
    from ..runtime.questions import Question

    if not runtime.pack.questions:
        raise ConfigError(
            "there is nothing to ask: the pack suggests no questions",
            field="--questions",
            remedy="give some, e.g. --questions 'How many cars are there?'",
        )
    return [Question(one.text, one.answers) for one in runtime.pack.questions]


def _pin(text: str) -> tuple[str, Pin]:
    sensor, _, pin = text.partition("=")
    if pin == "on":
        return sensor, "on"
    if pin == "off":
        return sensor, "off"
    raise ConfigError(
        f"'{text}' is no pin", field="--pin", remedy="write e.g. lidar_top=on or cam_back=off"
    )


def _check_context(context: str | None) -> None:
    from ..runtime.context import Condition

    known = get_args(Condition)
    if context is not None and context not in known:
        raise ConfigError(
            f"there is no context '{context}'",
            field="--context",
            remedy=f"use one of {', '.join(known)}",
        )


COMMAND = Command("plan", "what a frame would run within a budget, and why", _add_arguments, _run)
