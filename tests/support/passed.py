"""Hand a service a listening socket as systemd does (sd_listen_fds(3))."""

import socket
import sys

from tests.support.service import Service

_PASS = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": sys.argv[2]}
os.execvp(sys.argv[3], sys.argv[3:])
"""


def pass_to(service: Service, listener: socket.socket, name: str = "http") -> None:
    """Have `service` started with `listener`, by its name in FileDescriptorName=."""
    service.passed = (listener.fileno(),)
    service.inside = (sys.executable, "-c", _PASS, str(listener.fileno()), name)
