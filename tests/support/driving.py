"""A template and its workers without a master: the test says what a master says, and hears what it would hear.

The process that has started the template can be killed while the channels stay open, as they do where systemd keeps
them.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import requests

import clusterd
from clusterd.config.model import to_json
from clusterd.config.reading.loader import load_given
from clusterd.linux.stacks import new_stacks_file
from clusterd.linux.wakeups import Wakeups
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.wire import messages
from clusterd.wire.packets import Packet, receive, send, socketpair
from tests.support.processes import descendants
from tests.support.service import PATIENCE_SECONDS

AN_HOUR = 3600.0
Kind = TypeVar("Kind", bound=messages.Message)


class Driven:
    """One process at the other end of a channel."""

    def __init__(self, channel: socket.socket, pid: int = 0) -> None:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        channel.settimeout(PATIENCE_SECONDS)
        self.channel = channel
        self.pid = pid
        self.descriptors: tuple[int, ...] = ()
        """Those that came with what was heard last."""

    def say(self, message: messages.Message, *descriptors: int) -> None:
        send(self.channel, messages.encode(message), descriptors)

    def hear(self, kind: type[Kind]) -> Kind:
        """The next message of that kind. Others are dropped."""
        while True:
            packet = self._packet()
            assert packet is not None, f"{kind.__name__} was to come, and the channel has ended"
            self._let_go()
            self.descriptors = packet.descriptors
            message = messages.decode(packet.data)
            if isinstance(message, kind):
                self.pid = packet.pid or 0
                return message

    def close(self) -> None:
        """End the channel."""
        self._let_go()
        self.channel.close()

    def _let_go(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = ()

    def said_before_end(self) -> list[messages.Message]:
        """What it says until it closes its end."""
        said = []
        while (packet := self._packet()) is not None:
            said.append(messages.decode(packet.data))
        return said

    def _packet(self) -> Packet | None:
        return receive(self.channel)


class Driver:
    """The master's part. `template` has loaded `source`, an application, when `load` returns."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._shared = Scoreboard.create(), Arena.create()
        self._wakeups = Wakeups.create()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stacks = new_stacks_file("clusterd-stacks-test")
        self._driven: list[Driven] = []
        self._serial = self._row = 0
        ours, theirs = socketpair()
        path = os.pathsep.join([str(Path(clusterd.__file__).parents[1]), str(Path(__file__).parents[2])])
        with theirs, open(directory / "log", "wb") as log:
            self._init = subprocess.Popen(
                [sys.executable, "-m", "tests.support.first_master", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        assert self._init.stdout is not None
        self.master, template = map(int, self._init.stdout.readline().split())
        self.template = self._drive(ours, template)

    def _drive(self, channel: socket.socket, pid: int = 0) -> Driven:
        self._driven.append(Driven(channel, pid))
        return self._driven[-1]

    # ---- orders

    def order_load(self, source: str, *, outlives_master: bool = True, **settings: Any) -> None:
        """Have the template load an application."""
        (self.directory / "driven_app.py").write_text(source)
        given = {"app": "driven_app:app", "directory": str(self.directory), **settings}
        if "run" in settings:
            del given["app"]
        config = load_given(given, "the tests")
        load = messages.Load(1, to_json(config), True, False, ["http"], 7, outlives_master)
        shared = [each.descriptor for each in self._shared]
        descriptors = [*shared, self._stacks, *self._wakeups.descriptors, self._listener.fileno()]
        self.template.say(load, *descriptors)

    def load(self, source: str, **settings: Any) -> None:
        """The same, and wait until it has."""
        self.order_load(source, **settings)
        self.template.hear(messages.Loaded)

    def fork(self, *, reaped: bool = True, by: Driven | None = None) -> Driven:
        """Have the template fork a worker. It has said hello, and its pid is known."""
        scoreboard, arena = self._shared
        row, serial = scoreboard.lease(), self.next_serial()
        self._row = row
        arena.lease(row, 1, 1)
        ours, theirs = socketpair()
        with theirs:
            worker = self._drive(ours)
            order = messages.Fork(serial, 1, 1, row, {}, reaped)
            (by or self.template).say(order, theirs.fileno(), self._stacks)
        assert worker.hear(messages.Hello).serial == serial
        return worker

    def fork_spare(self, *, reaped: bool = True) -> Driven:
        """Have the template fork a spare. It has said hello."""
        ours, theirs = socketpair()
        with theirs:
            spare = self._drive(ours)
            self.template.say(messages.ForkSpare(self.next_serial(), reaped), theirs.fileno())
        spare.hear(messages.Hello)
        return spare

    def serve(self, **options: Any) -> Driven:
        """Fork a worker, and have it serve."""
        worker = self.fork(**options)
        worker.say(messages.Welcome())
        worker.hear(messages.Ready)
        worker.say(messages.Serve())
        return worker

    def next_serial(self) -> int:
        self._serial += 1
        return self._serial

    @property
    def serial(self) -> int:
        """That of the process that was forked last."""
        return self._serial

    def retire(self, worker: Driven, *descriptors: int, linger: bool = False) -> None:
        worker.say(messages.Retire(monotonic() + AN_HOUR, AN_HOUR, linger), *descriptors)

    # ---- events

    def kill_master(self) -> None:
        """Kill the process that has started the template, and wait for its end."""
        ended = os.pidfd_open(self.master)
        os.kill(self.master, signal.SIGKILL)
        wait_for_end(ended)

    def get(self, path: str = "/") -> str:
        """What the worker answers."""
        url = f"http://127.0.0.1:{self.address[1]}{path}"
        return requests.get(url, timeout=PATIENCE_SECONDS, headers={"Connection": "close"}).text

    def get_in_thread(self, path: str) -> Callable[[], str]:
        """Ask. Returns a function that waits for the answer."""
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(self.get(path)))
        thread.start()

        def wait() -> str:
            thread.join(PATIENCE_SECONDS)
            return answers[0]

        return wait

    @property
    def address(self) -> tuple[str, int]:
        """That of the workers."""
        host, port = self._listener.getsockname()
        return host, port

    def connections(self) -> int:
        """Of the worker that was forked last."""
        return self._shared[0].row(self._row).connections

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def close(self) -> None:
        """End all channels, and wait until the last process is gone."""
        for each in self._driven:
            each.close()
        with suppress(ProcessLookupError):
            os.kill(self.master, signal.SIGKILL)
        self._listener.close()
        try:
            self._init.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in descendants(self._init.pid):
                os.kill(pid, signal.SIGKILL)
            self._init.wait()
            raise
        assert self._init.stdout is not None
        self._init.stdout.close()
        for shared in self._shared:
            shared.close()
        for descriptor in (self._stacks, *self._wakeups.descriptors):
            os.close(descriptor)


def wait_for_end(pidfd: int) -> None:
    """Wait until the process has ended, and close the descriptor."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(1000 * PATIENCE_SECONDS), "the process does not end"
    os.close(pidfd)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
