"""Ports for what a test starts."""

import os
import socket
from collections import deque

_MOST_RESERVED = 64
_reserved: deque[int] = deque()
"""The sockets of the ports given last. One that is bound and does not listen keeps the kernel from giving its port to
somebody who asks for any, and not a server from listening on it (SO_REUSEADDR, socket(7)): without it, two questions
in a row had the same answer once in a few thousand."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses, and that is given to nobody else while the test runs."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    # Not before: whoever has it set may be given a port that another has bound so.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port: int = sock.getsockname()[1]
    _reserved.append(sock.detach())
    if len(_reserved) > _MOST_RESERVED:
        os.close(_reserved.popleft())
    return port


def accepts(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
