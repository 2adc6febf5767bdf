"""What is served while it is tormented: the crowd's pages, and two addresses that end or hang the worker they reach."""

from tests.support.crowd import ASGI, WSGI

EXIT_STATUS = 77
"""Of a worker that a request ends."""
NOT_FOR_SERVICE = "this one is not for service"

_ODD = f"""
import ctypes
prepared_pages = app

def torment(path):
    if path == "/exit":
        os._exit({EXIT_STATUS})
    if path == "/hang":
        while True:  # A signal ends one sleep.
            ctypes.PyDLL(None).sleep(3600)  # With the interpreter: neither the loop nor a thread goes on.
"""
TORMENTED_WSGI = (
    WSGI
    + _ODD
    + """
def app(environ, start_response):
    torment(environ["PATH_INFO"])
    return prepared_pages(environ, start_response)
"""
)
TORMENTED_ASGI = (
    ASGI
    + _ODD
    + """
async def app(scope, receive, send):
    torment(scope.get("path"))
    await prepared_pages(scope, receive, send)
"""
)
HOOKS = """
from clusterd import cluster
cluster.on("exit")(lambda worker, code, signal: None)
cluster.on("listening")(lambda worker, addresses: None)
"""

BAD_DEPLOYS = (
    f"raise RuntimeError('{NOT_FOR_SERVICE}')\n",
    f"import os\nos._exit({EXIT_STATUS})\n",
    "def app(:  # not for service\n",
)
"""Imports that fail, one each in its way. Another bad deploy fails in one worker: BROKEN, of the crowd's pages."""
