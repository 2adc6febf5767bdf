"""Applications to deploy as operators do it: releases beside each other, and a link to the current one."""

from tests.support.machines.machine import Machine

CURRENT = "/srv/app/current"

CONFIG = f"""\
app: application:app
directory: {CURRENT}
workers: 2
threads: 32
rollout: {{settle: 200ms, boot_timeout: 20s}}
timeouts: {{drain: 10s, drain_idle: 2s}}
"""

# Imports for half a second, half of it in the processor; takes 5 ms for an answer.
GOOD = """\
import os, time

end = time.process_time() + 0.25
while time.process_time() < end:
    pass
time.sleep(0.25)
VERSION = {version!r}


def app(environ, start_response):
    time.sleep(0.005)
    body = (VERSION + " " + os.environ["CLUSTERD_GENERATION"] + " " + str(os.getpid())).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

SYNTAX_ERROR = "def app(environ, start_response)\n    return []\n"
IMPORT_FAILS = "import a_module_that_is_not_there\n"
HANGS_AT_IMPORT = "import threading\nthreading.Event().wait()\n"
FAILS_IN_THE_WORKER = (
    GOOD
    + """

def worker_start():
    raise RuntimeError("the database is not there")
"""
)
ANSWERS_500 = """\
def app(environ, start_response):
    start_response("500 Internal Server Error", [("Content-Length", "7")])
    return [b"broken\\n"]
"""

# Keeps a request for /wait until /srv/app/release is there.
WAITS = GOOD.replace(
    "    time.sleep(0.005)\n",
    """\
    while environ["PATH_INFO"] == "/wait" and not os.path.exists("/srv/app/release"):
        time.sleep(0.005)
""",
)


def deploy(machine: Machine, version: str, source: str = GOOD) -> None:
    """Put a release beside the others and make it the current one, in one step. It is not reloaded yet."""
    text = source.replace("{version!r}", repr(version))
    machine.write(f"/srv/app/releases/{version}/application.py", text)
    machine.link(CURRENT, f"releases/{version}")


def configure(machine: Machine, text: str = CONFIG, name: str = "clusterd") -> None:
    """Write the configuration of the service, or of an instance."""
    machine.write(f"/etc/clusterd/{name}.yaml", text)


def start(machine: Machine, version: str = "one", settings: str = "") -> None:
    """A running service with a good application; returns when systemd has heard that it is ready."""
    deploy(machine, version)
    configure(machine, CONFIG + settings)
    machine.systemctl("restart", "clusterd.service")
