"""`clusterctl upgrade`: has the program of the master replaced, and follows the rollout that comes after it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clusterd.cli.asking import Unanswered, Unreachable, ask
from clusterd.dashboard import words
from clusterd.wire.control import Command

NEXT_MASTER_SECONDS = 60.0
"""How long clusterd may be gone: the master may die in between, and systemd starts the next one."""
_LOOK_SECONDS = 0.2


def upgrade(path: Path, show: Callable[[str], None], tell: Callable[[str], None]) -> dict[str, Any]:
    """Upgrade, and return the result as a document of the control socket. `show` is given the progress.

    `tell` is given the news that the new program goes on: the rollout may take longer than the caller waits.
    Raises Unreachable and ControlError.
    """
    show("the new program is asked whether it can go on")
    *_, begun = _of_the_next_master_as_well(lambda: ask(path, Command.UPGRADE))
    if not begun["succeeded"]:
        return begun
    tell(begun["text"])
    number = begun["data"]["rollout"]
    # Each master tells what has happened before, too, and goes on with the numbers of the rollouts.
    for document in _of_the_next_master_as_well(lambda: ask(path, Command.EVENTS, {"follow": True})):
        event = document.get("event", {})
        if event.get("event") != "rollout_end" or event["rollout"] != number:
            if event:
                show(f"{event['event']} {words.event(event)}")
            continue
        failure, data = event["failure"], {**begun["data"], "generation": event["generation"]}
        if failure is None:
            text = f"clusterd {data['version']} runs, and generation {event['generation']} serves"
            return {"succeeded": True, "text": text, "data": data}
        text = f"clusterd {data['version']} runs, but its rollout has failed: {failure}"
        return {"succeeded": False, "text": text, "data": data}
    return {"succeeded": False, "text": "clusterd has ended before the rollout was over", "data": begun["data"]}


def _of_the_next_master_as_well(ask_for: Callable[[], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield the documents of an answer. If the master dies before the last one, ask the next one.

    Raises Unreachable if no master answers at first, or for NEXT_MASTER_SECONDS after a death.
    """
    until: float | None = None
    while True:
        try:
            for document in ask_for():
                until = None
                yield document
            return
        except Unreachable as error:
            if until is None and not isinstance(error, Unanswered):
                raise
            until = until or time.monotonic() + NEXT_MASTER_SECONDS
            if time.monotonic() >= until:
                raise
            time.sleep(_LOOK_SECONDS)
