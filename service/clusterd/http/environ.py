"""The environ of a WSGI call (PEP 3333), from a request's head."""

import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from clusterd.http.body import Body, BodyReader
from clusterd.http.head import Head
from clusterd.http.wsgi_file import FileWrapper

_KEYS: dict[str, str] = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
_KEYS_KEPT = 1000
"""Names of headers are kept as the keys they become; no client can make them grow without bound."""
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class EnvironMaker:
    """Makes environs; what is the same for all requests is made once."""

    def __init__(self, root_path: str, threads: int) -> None:
        self._root_path = root_path
        self._common: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": threads > 1,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            # The body is here as a whole, so reading it ends at its end (Werkzeug and others ask for this).
            "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": "clusterd",
            "SCRIPT_NAME": root_path,
        }

    def make(
        self,
        head: Head,
        body: Body | None,
        reader: BodyReader,
        peer: tuple[str, int] | None,
        local: tuple[str, int] | None,
        scheme: str,
    ) -> dict[str, Any]:
        """The environ of one call."""
        environ = self._common.copy()
        path = head.path
        if "%" in path:
            path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
        if self._root_path and (path == self._root_path or path.startswith(self._root_path + "/")):
            path = path[len(self._root_path) :]
        environ["REQUEST_METHOD"] = head.method
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = head.query
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if head.minor else "HTTP/1.0"
        environ["wsgi.url_scheme"] = scheme
        environ["wsgi.input"] = reader
        if local is not None:
            environ["SERVER_NAME"] = local[0]
            environ["SERVER_PORT"] = str(local[1])
        else:
            environ["SERVER_NAME"] = _host_name(head.fields.get("host", "")) or "localhost"
            environ["SERVER_PORT"] = _DEFAULT_PORTS[scheme]
        environ["REMOTE_ADDR"] = peer[0] if peer is not None else ""
        if peer is not None:
            environ["REMOTE_PORT"] = str(peer[1])
        for name, value in head.fields.items():
            key = _KEYS.get(name) or _key(name)
            if key:
                environ[key] = value
        if body is not None:
            # Also for a body that came in chunks: whoever reads by length reads all of it.
            environ["CONTENT_LENGTH"] = str(body.size)
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        return environ


def _host_name(host: str) -> str:
    """Without the port; an IPv6 address keeps its brackets."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _key(name: str) -> str:
    """The key of a header; "" for one with an underscore, which could pass itself off as one with a hyphen."""
    key = "" if "_" in name else f"HTTP_{name.upper().replace('-', '_')}"
    if key and len(_KEYS) < _KEYS_KEPT:
        _KEYS[name] = key
    return key
