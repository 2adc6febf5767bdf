"""Single requests from the outside, with nothing but the standard library."""

import http.client
import socket
import sys
from dataclasses import dataclass

from tests.support.certificates import Certificate
from tests.support.machines.crowd import Networked
from tests.support.machines.machine import Machine, Process

# Runs in the container's network namespace; its own process, because a process has one network.
_ASK = r"""
import ssl, sys, urllib.error, urllib.request
handlers = [urllib.request.ProxyHandler({})]
if len(sys.argv) > 2:
    handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=sys.argv[2])))
opener = urllib.request.build_opener(*handlers)
try:
    answer = opener.open(sys.argv[1], timeout=20)
except urllib.error.HTTPError as error:
    answer = error
except OSError as error:
    print(0)
    print(error)
    sys.exit()
print(answer.status)
sys.stdout.write(answer.read().decode())
"""


@dataclass(frozen=True)
class Answer:
    """A response: its status and its text; status 0 when there was none, and text says why."""

    status: int
    text: str


def ask(machine: Networked, url: str = "http://127.0.0.1:8000/") -> Answer:
    """GET a URL in the container's network."""
    return _answer(start_asking(machine, url))


def ask_securely(machine: Machine, port: int, certificate: Certificate) -> Answer:
    """GET over HTTPS in the container's network, by a client that trusts only this certificate."""
    url = f"https://127.0.0.1:{port}/"
    return _answer(machine.start_in_network(sys.executable, "-I", "-c", _ASK, url, str(certificate.authority)))


def _answer(asking: Process) -> Answer:
    output, _ = asking.communicate(timeout=60)
    status, _, text = output.partition("\n")
    return Answer(int(status), text)


def start_asking(machine: Networked, url: str) -> Process:
    """GET a URL and go on; communicate() gives the status on a line and the text after it."""
    return machine.start_in_network(sys.executable, "-I", "-c", _ASK, url)


def ask_unix(machine: Machine, path: str, target: str = "/") -> Answer:
    """GET over a unix socket inside the container."""
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(machine.root / path.lstrip("/")))
    connection.request("GET", target)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return Answer(response.status, text)
