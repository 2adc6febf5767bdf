"""A program that is its own master, for one test: it says what its handlers hear, and does what the test tells it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.outspoken import Outspoken

PROLOGUE = r"""
import json, os, signal, sys, threading
from clusterd import Cluster

def say(*words):
    os.write(1, f"@ {json.dumps(words, default=repr)}\n".encode())  # at once, whichever thread says it

def obey():
    for number, line in enumerate(sys.stdin):
        try:
            say("done", number, eval(line))
        except BaseException as error:
            say("error", number, type(error).__name__, str(error))

cluster = Cluster(**SETTINGS)
"""

HEARS_ALL = """
cluster.on("setup")(lambda settings: say("setup", settings["workers"]))
cluster.on("fork")(lambda worker: say("fork", worker.id, worker.pid, worker.is_connected()))
cluster.on("online")(lambda worker: say("online", worker.id, worker.pid))
cluster.on("listening")(lambda worker, addresses: say("listening", worker.id, addresses))
cluster.on("disconnect")(lambda worker: say("disconnect", worker.id, worker.is_connected()))

@cluster.on("exit")
def exited(worker, code, signal):
    say("exit", worker.id, worker.pid, code, signal, worker.exited_after_disconnect, worker.is_dead())
"""

EPILOGUE = """
threading.Thread(target=obey, daemon=True).start()
say("ended", cluster.run())
"""


@dataclass
class Program(Outspoken):
    """`source` stands between the making of the cluster and its run."""

    source: str = HEARS_ALL
    prologue: str = PROLOGUE
    epilogue: str = EPILOGUE
    stdin: int = subprocess.PIPE
    _told: int = field(default=0)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The program, written anew."""
        settings = {
            "app": "app:app",
            "workers": 2,
            "listen": [f"127.0.0.1:{self.port}"],
            "control": str(self.control),
            "rollout": {"settle": "0ms"},
            **self.settings,
        }
        given = {key: value for key, value in settings.items() if value is not None}
        text = self.prologue.replace("SETTINGS", repr(given)) + self.source + self.epilogue
        (self.directory / "program.py").write_text(text)
        return ("program.py",)

    def do(self, expression: str) -> Any:
        """What comes of a Python expression, in a thread of the program. Raises Raised."""
        assert self.process is not None and self.process.stdin is not None
        number, self._told = self._told, self._told + 1
        self.process.stdin.write(f"{expression}\n")
        self.process.stdin.flush()
        return self.wait_for_outcome(number)

    def destroy(self) -> None:
        """End it, and let go of it."""
        super().destroy()
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()


@contextmanager
def program(directory: Path, **details: Any) -> Iterator[Program]:
    """A started program that is gone afterwards, what it has printed shown for the case of a failure."""
    made = Program(directory, **details)
    try:
        made.start()
        yield made
    finally:
        made.destroy()
        print(made.log())
