"""The templates of a service, by the titles of their processes."""

import os
import signal
from pathlib import Path

from tests.support.service import Service, wait_until


def kill_template(service: Service) -> None:
    """Kill the template when it has a spare, and wait for the spare's own spare."""
    spare = wait_until(lambda: titled(service, "spare gen 1"), "there is a spare")
    [template] = wait_until(lambda: titled(service, "template gen 1"), "there is a template")
    os.kill(template, signal.SIGKILL)
    wait_until(lambda: titled(service, "spare gen 1") not in ([], spare), "the next spare is forked")


def titled(service: Service, text: str) -> list[int]:
    found = []
    for pid in service.family:
        try:
            if text in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(pid)
        except OSError:
            continue
    return found
