"""The answers of several hosts as one text, or one document. Pure."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from clusterd.cli import tables
from clusterd.cli.hosts.outcomes import Failure, Outcome
from clusterd.dashboard import words
from clusterd.log.record import escaped
from clusterd.records import dataclass

_GAP = "  "
_WITH_WORKERS = frozenset({"status", "workers"})


@dataclass(frozen=True, slots=True)
class Shown:
    """What is printed, in this order."""

    lines: list[str]
    workers: list[dict[str, Any]]
    """The rows of the table of the workers, each with its `host`."""
    complaints: list[str]
    """The lines for standard error: of each host that has failed, and the notes of the others."""
    has_failed: bool


def checked(command: str, outcome: Outcome) -> Outcome:
    """Return the outcome, or a failure if this program cannot show the answer, as that of another version."""
    try:
        if outcome.failure is None:
            tables.workers_text(shown(command, [outcome]).workers)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        text = f"its clusterctl answers in another way: {escaped(repr(error))}"
        return replace(outcome, failure=Failure.FAILED, text=text, answer={})
    return outcome


def shown(command: str, outcomes: Sequence[Outcome]) -> Shown:
    """Return the answers with a column for the host. The outcomes have been checked."""
    good = [outcome for outcome in outcomes if outcome.failure is None]
    width = max((len(outcome.host) for outcome in good), default=0)
    lines = [(outcome.host, line) for outcome in good for line in _lines_of(command, outcome)]
    complaints = [
        f"clusterctl: {outcome.host}: {outcome.failure}: {outcome.text}" for outcome in outcomes if outcome.failure
    ]
    notes = [f"{outcome.host}: {escaped(str(note))}" for outcome in good for note in outcome.answer.get("notes", ())]
    return Shown(
        [f"{host.ljust(width)}{_GAP}{escaped(line)}".rstrip() for host, line in lines],
        [worker for outcome in good for worker in _workers_of(command, outcome)],
        [*complaints, *notes],
        len(good) < len(outcomes),
    )


def document(outcomes: Sequence[Outcome]) -> str:
    """Return the answers as one JSON object, by host. That of a host that has failed has `failure` and `text`."""
    return json.dumps({outcome.host: _document_of(outcome) for outcome in outcomes})


def event_text(host: str, event: dict[str, Any], width: int, *, as_json: bool) -> str:
    """Return an event of a host as one line."""
    if as_json:
        return json.dumps({"host": host, **event})
    clock = datetime.fromtimestamp(event["time"], UTC).astimezone().strftime("%H:%M:%S")
    return f"{host.ljust(width)}{_GAP}{tables.event_line(event, clock)}"


def events_by_time(outcomes: Sequence[Outcome]) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of all hosts in the order in which their clocks say that they have happened."""
    events = [(outcome.host, event) for outcome in outcomes for event in outcome.answer.get("events", ())]
    return sorted(events, key=lambda each: float(each[1]["time"]))


def _document_of(outcome: Outcome) -> dict[str, Any]:
    if outcome.failure is None:
        return outcome.answer
    return {**outcome.answer, "succeeded": False, "text": outcome.text, "failure": outcome.failure}


def _workers_of(command: str, outcome: Outcome) -> list[dict[str, Any]]:
    if command not in _WITH_WORKERS:
        return []
    return [{**worker, "state": str(worker["state"]), "host": outcome.host} for worker in outcome.answer["workers"]]


def _lines_of(command: str, outcome: Outcome) -> list[str]:
    """The lines of one host. Those of `top` are for programs only, and events are shown by time."""
    answer = outcome.answer
    match command:
        case "status":
            hooks = answer.get("hooks")
            return [tables.status_line(answer), *([words.hooks(hooks)] if hooks else [])]
        case "workers" | "top" | "events":
            return []
        case "list":
            return [f"{service['name']}{_GAP}{service['text']}" for service in answer["services"]] or ["no service"]
        case "config" if "changes" in answer:
            return (tables.changes_text(answer["changes"]) or outcome.text).split("\n")
        case "config":
            settings = {key: value for key, value in answer.items() if key not in ("succeeded", "text")}
            return tables.settings_lines(settings)
        case "stacks" if "stacks" in answer:
            stacks = answer["stacks"].items()
            return [line for slot, text in stacks for line in (f"== worker {slot}", *text.split("\n"))]
    return outcome.text.split("\n")
