"""What a host has answered, or the one line that says why it has not. Pure."""

import json
from enum import StrEnum
from typing import Any

from clusterd.cli.hosts.processes import Cut, Ended
from clusterd.dashboard import words
from clusterd.log.record import escaped
from clusterd.records import dataclass

_SSH_FAILED = 255
"""The exit status of ssh(1) for errors of its own."""
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
"""The exit statuses of a shell for a program that it cannot run (POSIX, 2.8.2)."""
_USAGE = 2
_NO_CLUSTERD = 69
_MOST_CHARACTERS = 300
_CLUSTERCTL = "clusterctl: "
_LAST_SECOND = 253_402_300_800
"""The end of the year 9999, the last one that datetime knows."""


class Failure(StrEnum):
    """Why a host has not done what it was asked to."""

    UNREACHABLE = "unreachable"
    """ssh has failed: no such host, refused, no permission, or the connection was lost."""
    NO_CLUSTERCTL = "no clusterctl"
    NO_CLUSTERD = "no clusterd"
    """No clusterd answers there, or this user may not speak to it."""
    REFUSED = "refused"
    """clusterd refused the command, or it failed."""
    LATE = "late"
    FAILED = "failed"
    """Anything else."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the command on one host."""

    host: str
    failure: Failure | None
    text: str
    """In words: of clusterd, or why there is no answer, which is one line."""
    answer: dict[str, Any]
    """The document that its clusterctl has printed. Empty if there is none."""


def outcome_of(ended: Ended, seconds: float | None, *, of_events: bool = False) -> Outcome:
    """Return what came of the command. `seconds` was the time limit.

    The answer to `of_events` is a line for each, and no document says that it has succeeded.
    """
    answer = _events(ended) if of_events else _last_document(ended.output)
    if ended.cut is Cut.LATE:
        return Outcome(
            ended.host,
            Failure.LATE,
            f"no answer within {words.plural(int(seconds or 0), 'second')}; it may go on with the command",
            {},
        )
    if ended.cut is Cut.TOO_LONG:
        return Outcome(ended.host, Failure.FAILED, "its answer is too long", {})
    if answer is not None and (ended.status == 0) == answer["succeeded"]:
        text = str(answer.get("text", ""))
        if answer["succeeded"]:
            return Outcome(ended.host, None, text, answer)
        return Outcome(ended.host, Failure.REFUSED, _in_one_line(text), answer)
    why = _last_line(ended.errors)
    match ended.status:
        case 0:
            return Outcome(ended.host, Failure.FAILED, "its clusterctl has printed no answer in JSON", {})
        case status if status == _SSH_FAILED:
            return Outcome(ended.host, Failure.UNREACHABLE, why or "ssh has ended with 255", {})
        case status if status in (_NOT_EXECUTABLE, _NOT_FOUND):
            return Outcome(ended.host, Failure.NO_CLUSTERCTL, why or "its shell finds no clusterctl", {})
        case status if status == _NO_CLUSTERD:
            return Outcome(ended.host, Failure.NO_CLUSTERD, why.removeprefix(_CLUSTERCTL), {})
        case status if status == _USAGE and why.startswith(_CLUSTERCTL):
            older = "is clusterd older there?"
            return Outcome(ended.host, Failure.FAILED, f"{why.removeprefix(_CLUSTERCTL)} ({older})", {})
    ending = f"was ended by signal {-ended.status}" if ended.status < 0 else f"has ended with {ended.status}"
    return Outcome(ended.host, Failure.FAILED, why or f"ssh {ending} and has said nothing", {})


def _last_document(output: bytes) -> dict[str, Any] | None:
    """The answer, which is the last line: before it may be what the host's shell says to everybody."""
    try:
        document = json.loads(output.rstrip().rpartition(b"\n")[2])
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("succeeded"), bool) else None


def _events(ended: Ended) -> dict[str, Any] | None:
    found = [event for line in ended.output.splitlines() if (event := event_in(line))]
    return {"succeeded": True, "events": found} if ended.status == 0 else None


def event_in(line: bytes) -> dict[str, Any] | None:
    """Return the event that a line of `clusterctl events --json` has. None if it has none that can be shown."""
    try:
        event = json.loads(line)
        words.event(event)
        is_event = isinstance(event["event"], str) and 0 <= event["time"] < _LAST_SECOND
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None
    return dict(event) if is_event else None


def _last_line(errors: bytes) -> str:
    return _in_one_line(errors.decode(errors="replace").strip().rpartition("\n")[2])


def _in_one_line(text: str) -> str:
    line = escaped("; ".join(filter(None, map(str.strip, text.splitlines()))))
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}..."
