"""Two WSGI applications, each for an instance of its own."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def blog(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """The application of blog.yaml."""
    return _page("blog", start_response)


def shop(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """The application of shop.yaml."""
    return _page("shop", start_response)


def _page(name: str, start_response: "StartResponse") -> Iterable[bytes]:
    instance = os.environ.get("CLUSTERD_INSTANCE", "none")
    body = f"the {name}: instance {instance}, worker {os.environ['CLUSTERD_WORKER']}, pid {os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]
