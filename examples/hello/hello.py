"""A WSGI application without a framework: it answers with the worker that answered."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Greet, and name the process: reload it, kill it, scale it, and watch the answer change."""
    worker = os.environ.get("CLUSTERD_WORKER", "none")
    generation = os.environ.get("CLUSTERD_GENERATION", "none")
    body = f"Hello from clusterd: worker {worker}, generation {generation}, pid {os.getpid()}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
