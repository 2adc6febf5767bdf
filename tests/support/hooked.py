"""A service with hooks, which say what they hear, and do what the test tells them."""

from dataclasses import dataclass
from typing import Any

from tests.support.outspoken import Outspoken
from tests.support.service import wait_until

PROLOGUE = r"""
import json, os, signal, sys, threading, time
from clusterd import cluster

def say(*words):
    os.write(1, f"@ {json.dumps(words, default=repr)}\n".encode())
"""

HEARS_ALL = """
cluster.on("setup")(lambda settings: say("setup", "VERSION", settings["workers"], os.getpid()))
cluster.on("fork")(lambda worker: say("fork", worker.id, worker.generation, worker.pid, worker.is_connected()))
cluster.on("online")(lambda worker: say("online", worker.id, worker.generation, worker.pid))
cluster.on("listening")(lambda worker, addresses: say("listening", worker.id, worker.generation, addresses))
cluster.on("disconnect")(lambda worker: say("disconnect", worker.id, worker.generation, worker.is_connected()))

@cluster.on("exit")
def exited(worker, code, signal):
    left = worker.exited_after_disconnect
    say("exit", worker.id, worker.generation, worker.pid, code, signal, left, worker.is_dead())
"""

OBEYS = """
@cluster.on("message")
def obey(worker, message):
    if isinstance(message, dict) and "do" in message:
        try:
            say("done", message["number"], eval(message["do"]))
        except Exception as error:
            say("error", message["number"], type(error).__name__, str(error))
        return
    say("message", worker.id, message)
    if message == "reload":
        return cluster.reload().result()
    if message == "fail":
        raise LookupError("no such thing")
    return f"answer to {worker.id}"
"""

APPLICATION = """
import os
from clusterd import worker

@worker.on("message")
def told(message):
    if isinstance(message, dict) and "do" in message:
        worker.send(message)
    elif message == "say":
        worker.send({"from": worker.id})
    return [message, worker.id, os.environ.get("COLOUR")]

def app(environ, start_response):
    start_response("200 OK", [])
    try:
        answer = worker.request(environ["PATH_INFO"].strip("/")).result()
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    return [answer.encode()]
"""


@dataclass
class Hooked(Outspoken):
    """`hook` deploys hooks; they are `hooks.py`."""

    _told: int = 0

    def __post_init__(self) -> None:
        self.settings = {"hooks": "hooks", "workers": 2, **self.settings}
        super().__post_init__()
        self.deploy("1", APPLICATION)
        self.hook()

    def hook(self, source: str = HEARS_ALL + OBEYS, version: str = "1") -> None:
        """Put hooks on disk."""
        self.hook_bare(PROLOGUE + source.replace("VERSION", version))

    def hook_bare(self, source: str) -> None:
        """Put a module on disk as it is."""
        (self.directory / "hooks.py").write_text(source)

    def do(self, expression: str, slot: int = 1) -> Any:
        """What comes of a Python expression in a handler of the hooks. Raises Raised."""
        number, self._told = self._told, self._told + 1
        sent = self.ask_to("send", slot=slot, message={"do": expression, "number": number})
        assert sent["succeeded"], sent
        return self.wait_for_outcome(number)

    def hooks(self) -> dict[str, Any]:
        """What `clusterctl status` says of them."""
        found: dict[str, Any] = (self.describe() or {})["hooks"]
        return found

    def hooks_pid(self) -> int:
        """The process, once it is told what happens."""
        pid: int = wait_until(lambda: self.hooks()["is_told"] and self.hooks()["pid"], "hooks that are told")
        return pid
