"""The process that starts a template for tests/support/driving.py: `python -m tests.support.first_master CHANNEL`.

It has a parent to which orphans come, as the service manager is one, so that it can be killed. That parent ends when
the last process is gone.
"""

import os
import signal
import socket
import sys
from typing import NoReturn

from clusterd.config import marks
from clusterd.linux.prctl import become_subreaper
from clusterd.master.children.spawn import Role, spawn


def main() -> None:
    """Start the master, and reap everything."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    become_subreaper()
    if os.fork() == 0:
        be_master(channel)
    channel.close()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def be_master(channel: socket.socket) -> NoReturn:
    """Start the template, say both pids, and wait for the end."""
    become_subreaper()
    environment = {**os.environ, marks.MASTER_PID: str(os.getpid()), marks.GENERATION: "1"}
    template = spawn(Role.TEMPLATE, sys.executable, channel, environment)
    channel.close()
    print(os.getpid(), template, flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
