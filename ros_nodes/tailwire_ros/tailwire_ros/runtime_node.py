"""The node that answers: a life cycle around `Core`, with its topics, services and actions.

`configure` loads engines and tests them, `activate` opens sensors and actions, `deactivate` and
`cleanup` free what the one before made. An engine that breaks leads through the error state back
to an unconfigured node, and from there up again where the node starts itself.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from tailwire.assembly import open_runtime
from tailwire.runtime.errors import ConfigError, TailwireError
from tailwire.runtime.process_memory import trim
from tailwire.runtime.questions import Question
from tailwire.runtime.runtime import Runtime

from . import diagnostics
from .adapting import AdaptServer
from .answering import AnsweringLoop, Round
from .asking import AskServer
from .core import Core, self_test
from .core_waits import open_core_waits
from .offers import open_actions, open_services
from .outputs import Outputs
from .parameters import Parameters
from .reading import ClockBeside, poll_events
from .sensor_topics import SensorTopics
from .services import Services
from .settings import (
    QUESTION_SETTINGS,
    SETTINGS,
    SensorTopic,
    budget_from,
    question_of,
    runtime_config,
    sensor_settings,
    texts,
)
from .spinning import run

#: Names the questions that the pack suggests.
_PACK_QUESTIONS = "pack"
_RESTARTS = 3
#: Between two lines of log of the same kind.
_QUIET_S = 5.0


class RuntimeNode(ClockBeside, LifecycleNode):
    """Sensors in, answers out."""

    def __init__(self, name: str = "tailwire", **options: Any) -> None:
        """Declare parameters; nothing is loaded.

        Args:
            name: of the node, unless it is remapped.
            **options: of `rclpy.node.Node`.

        Raises:
            ConfigError: a parameter does not fit.
        """
        super().__init__(name, **options)
        self.parameters = Parameters(self, self._apply)
        self.parameters.declare(SETTINGS)
        self._core: Core | None = None
        self._loop: AnsweringLoop | None = None
        self._sensors: SensorTopics | None = None
        self._broken = ""
        self._offers = Services(
            lambda: self._core,
            self._open_pack,
            lambda: self.parameters["pack_folders"],
            self._pack_swapped,
        )
        self._ask = AskServer(
            lambda: self._core if self._loop is not None else None,
            self.now_ns,
            self.parameters["base_frame"],
        )
        adapt = AdaptServer(lambda: self._core)
        self._actions = open_actions(
            self, self._ask.execute, adapt.execute, lambda: self._loop is not None
        )
        open_services(self, self._offers)
        self._machine = diagnostics.Machine()
        self._outputs = Outputs(self)
        # By the machine's clock: diagnostics shall come where a simulated clock stands still.
        self.create_timer(
            self.parameters["diagnostics_period_s"],
            self._look_around,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        if self.parameters["give_back_s"] > 0:
            # What messages of many sizes leave behind in the heaps of threads adds up for hours.
            self.create_timer(
                self.parameters["give_back_s"],
                trim,
                callback_group=MutuallyExclusiveCallbackGroup(),
                clock=Clock(clock_type=ClockType.STEADY_TIME),
            )
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1)),
            post_callback=lambda _: self._time_jumped(),
        )

    @property
    def core(self) -> Core | None:
        """What answers, None while nothing is loaded."""
        return self._core

    def now_ns(self) -> int:
        """By the clock that stamps sensors; 0 of a simulated one that does not run yet."""
        return self.get_clock().now().nanoseconds

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load engines and test them."""
        return self._guarded(self._configure, self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open sensors and actions."""

        def act() -> None:
            super(RuntimeNode, self).on_activate(state)
            self._activate()

        return self._guarded(act, self._close_sensors)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close sensors and actions."""
        self._close_sensors()
        super().on_deactivate(state)
        return TransitionCallbackReturn.ERROR if self._broken else TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free engines."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node can be configured again."""
        self._release()
        self._broken = ""
        return TransitionCallbackReturn.SUCCESS

    def _guarded(self, act: Any, undo: Any) -> TransitionCallbackReturn:
        """What the user can mend fails the transition; what nobody foresaw is an error."""
        try:
            act()
        except TailwireError as error:
            self.get_logger().error(str(error))
            undo()
            return TransitionCallbackReturn.FAILURE
        except Exception:  # noqa: BLE001 - rclpy would swallow it without a word
            self.get_logger().error(traceback.format_exc())
            undo()
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        parameters, log = self.parameters, self.get_logger()
        names = [name for name in texts(parameters["questions"]) if name != _PACK_QUESTIONS]
        for name in names:
            parameters.declare(QUESTION_SETTINGS, f"question.{name}.")
        asked = [question_of(name, parameters.group(f"question.{name}.")) for name in names]
        config = runtime_config(parameters.values)
        log.info(f"loading {config.model} {config.precision} with the pack {config.pack}")
        runtime = open_runtime(config, progress=log.info)
        self._core = core = Core(runtime, self.now_ns)
        self._offers.loaded = config.pack
        self_test(runtime)
        self._declare_sensors(runtime)
        parameters.check_unknown()
        if _PACK_QUESTIONS in parameters["questions"]:
            asked += [Question(one.text, one.answers) for one in runtime.pack.questions]
        for question in asked:
            core.watch(question)
        parameters.frozen = True
        self._outputs.pack(self._offers.loaded, core)
        _spare_collector()
        log.info(f"ready: {core.num_standing} standing questions, sensors {runtime.sensors}")

    def _declare_sensors(self, runtime: Runtime) -> None:
        given = getattr(self, "_parameter_overrides", {})
        for sensor, encoder in runtime.pack.sensor_encoders.items():
            prefix = f"sensor.{sensor}."
            kind = given.get(f"{prefix}kind")
            modality = runtime.pack.encoders[encoder].modality
            settings = sensor_settings(sensor, modality, None if kind is None else kind.value)
            self.parameters.declare(settings, prefix)

    def _activate(self) -> None:
        core = self._required()
        core.forget_frames()
        loop = self._loop = AnsweringLoop(
            core,
            self._publish,
            on_problem=self._problem,
            on_broken=self._engines_broke,
            waits=open_core_waits() if self.parameters["core_waits"] else None,
        )
        loop.trigger, loop.max_rate_hz = self.parameters["trigger"], self.parameters["max_rate_hz"]
        self._ask.open()
        self._open_sensors()

    def _open_sensors(self) -> None:
        core, loop = self._required(), self._loop
        if loop is None:
            return
        wanted = [
            SensorTopic(sensor, **self.parameters.group(f"sensor.{sensor}."))
            for sensor in core.runtime.known_sensors
        ]
        self._sensors = SensorTopics(
            self,
            [one for one in wanted if one.topic],
            core.push,
            base_frame=self.parameters["base_frame"],
            future_ns=lambda: round(self.parameters["future_ms"] * 1e6),
            on_frame=loop.wake,
            on_jump=self._time_jumped,
        )

    def _close_sensors(self) -> None:
        loop, self._loop = self._loop, None
        sensors, self._sensors = self._sensors, None
        if sensors is not None:
            sensors.close()
        if loop is not None:
            loop.stop()
        self._ask.close()

    def _release(self) -> None:
        self._close_sensors()
        core, self._core = self._core, None
        if core is not None:
            core.close()
            gc.unfreeze()
        self.parameters.frozen = False

    # What happens while it runs

    def _publish(self, done: Round) -> None:
        core, sensors = self._core, self._sensors
        if core is not None and sensors is not None:
            frame_id = self.parameters["base_frame"]
            self._outputs.answers(core, done, sensors.newest_arrival_s, frame_id)

    def _problem(self, reason: str) -> None:
        self.get_logger().warning(f"not answered: {reason}", throttle_duration_sec=_QUIET_S)
        if self._core is not None:
            self._outputs.problem(self._core, reason)

    def _engines_broke(self, reason: str) -> None:
        self._broken = reason
        self.get_logger().error(f"the engines do not answer any more: {reason}")
        # Not in the answering thread, which the transition waits for.
        threading.Thread(target=self._recover, name="tailwire-recover", daemon=True).start()

    def _recover(self) -> None:
        self.trigger_deactivate()
        for _ in range(_RESTARTS if self.parameters["autostart"] else 0):
            if self.start():
                return
            time.sleep(1.0)

    def start(self) -> bool:
        """Configure and activate.

        Returns:
            Whether both succeeded.
        """
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def _time_jumped(self) -> None:
        core, sensors = self._core, self._sensors
        if core is None or sensors is None:
            return
        self.get_logger().warning(
            "time has jumped back, all frames are dropped", throttle_duration_sec=_QUIET_S
        )
        sensors.forget()
        core.forget_frames()

    def _open_pack(self, pack: str) -> Runtime:
        config = runtime_config({**self.parameters.values, "pack": pack, "sensors": [""]})
        return open_runtime(config, progress=self.get_logger().info)

    def _pack_swapped(self, pack: str) -> None:
        runtime = self._required().runtime
        self._declare_sensors(runtime)
        if self._sensors is not None:
            self._sensors.close()
            self._open_sensors()
        self._outputs.pack(pack, self._required())
        _spare_collector()

    def _apply(self, changed: Mapping[str, Any]) -> None:
        core, loop, values = self._core, self._loop, self.parameters.values
        if core is not None:
            if "policy" in changed or any(name.startswith("budget.") for name in changed):
                core.set_budget(budget_from(values), values["policy"])
            if "sensors" in changed:
                try:
                    core.runtime.switch_sensors(texts(values["sensors"]) or None)
                except TailwireError as error:
                    raise ConfigError(str(error)) from error
            if "max_age_ms" in changed:
                core.runtime.max_age_ms = values["max_age_ms"]
        if loop is not None:
            loop.trigger, loop.max_rate_hz = values["trigger"], values["max_rate_hz"]

    def _look_around(self) -> None:
        sensors = self._sensors
        heard = [] if sensors is None else sensors.subscriptions
        poll_events(self.context, [*heard, *self._outputs.publishers])
        self._outputs.diagnostics(self._statuses())

    def _statuses(self) -> list[diagnostics.Status]:
        core, sensors = self._core, self._sensors
        if core is None:
            return [diagnostics.unloaded_status(self._broken)]
        return [
            diagnostics.loaded_status(core),
            self._machine.status(),
            *diagnostics.active_statuses(
                core,
                self._loop,
                [] if sensors is None else sensors.inputs,
                now_ns=self.now_ns(),
                silence_s=self.parameters["silence_s"],
            ),
        ]

    def _required(self) -> Core:
        if self._core is None:
            raise ConfigError("the node is not configured", remedy="configure it first")
        return self._core

    def close(self) -> None:
        """End what runs and free engines, in whatever state the node is."""
        self._release()

    def destroy_node(self) -> None:
        """Free everything."""
        self.stop_clock()
        self.close()
        for action in self._actions:
            action.destroy()
        super().destroy_node()


def _spare_collector() -> None:
    """Let what is loaded be out of reach of the garbage collector, which stops all threads.

    It would look at all of it again and again, for tens of milliseconds each, while answers wait.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def main() -> int:
    """Run the node until it is told to end."""
    return run(
        RuntimeNode,
        start=lambda node: not node.parameters["autostart"] or node.start(),
        close=lambda node: node.close(),
    )
