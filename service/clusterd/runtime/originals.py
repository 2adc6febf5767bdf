"""The parts of the standard library that an application may replace, as they are before it is imported.

`gevent.monkey.patch_all()` puts its own in their place: locks that only switch greenlets, sockets that wait in the
hub of their thread, a fork that watches its child. The template and the engine need the real ones: they run beside the
application's greenlets, in other threads, and talk to other processes while no hub turns. So whatever is called after
the application's import, in its interpreter, is called here (tests/unit/test_originals.py).
"""

from _thread import start_new_thread
from os import close, fork, waitpid
from queue import SimpleQueue
from select import epoll, poll, select
from socket import socket, socketpair
from threading import Lock, RLock, get_ident

__all__ = [
    "Lock",
    "RLock",
    "SimpleQueue",
    "close",
    "epoll",
    "fork",
    "get_ident",
    "poll",
    "select",
    "socket",
    "socketpair",
    "start_new_thread",
    "waitpid",
]
