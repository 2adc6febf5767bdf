"""`clusterctl upgrade`: has the program of the master replaced, and follows the rollout that comes after it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from clusterd.cli.asking import ask
from clusterd.dashboard import words
from clusterd.wire.control import Command


def upgrade(path: Path, show: Callable[[str], None], tell: Callable[[str], None]) -> dict[str, Any]:
    """Upgrade, and return the result as a document of the control socket. `show` is given the progress.

    `tell` is given the news that the new program goes on: the rollout may take longer than the caller waits.
    Raises Unreachable and ControlError.
    """
    show("the new program is asked whether it can go on")
    *_, begun = ask(path, Command.UPGRADE)
    if not begun["succeeded"]:
        return begun
    tell(begun["text"])
    number = begun["data"]["rollout"]
    for document in ask(path, Command.EVENTS, {"follow": True}):
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
