"""Opens the actions and services that a node has for as long as it lives.

rclpy stumbles over an action server that is closed while it spins, so goals are rejected instead
while the node is not active.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.qos import QoSProfile

from .services import Services

#: A piece of text may come every few milliseconds.
_FEEDBACK_DEPTH = 100
_RESULT_TIMEOUT_S = 10


def open_actions(
    node: Any,
    ask: Callable[[Any], Any],
    adapt: Callable[[Any], Any],
    is_active: Callable[[], bool],
) -> list[ActionServer]:
    """Open `~/ask` and `~/adapt`; to be destroyed with the node.

    Args:
        node: of rclpy.
        ask: executes a goal of `Ask`.
        adapt: executes a goal of `Adapt`.
        is_active: whether goals are accepted.
    """
    from tailwire_msgs.action import Adapt, Ask

    def accept(_: Any) -> GoalResponse:
        return GoalResponse.ACCEPT if is_active() else GoalResponse.REJECT

    return [
        ActionServer(
            node,
            kind,
            name,
            execute,
            goal_callback=accept,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            # A cancel must be seen while a goal is worked on.
            callback_group=ReentrantCallbackGroup(),
            feedback_pub_qos_profile=QoSProfile(depth=_FEEDBACK_DEPTH),
            result_timeout=_RESULT_TIMEOUT_S,
        )
        for kind, name, execute in ((Ask, "~/ask", ask), (Adapt, "~/adapt", adapt))
    ]


def open_services(node: Any, handlers: Services) -> None:
    """Open all services, which take turns.

    Args:
        node: of rclpy, which destroys them at its end.
        handlers: of requests.
    """
    from tailwire_msgs import srv

    group = MutuallyExclusiveCallbackGroup()
    for kind, name, handler in (
        (srv.Watch, "watch", handlers.watch),
        (srv.Unwatch, "unwatch", handlers.unwatch),
        (srv.SetBudget, "set_budget", handlers.set_budget),
        (srv.ListPacks, "list_packs", handlers.list_packs),
        (srv.LoadPack, "load_pack", handlers.load_pack),
        (srv.Teach, "teach", handlers.teach),
    ):
        node.create_service(kind, f"~/{name}", handler, callback_group=group)
