"""Serves requests as JSON lines over standard input and output; runs in a peer's environment.

A request names its task; one that fails is answered with the reason, and the worker lives on.
Imports nothing of Tailwire and nothing of any peer.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

Task = Callable[[dict[str, Any]], dict[str, Any]]


def serve(load: Callable[[], tuple[dict[str, Any], Mapping[str, Task]]]) -> None:
    """Load a peer, say so, and answer until input ends.

    Args:
        load: gives what is said of the peer, and its tasks by name.
    """
    # Some peers print to standard output while they load; replies must stay alone there.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(reply: Mapping[str, Any]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    try:
        about, tasks = load()
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is told to the one who asked
        say({"error": f"{type(error).__name__}: {error}"})
        return
    say({"ready": True, **about})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say(tasks[request["task"]](request))
        except Exception as error:  # noqa: BLE001 - as above
            say({"error": f"{type(error).__name__}: {error}"})
