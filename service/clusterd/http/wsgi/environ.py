"""Builds the environ of a WSGI call (PEP 3333) from a request's head."""

import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from clusterd.http.messages.head import Fields, Head
from clusterd.http.messages.memory import Memory
from clusterd.http.origins.origin import Origin
from clusterd.http.wsgi.body import Body, BodyReader
from clusterd.http.wsgi.file_wrapper import FileWrapper
from clusterd.linux.address import Address

_REMEMBERED = 512
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class EnvironMaker:
    """Makes environs. The parts that all requests share are made once."""

    def __init__(self, root_path: str, at_once: int) -> None:
        """`at_once` is how many calls one process makes at a time: threads or greenlets."""
        self._root_path = root_path
        self._origins: Memory[Origin, dict[str, Any]] = Memory(_REMEMBERED)
        self._common: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": at_once > 1,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            # The body is complete, so reading ends at its end. Werkzeug and others check this key.
            "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": "clusterd",
            "SCRIPT_NAME": root_path,
        }

    def of_connection(self, peer: Address | None, local: Address | None, scheme: str) -> dict[str, Any]:
        """Return the part of the environ that all requests of a connection share, for `make`.

        It holds nothing that the requests of other connections share too: it lives as long as the connection.
        """
        environ: dict[str, Any] = {"wsgi.url_scheme": scheme, "REMOTE_ADDR": peer[0] if peer is not None else ""}
        if peer is not None and peer[1]:
            environ["REMOTE_PORT"] = str(peer[1])
        if local is not None:
            environ["SERVER_NAME"] = local[0]
            environ["SERVER_PORT"] = str(local[1])
        else:
            environ["SERVER_PORT"] = _DEFAULT_PORTS[scheme]
        return environ

    def of_request(self, origin: Origin) -> dict[str, Any]:
        """Return the same part for one origin, if a connection carries the requests of many clients."""
        environ = self._origins.get(origin)
        if environ is None:
            environ = self.of_connection(origin.peer, origin.local, origin.scheme)
            if origin.tells_scheme:
                # The proxy does not tell the port that the client connected to. The local port may not fit the scheme.
                environ["SERVER_PORT"] = _DEFAULT_PORTS[origin.scheme]
            self._origins.remember(origin, environ)
        return environ

    def make(self, of_connection: dict[str, Any], head: Head, body: Body | None, reader: BodyReader) -> dict[str, Any]:
        """Return the environ of one call."""
        fields = head.fields
        environ = self._common.copy()
        environ.update(of_connection)
        environ.update(fields.environ or _environ_of(fields))
        path = head.path
        if "%" in path:
            path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
        if self._root_path and (path == self._root_path or path.startswith(self._root_path + "/")):
            path = path[len(self._root_path) :]
        environ["REQUEST_METHOD"] = head.method
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = head.query
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if head.minor else "HTTP/1.0"
        environ["wsgi.input"] = reader
        if "SERVER_NAME" not in environ:
            environ["SERVER_NAME"] = _host_name(fields.get("host", "")) or "localhost"
        if body is not None:
            # Set also for a chunked body, so that an application that reads by length reads all of it.
            environ["CONTENT_LENGTH"] = str(body.size)
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        return environ


def _environ_of(fields: Fields) -> dict[str, str]:
    """Return the fields under their CGI names. Computed once for all requests that have the same lines."""
    fields.environ = environ = {line.cgi_name: fields[line.name] for line in fields.lines}
    environ.pop("", None)
    return environ


def _host_name(host: str) -> str:
    """Return `host` without the port. An IPv6 address keeps its brackets."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
