"""A clusterd of its own for one test: real processes, free ports, ended by pid, its log kept for the failure."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.support.ports import free_port
from tests.support.processes import descendants

AS_BY_SYSTEMD = ("env", "--default-signal")
"""No signal ignored: a shell's background job, as whoever runs the tests may be, ignores SIGINT and SIGQUIT, and hands
that down."""

PATIENCE_SECONDS = 60.0
"""How long an event is waited for before a test fails: far beyond what it takes, for slow machines."""

HELLO = """
import os
def app(environ, start_response):
    body = f"{os.getpid()} {os.environ['CLUSTERD_WORKER']} {os.environ['CLUSTERD_GENERATION']} VERSION".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


class Never(AssertionError):
    """What a test waited for did not happen."""


def wait_until(condition: Callable[[], object], what: str) -> Any:
    """The first true value of `condition`. Raises Never."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        threading.Event().wait(0.01)
    raise Never(what)


@dataclass(frozen=True)
class Answer:
    """What the example application says of itself."""

    pid: int
    slot: int
    generation: int
    version: str


@dataclass
class Service:
    """One running clusterd and its application."""

    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    inside: tuple[str, ...] = ()
    """A command to run it in, such as unshare."""
    flags: tuple[str, ...] = ()
    """Further ones, on its command line."""
    passed: tuple[int, ...] = ()
    """Descriptors that this command inherits."""
    stdin: int = subprocess.DEVNULL
    python: str = sys.executable
    """The interpreter in whose environment clusterd is installed."""
    process: subprocess.Popen[str] | None = None
    lines: list[str] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _reader: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.port = free_port()
        self.metrics_port = free_port()
        self.application = self.directory / "app.py"
        self.config = self.directory / "clusterd.yaml"
        self.control = self.directory / "control.sock"
        if not self.application.exists():
            self.deploy("1")
        self.configure()

    # ---- what is deployed

    def deploy(self, version: str, source: str = HELLO) -> None:
        """Put an application on disk; its answers end with `version`."""
        # At once, as a deploy should: an import that is under way finds one of the two.
        written = self.application.with_suffix(".new")
        written.write_text(source.replace("VERSION", version))
        written.replace(self.application)
        # Two deploys within a second of the same size would leave a stale .pyc in use.
        for cached in self.directory.glob("__pycache__/app.*"):
            cached.unlink()

    def configure(self, **changes: Any) -> None:
        """Write the configuration: the test's settings over small defaults, None for none of them. JSON is YAML."""
        self.settings.update(changes)
        document = {
            "app": "app:app",
            "directory": str(self.directory),
            "listen": [f"127.0.0.1:{self.port}"],
            "metrics": f"127.0.0.1:{self.metrics_port}",
            "control": str(self.control),
            "workers": 2,
            "rollout": {"settle": "0ms"},
            **self.settings,
        }
        self.config.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))

    # ---- the process

    def start(self, *, wait: bool = True) -> "Service":
        """Start clusterd and, unless told otherwise, wait until every worker is ready."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", **self.environment}
        self.process = subprocess.Popen(
            [*AS_BY_SYSTEMD, *self.inside, self.python, *self.arguments],
            stdin=self.stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=self.directory,
            pass_fds=self.passed,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait:
            self.wait_for_status(r"^Serving: ")
        return self

    @property
    def arguments(self) -> tuple[str, ...]:
        """What Python is to run."""
        return "-m", "clusterd.cli.clusterd", "--config", str(self.config), *self.flags

    @property
    def pid(self) -> int:
        """The master's pid."""
        assert self.process is not None
        return self.process.pid

    @property
    def family(self) -> list[int]:
        """Every process of the service but the master."""
        return descendants(self.pid)

    def signal(self, number: int) -> None:
        """Send the master a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit status, once clusterd has ended."""
        assert self.process is not None and self._reader is not None
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return status

    def stop(self) -> int:
        """Ask it to stop and wait for it."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def destroy(self) -> None:
        """End it whatever state it is in, with everything it started."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                for pid in descendants(self.process.pid):
                    os.kill(pid, signal.SIGKILL)
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            if self._reader is not None:
                self._reader.join(5)
            self.process.stdout.close()

    # ---- what it says

    def _read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for_line(self, pattern: str, after: int = 0) -> str:
        """The first line of the log from number `after` on that `pattern` is found in. Raises Never."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        seen = after
        with self._news:
            while True:
                for line in self.lines[seen:]:
                    if re.search(pattern, line):
                        return line
                seen = len(self.lines)
                if time.monotonic() > deadline or (self.process is not None and self.process.poll() is not None):
                    # What was printed last may still be on its way.
                    if not self._news.wait(0.2) and seen == len(self.lines):
                        raise Never(f"{pattern!r} is not in the log:\n" + self.log())
                else:
                    self._news.wait(0.5)

    def log(self) -> str:
        """Everything it has printed."""
        return "\n".join(self.lines)

    # ---- asking it

    def get(self, path: str = "/", **options: Any) -> requests.Response:
        """A request on a new connection."""
        options.setdefault("timeout", PATIENCE_SECONDS)
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"http://127.0.0.1:{self.port}{path}", **options)

    def ask(self) -> Answer:
        """What the example application says of itself."""
        pid, slot, generation, version = self.get().text.split()
        return Answer(int(pid), int(slot), int(generation), version)

    def metrics(self, path: str = "/metrics") -> requests.Response:
        """A page of the master's endpoint."""
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=PATIENCE_SECONDS)

    def clusterctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run clusterctl against it."""
        return subprocess.run(
            [self.python, "-m", "clusterd.cli.clusterctl", "--socket", str(self.control), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def reload(self) -> "subprocess.CompletedProcess[str]":
        """`clusterctl reload`."""
        return self.clusterctl("reload")

    def ask_to_reload(self) -> dict[str, Any]:
        """What `clusterctl reload` asks for and gets, without a process of its own: for many of them."""
        return self.ask_to("reload")

    def ask_to(self, command: str, **arguments: object) -> dict[str, Any]:
        """The result of a command on the control socket."""
        return self._command(command, **arguments)[-1]

    def describe(self) -> dict[str, Any] | None:
        """The state by the control socket; None while nobody answers."""
        try:
            answer = self._command("status")
        except (FileNotFoundError, ConnectionError):
            return None
        data: dict[str, Any] | None = answer[-1]["data"] if answer else None
        return data

    def _command(self, command: str, **arguments: object) -> list[dict[str, Any]]:
        """The lines of the answer to a command, until the end of it or of the connection."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_SECONDS)
            sock.connect(str(self.control))
            sock.sendall(json.dumps({"version": 1, "command": command, **arguments}).encode() + b"\n")
            lines = []
            with sock.makefile("rb") as answer:
                for line in answer:
                    lines.append(json.loads(line))
                    if lines[-1]["type"] == "result":
                        break
            return lines

    def workers(self, state: str = "ready") -> list[dict[str, Any]]:
        """The workers in `state`."""
        description = self.describe()
        return [w for w in description["workers"] if w["state"] == state] if description else []

    def wait_for_status(self, pattern: str) -> str:
        """The status line, once `pattern` is found in it. Raises Never."""

        def matching() -> str | None:
            if self.process is not None and self.process.poll() is not None:
                raise Never(f"clusterd has ended with {self.process.returncode}:\n{self.log()}")
            description = self.describe()
            status = description["status"] if description else ""
            return status if re.search(pattern, status) else None

        status: str = wait_until(matching, f"status {pattern!r}:\n{self.log()}")
        return status
