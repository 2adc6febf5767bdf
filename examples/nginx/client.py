"""A WSGI application that tells who it believes to be asking."""

import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Tell the client's address and scheme, and who answers."""
    seen = {"client": environ["REMOTE_ADDR"], "scheme": environ["wsgi.url_scheme"], "pid": os.getpid()}
    body = json.dumps(seen).encode() + b"\n"
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
