"""A text that every worker of every host keeps in its memory, and that any of them can change for all."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from clusterd import worker

kept = {"text": "hello"}


@worker.on("message")
def heard(message: dict[str, str]) -> None:
    """The bridge of this host tells what some worker has sent, this one included."""
    kept.update(message)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """`GET /` shows the text, and `POST /` replaces it everywhere."""
    answer: dict[str, Any] = {**kept, "pid": os.getpid()}
    status = "200 OK"
    if environ["REQUEST_METHOD"] == "POST":
        text = environ["wsgi.input"].read(1000).decode(errors="replace")
        try:
            answer = {"hosts": worker.request({"text": text}, timeout=5).result()}
        except (worker.RequestFailed, TimeoutError) as error:
            status, answer = "503 Service Unavailable", {"error": str(error)}
    body = json.dumps(answer).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
