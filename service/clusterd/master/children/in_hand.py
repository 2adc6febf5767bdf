"""What the master says of the requests that a worker has in hand, or had when it died."""

import re
from typing import Any

from clusterd.log import Level, Logger
from clusterd.supervisor.actions import WorkerEnded
from clusterd.supervisor.model.held import Cause, Held, HeldRequest
from clusterd.wire.in_hand import Kind, Table

MOST_NAMED = 20
"""The most requests of a worker that are named in the log and in its event: the oldest."""

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+)(?: \[[^\n]*\])?(?= \()", re.MULTILINE)
"""The beginning of a thread's stack, as faulthandler writes it."""
_RUNS_LOOP = ", which runs the event loop"


def held_of(table: Table, now: float) -> Held:
    """Translate a table for the supervisor. `now` is time.monotonic()."""
    return Held(
        tuple(
            HeldRequest(
                method=each.method,
                target=each.target,
                age=max(0.0, now - each.begun),
                peer=each.peer,
                is_websocket=each.kind is Kind.WEBSOCKET,
                is_left=each.kind is Kind.LEFT,
            )
            for each in table.requests
        ),
        table.unnamed,
    )


def with_requests(stacks: str, table: Table) -> str:
    """Say in the stacks of threads, as faulthandler writes them, which request each thread runs."""
    runs = {each.thread: f", which runs {each.method} {each.target}" for each in table.requests if each.thread}
    runs[table.loop_thread] = _RUNS_LOOP + runs.get(table.loop_thread, "")
    return _THREAD.sub(lambda match: match[0] + runs.get(int(match[1], 16), ""), stacks)


def of_loop(stacks: str) -> str:
    """Return the stack of the event loop's thread, of what `with_requests` has returned; or all if it is not there."""
    return next((part for part in stacks.split("\n\n") if _RUNS_LOOP in part), stacks).strip()


def listed(table: Table, now: float) -> str:
    """Return the oldest requests, a line for each. `now` is time.monotonic()."""
    if not table.requests:
        return "No request is in hand."
    lines = [
        "Requests in hand:",
        *(
            f"  {each.method} {each.target} for {now - each.begun:.3f} s from {each.peer} ({each.kind.name.lower()})"
            for each in table.requests[:MOST_NAMED]
        ),
    ]
    if more := len(table.requests[MOST_NAMED:]) + table.unnamed:
        lines.append(f"  and {more} more")
    return "\n".join(lines)


def told(held: Held) -> list[dict[str, Any]]:
    """The oldest requests, for the event of the worker's end."""
    return [_fields(each) | {"state": _state(each)} for each in held.requests[:MOST_NAMED]]


def report_held(ended: WorkerEnded, log: Logger) -> None:
    """Log what a worker had in hand. One that has cut its requests at the end of its drain has logged them itself."""
    held = ended.held
    if ended.cause is Cause.DRAIN and ended.code == 0:
        return
    who = {"slot": ended.slot, "generation": ended.generation, "pid": ended.pid, "reason": ended.cause}
    for each in held.requests[:MOST_NAMED]:
        log.of(ended.pid, Level.WARNING, f"{_WHAT[_state(each)]} with its worker", **_fields(each), **who)
    if more := held.unnamed + len(held.requests[MOST_NAMED:]):
        log.of(ended.pid, Level.WARNING, f"{more} more requests lost with their worker", **who)


_WHAT = {"lost": "request lost", "websocket": "WebSocket lost", "left": "request without a client ended"}


def _state(request: HeldRequest) -> str:
    if request.is_websocket:
        return "websocket"
    return "left" if request.is_left else "lost"


def _fields(request: HeldRequest) -> dict[str, Any]:
    age = round(request.age, 3)
    return {"method": request.method, "target": request.target, "age": age, "peer": request.peer}
