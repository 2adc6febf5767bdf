"""`clusterctl memory`: prints what the memory of a worker is used for."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from clusterd.cli.examining.workers import NotExamined, examine
from clusterd.cli.terminal import Spinner
from clusterd.log.record import escaped
from clusterd.profiles.memory import BadReport, lines_of, parsed
from clusterd.wire.control import Command


def memory(path: Path, slot: int, seconds: int, *, as_json: bool) -> int:
    """Run the command. Returns the exit status."""
    spinner = Spinner(sys.stderr)
    spinner.show(f"worker {slot}: its allocations are traced for {seconds} s")
    try:
        (answer,) = examine(path, Command.MEMORY, [slot], seconds)
    finally:
        spinner.clear()
    if isinstance(answer, NotExamined):
        return _fail(answer.reason, as_json=as_json)
    try:
        report = parsed(answer.result)
    except BadReport as error:
        return _fail(f"worker {slot} has sent no report of its memory: {error}", as_json=as_json)
    if as_json:
        print(json.dumps({"succeeded": True, "slot": slot, "pid": answer.pid, **asdict(report)}))
    else:
        print(f"worker {slot} (pid {answer.pid}), for {report.seconds:.1f} s")
        print("\n".join(map(escaped, lines_of(report))))
    return 0


def _fail(reason: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"succeeded": False, "text": reason}))
    else:
        print(escaped(reason), file=sys.stderr)
    return 1
