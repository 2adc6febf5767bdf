"""clusterd for a measurement: on free ports, with a fake service manager that hears when it is ready."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

APPLICATION = """\
import os, time
end = time.process_time() + 0.25
while time.process_time() < end:
    pass
time.sleep(0.25)
BALLAST = bytearray(os.urandom(1 << 20)) * {megabytes}

def app(environ, start_response):
    time.sleep(0.005)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

READY_SECONDS = 60.0


@dataclass
class Service:
    """A running clusterd. Times are seconds since the epoch."""

    process: "subprocess.Popen[bytes]"
    port: int
    control: Path
    log: Path
    started_at: float
    ready_at: float

    def reload(self) -> None:
        """Roll out, and wait for the end. Raises CalledProcessError when it is withdrawn."""
        command = [sys.executable, "-m", "clusterd.cli.clusterctl", "--socket", str(self.control), "reload"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def workers(self) -> list[dict[str, Any]]:
        """The workers, by the control socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.control))
            sock.sendall(b'{"version": 1, "command": "status"}\n')
            with sock.makefile() as lines:
                workers: list[dict[str, Any]] = json.loads(lines.readline())["data"]["workers"]
                return workers

    def logged_at(self, text: str) -> list[tuple[float, str]]:
        """The lines of the log that `text` is in, with their times."""
        found = []
        for line in self.log.read_text().splitlines():
            if text in line:
                found.append((_time_of(line), line))
        return found


def _time_of(line: str) -> float:
    return datetime.fromisoformat(line.split(" ", 1)[0]).timestamp()


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def await_answer(port: int) -> None:
    """Have a request answered, as soon as somebody listens. It waits in the socket's queue until somebody accepts."""
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.001)
            continue
        with client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            answer = client.recv(4096)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(answer)
        return


@contextmanager
def service(directory: Path, *, megabytes: int = 0, **settings: Any) -> Iterator[Service]:
    """Start clusterd in `directory`, wait for READY=1, and stop it in the end."""
    (directory / "app.py").write_text(APPLICATION.format(megabytes=megabytes))
    port, control = free_port(), directory / "control.sock"
    document = {
        "app": "app:app",
        "listen": [f"127.0.0.1:{port}"],
        "metrics": "off",
        "control": str(control),
        "workers": 2,
        "threads": 32,
        **settings,
    }
    (directory / "clusterd.yaml").write_text(json.dumps(document))
    notify = directory / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (directory / "log").open("wb") as log:
        manager.bind(str(notify))
        manager.settimeout(READY_SECONDS)
        started_at = time.time()
        process = subprocess.Popen(
            [sys.executable, "-m", "clusterd.cli.clusterd", "--config", str(directory / "clusterd.yaml")],
            stdout=log,
            stderr=log,
            # As installed: with the compiled files that the first start leaves behind.
            env={**os.environ, "NOTIFY_SOCKET": str(notify), "PYTHONDONTWRITEBYTECODE": ""},
        )
        try:
            while b"READY=1" not in manager.recv(4096):
                pass
            yield Service(process, port, control, directory / "log", started_at, time.time())
            process.send_signal(signal.SIGTERM)
            process.wait(READY_SECONDS)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGQUIT)
                process.wait(READY_SECONDS)
