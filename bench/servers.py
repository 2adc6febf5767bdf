"""The servers of the comparison: how each is started, and which version it is."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.subject import free_port

APPLICATIONS = Path(__file__).with_name("applications")
START_SECONDS = 20.0
STOP_SECONDS = 15.0

NGINX = """\
daemon off; worker_processes {workers}; pid {directory}/pid; error_log {directory}/error;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "Hello, World!"; }} }}
}}
"""


@dataclass(frozen=True)
class Server:
    """One way of serving. `command` has {port}, {workers}, {application}, {directory} and {bin} to be filled in."""

    name: str
    command: str
    package: str
    """What its version is asked of; empty for those that are no Python package."""

    @property
    def is_there(self) -> bool:
        """Whether it can be started on this machine."""
        program = self.command.split()[0]
        return shutil.which(program.format(bin=_scripts())) is not None

    @contextmanager
    def running(self, application: str, workers: int) -> Iterator[int]:
        """Serve for the length of the block; the port."""
        port = free_port()
        with tempfile.TemporaryDirectory() as directory:
            megabyte = Path(directory) / "megabyte"
            megabyte.write_bytes(bytes(1 << 20))
            if self.name == "nginx":
                text = NGINX.format(workers=workers, directory=directory, port=port)
                (Path(directory) / "nginx.conf").write_text(text)
            filled = self.command.format(
                port=port, workers=workers, application=application, directory=directory, bin=_scripts()
            )
            with (Path(directory) / "log").open("wb") as log:
                process = subprocess.Popen(
                    filled.split(),
                    cwd=APPLICATIONS,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "PYTHONPATH": str(APPLICATIONS), "BENCH_FILE": str(megabyte)},
                    start_new_session=True,
                )
                try:
                    _wait_for(port, process, Path(directory) / "log")
                    yield port
                finally:
                    _end(process)


def _scripts() -> str:
    return str(Path(sys.executable).parent)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text(errors='replace')}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it with everything it started: the next one is to have the machine to itself."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


_CLUSTERD = (
    "{bin}/clusterd {application} --workers {workers} --listen 127.0.0.1:{port} "
    "--metrics off --control {directory}/control.sock --log.level warning"
)
_GRANIAN = (
    "{bin}/granian --workers {workers} --host 127.0.0.1 --port {port} --no-access-log --log-level warning {application}"
)

CLUSTERD_LOOP = Server("clusterd, on the loop", f"{_CLUSTERD} --threads 0", "clusterd")
CLUSTERD_THREADS = Server("clusterd, 4 threads", f"{_CLUSTERD} --threads 4", "clusterd")
CLUSTERD_LONG_QUEUE = Server(
    "clusterd, 4 threads, a long queue", f"{_CLUSTERD} --threads 4 --limits.queue 10000", "clusterd"
)
CLUSTERD_GREENLETS = Server("clusterd, greenlets", _CLUSTERD, "clusterd")
CLUSTERD_ASGI = Server("clusterd, ASGI", _CLUSTERD, "clusterd")
_WITH_METRICS = _CLUSTERD.replace("--metrics off", "--metrics unix:{directory}/metrics.sock")
_UNCOUNTED = f"{_CLUSTERD} --worker_start uncounted:stop_counting"
CLUSTERD_ASGI_METRICS = Server("clusterd, ASGI, metrics on", _WITH_METRICS, "clusterd")
CLUSTERD_ASGI_UNCOUNTED = Server("clusterd, ASGI, metrics off, requests uncounted", _UNCOUNTED, "clusterd")
CLUSTERD_LOOP_METRICS = Server("clusterd, on the loop, metrics on", f"{_WITH_METRICS} --threads 0", "clusterd")
CLUSTERD_LOOP_UNCOUNTED = Server(
    "clusterd, on the loop, metrics off, requests uncounted", f"{_UNCOUNTED} --threads 0", "clusterd"
)
GRANIAN_WSGI_1 = Server("granian, 1 thread", f"{_GRANIAN} --interface wsgi --blocking-threads 1", "granian")
GRANIAN_WSGI_4 = Server("granian, 4 threads", f"{_GRANIAN} --interface wsgi --blocking-threads 4", "granian")
GRANIAN_ASGI = Server("granian, ASGI", f"{_GRANIAN} --interface asgi", "granian")
UVICORN = Server(
    "uvicorn",
    "{bin}/uvicorn --workers {workers} --port {port} --loop uvloop --http httptools --no-access-log "
    "--log-level warning {application}",
    "uvicorn",
)
HYPERCORN = Server(
    "hypercorn", "{bin}/hypercorn --workers {workers} --bind 127.0.0.1:{port} -k uvloop {application}", "hypercorn"
)
GUNICORN = Server(
    "gunicorn gthread, 4 threads",
    "{bin}/gunicorn -k gthread --threads 4 -w {workers} -b 127.0.0.1:{port} {application}",
    "gunicorn",
)
GUNICORN_PRELOADED = Server("gunicorn gthread, preloaded", f"{GUNICORN.command} --preload", "gunicorn")
GUNICORN_GEVENT = Server(
    "gunicorn gevent", "{bin}/gunicorn -k gevent -w {workers} -b 127.0.0.1:{port} {application}", "gunicorn"
)
WAITRESS = Server("waitress, one process", "{bin}/waitress-serve --listen=127.0.0.1:{port} {application}", "waitress")
UWSGI = Server(
    "uWSGI, 4 threads",
    "{bin}/uwsgi --http-socket 127.0.0.1:{port} --master --processes {workers} --threads 4 --disable-logging "
    "--http-keepalive --add-header Connection:Keep-Alive --module {application}",
    "uWSGI",
)
NODE = Server("Node's cluster", "node cluster.js {port} {workers}", "")
NGINX_LIMIT = Server("nginx", "nginx -c {directory}/nginx.conf", "")


def versions(servers: list[Server]) -> dict[str, str]:
    """The version of each, by its name."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for server in servers:
        if server.package:
            try:
                found[server.package] = version(server.package)
            except PackageNotFoundError:
                continue
        else:
            flag = "-v" if server is NGINX_LIMIT else "--version"
            done = subprocess.run([server.command.split()[0], flag], capture_output=True, text=True, check=False)
            found[server.name] = (done.stdout + done.stderr).strip().rpartition("/")[2]
    return found
