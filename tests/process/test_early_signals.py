"""Signals that come while clusterd still imports what it needs: they wait until somebody can act on them."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import is_alive
from tests.support.service import AS_BY_SYSTEMD, PATIENCE_SECONDS, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

# In place of a package that the master imports early: holds the start up, then lets the real one have its place.
HELD_UP = """
import importlib, os, sys, time
here = os.path.dirname(__file__)
open(f"{here}/importing", "w").close()
while not os.path.exists(f"{here}/go"):
    time.sleep(0.01)
sys.path.remove(here)
del sys.modules[__name__]
importlib.import_module(__name__)
"""


def signalled_while_importing(service: Service, number: signal.Signals) -> None:
    """Start it, and have the signal sent in the middle of its imports."""
    (service.directory / "yaml.py").write_text(HELD_UP)
    service.start(wait=False)
    wait_until((service.directory / "importing").exists, "it imports")
    service.signal(number)
    (service.directory / "go").touch()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_that_comes_early_is_an_orderly_one(make_service: MakeService, number: signal.Signals) -> None:
    service = make_service(workers=1)
    signalled_while_importing(service, number)
    assert service.wait() == 0
    assert "asked to stop" in service.log()
    assert "Traceback" not in service.log()
    assert not service.control.exists()


def test_a_reload_that_is_asked_for_early_follows_the_start(make_service: MakeService) -> None:
    service = make_service(workers=1)
    signalled_while_importing(service, signal.SIGHUP)
    wait_until(lambda: any(worker["generation"] == 2 for worker in service.workers()), "the reload")
    assert service.ask().generation == 2


@pytest.mark.parametrize("number", [signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1])
def test_whatever_else_is_asked_early_does_not_end_it(make_service: MakeService, number: signal.Signals) -> None:
    service = make_service(workers=2)
    signalled_while_importing(service, number)
    service.wait_for_status(r"^Serving: 2 workers")  # one more or less can be asked of a cluster that serves
    assert service.stop() == 0


def test_a_start_that_hangs_can_be_ended_by_quit(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.inside = ("prlimit", "--core=0")
    (service.directory / "yaml.py").write_text(HELD_UP)
    service.start(wait=False)
    wait_until((service.directory / "importing").exists, "it imports")
    service.signal(signal.SIGQUIT)
    assert service.wait() == -signal.SIGQUIT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_check_that_hangs_ends_when_asked_with_what_it_has_started(
    make_service: MakeService, number: signal.Signals
) -> None:
    service = make_service()
    importing, go, started = (service.directory / name for name in ("importing", "go", "started"))
    child = f"import subprocess\nopen({str(started)!r}, 'w').write(str(subprocess.Popen(['sleep', '1000']).pid))\n"
    service.deploy("1", child + hanging(importing, go))
    command = [
        *AS_BY_SYSTEMD,
        sys.executable,
        "-m",
        "clusterd.cli.clusterd",
        "--check",
        "--config",
        str(service.config),
    ]
    with subprocess.Popen(command, cwd=service.directory, stderr=subprocess.PIPE) as check:
        try:
            wait_until(importing.exists, "the application is imported")
            check.send_signal(number)
            assert check.wait(PATIENCE_SECONDS) == -number
            assert not is_alive(int(started.read_text()))
            assert check.stderr is not None and check.stderr.read() == b""
        finally:
            go.touch()


def hanging(importing: Path, go: Path) -> str:
    return (
        "import os, time\n"
        f"open({str(importing)!r}, 'w').close()\n"
        f"while not os.path.exists({str(go)!r}):\n"
        "    time.sleep(0.01)\n"
    )
