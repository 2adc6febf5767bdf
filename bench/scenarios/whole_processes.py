"""How long commands take as an operator starts them, and a service until it answers: `whole_processes.py [ROUNDS]`."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.report import show
from bench.subject import Service, await_answer, free_port, service

ROUNDS = 15
MOST_VERSION_SECONDS = 0.06
MOST_STATUS_SECONDS = 0.12
MOST_START_SECONDS = 0.25
"""From the start of the process to the first answer, without the import of the application."""
IMPORT_SECONDS = 0.5
SCRIPTS = Path(sys.executable).parent


def findings(rounds: int = ROUNDS) -> Iterator[tuple[str, bool]]:
    """Each as a whole process, of which Python itself takes a part."""
    python = _median(rounds, lambda: _run([sys.executable, "-c", "pass"]))
    yield f"python -c pass: {python * 1e3:.0f} ms", True
    version = _median(rounds, lambda: _run([str(SCRIPTS / "clusterd"), "--version"]))
    text = f"clusterd --version: {version * 1e3:.0f} ms (at most {MOST_VERSION_SECONDS * 1e3:.0f})"
    yield text, version <= MOST_VERSION_SECONDS
    with tempfile.TemporaryDirectory() as directory, service(Path(directory)) as running:
        status = _median(rounds, lambda: _status(running))
    text = f"clusterctl status: {status * 1e3:.0f} ms (at most {MOST_STATUS_SECONDS * 1e3:.0f})"
    yield text, status <= MOST_STATUS_SECONDS
    start = _median(rounds, _start)
    text = f"a start in the foreground to the first answer: {start * 1e3:.0f} ms above the import"
    yield f"{text} (at most {MOST_START_SECONDS * 1e3:.0f})", start <= MOST_START_SECONDS


def _median(rounds: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(rounds))


def _run(command: Sequence[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _status(running: Service) -> float:
    return _run([str(SCRIPTS / "clusterctl"), "--socket", str(running.control), "status"])


def _start() -> float:
    """The application says how long its import takes by taking so long."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        Path(name, "app.py").write_text(
            f"import time\ntime.sleep({IMPORT_SECONDS})\ndef app(environ, start_response):\n"
            "    start_response('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n"
        )
        command = [str(SCRIPTS / "clusterd"), "app:app", "--listen", f"127.0.0.1:{port}", "--metrics", "off"]
        command += ["--control", str(Path(name, "control.sock")), "--workers", "2"]
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            await_answer(port)
            return time.perf_counter() - begun - IMPORT_SECONDS
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    show(findings(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
