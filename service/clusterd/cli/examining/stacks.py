"""`clusterctl stacks all`: prints the stacks of every worker."""

import json
from pathlib import Path

from clusterd.cli.asking import ask
from clusterd.cli.examining.workers import slots_of
from clusterd.log.record import escaped
from clusterd.wire.control import Command


def stacks_of_all(path: Path, *, as_json: bool) -> int:
    """Print them one after the other. Returns the exit status."""
    results = {}
    for slot in slots_of(path):
        *_, results[slot] = ask(path, Command.STACKS, {"slot": slot})
        if not as_json:
            print("\n".join(map(escaped, f"== worker {slot}\n{results[slot]['text']}\n".split("\n"))))
    succeeded = all(result["succeeded"] for result in results.values())
    if as_json:
        texts = {slot: result["text"] for slot, result in results.items()}
        print(json.dumps({"succeeded": succeeded, "stacks": texts}))
    return 0 if succeeded else 1
