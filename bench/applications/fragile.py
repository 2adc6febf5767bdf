"""An application with a request that kills its worker, and with others that take 5 ms."""

import os
import time
from typing import Any


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer, or end the process without a word."""
    if environ["PATH_INFO"] == "/kill":
        os._exit(1)
    time.sleep(0.005)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
