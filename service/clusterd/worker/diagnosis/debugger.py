"""debugpy in this worker: started when the operator asks for it, and running until the process ends."""

import asyncio
import errno
import importlib
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Callable
from time import monotonic

from clusterd.runtime import originals
from clusterd.runtime.hub import is_used
from clusterd.wire.messages import DebuggerTold

LISTENING_SECONDS = 5.0
_LOOK_EVERY_SECONDS = 0.05
_PACKAGE = "debugpy"


class Debugger:
    """Starts debugpy in a separate thread, because that takes up to a second. `tell` gets the answers, on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: Callable[[DebuggerTold], None]) -> None:
        self._loop = loop
        self._tell = tell
        self._is_starting = False
        self._listens = False

    def start(self, host: str, port: int) -> None:
        """Let debuggers attach at `host` and `port`. Several requests during the start get one common answer."""
        if self._listens:
            self._tell(DebuggerTold(""))
        elif is_used():
            self._tell(DebuggerTold("the application uses gevent, and debugpy needs threads"))
        elif not self._is_starting:
            self._is_starting = True
            threading.Thread(target=self._run, args=(host, port), name="clusterd-debugger", daemon=True).start()

    def _run(self, host: str, port: int) -> None:
        failure = _listen(host, port)
        self._loop.call_soon_threadsafe(self._started, failure)

    def _started(self, failure: str) -> None:
        self._is_starting, self._listens = False, not failure
        self._tell(DebuggerTold(failure))


def _listen(host: str, port: int) -> str:
    """Start debugpy. Returns why that is impossible, or an empty string."""
    importlib.invalidate_caches()  # debugpy may have been installed after this process was forked.
    if importlib.util.find_spec(_PACKAGE) is None:
        return f"debugpy is not installed in the application's Python; run: {_install_command()}"
    if taken := _why_not(host, port):
        return f"it cannot listen on {host} port {port}: {taken}"
    # Without this variable debugpy writes four lines to the log about frozen modules of the standard library.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    try:
        # Not an import statement, because debugpy is no dependency of clusterd.
        debugpy = importlib.import_module(_PACKAGE)
        # Without a separate adapter process: the port is then closed when the worker ends, not a while later.
        debugpy.listen((host, port), in_process_debug_adapter=True)
    except Exception as error:
        return f"debugpy cannot be started: {error}"
    # Not all versions report whether their thread has begun to listen.
    deadline = monotonic() + LISTENING_SECONDS
    while not _why_not(host, port):
        if monotonic() > deadline:
            return f"debugpy does not listen on {host} port {port}; restart this worker before it is tried again"
        threading.Event().wait(_LOOK_EVERY_SECONDS)
    return ""


def _why_not(host: str, port: int) -> str:
    """Why a process cannot listen at this address now; empty if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with originals.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            match error.errno:
                case errno.EADDRINUSE:
                    by_whom = f"`ss -ltnp sport = :{port}` shows by whom; debug.port moves all workers' ports"
                    return f"the port is taken; {by_whom}"
                case errno.EADDRNOTAVAIL:
                    return "this machine has no such address; change debug.host"
                case _:
                    return error.strerror or str(error)
    return ""


def _install_command() -> str:
    # pip must not install into the distribution's own Python (PEP 668).
    return f"apt install python3-{_PACKAGE}" if sys.prefix == "/usr" else f"{sys.executable} -m pip install {_PACKAGE}"
