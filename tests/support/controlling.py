"""What tests ask a service on its control socket, and by clusterctl."""

import json
import os
import socket
import subprocess
import sys
from typing import Any

from tests.support.service import Service


def done(service: Service, *arguments: str) -> dict[str, Any]:
    """What a command that succeeds says to programs."""
    ran = service.clusterctl(*arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    assert answer.pop("succeeded") is True
    return answer


def refused(service: Service, *arguments: str) -> str:
    """Why a command is not carried out."""
    ran = service.clusterctl(*arguments)
    assert ran.returncode == 1, ran.stdout
    assert ran.stdout == ""
    return ran.stderr


def pids(service: Service) -> dict[int, int]:
    return {worker["slot"]: worker["pid"] for worker in service.workers()}


def clusterctl(*arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """Where the service is, is for the command line to say."""
    command = [sys.executable, "-m", "clusterd.cli.clusterctl", *arguments]
    return subprocess.run(
        command, input=stdin, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def pending_request(service: Service) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", service.port))
    client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    return client


class asking:  # noqa: N801 - used like a function
    """The lines of the answer to a request, which is only sent."""

    def __init__(self, service: Service, **request: object) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(service.control))
        self._socket.sendall(json.dumps({"version": 1, **request}).encode() + b"\n")

    def __enter__(self) -> Any:
        return self._socket.makefile("rb")

    def __exit__(self, *_: object) -> None:
        self._socket.close()
