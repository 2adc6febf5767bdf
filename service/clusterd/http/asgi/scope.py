"""Builds the scope of an ASGI call (https://asgi.readthedocs.io/en/latest/specs/www.html) from a request's head."""

from typing import Any
from urllib.parse import unquote_to_bytes

from clusterd.http.messages.head import Fields, Head
from clusterd.linux.address import Address

_VERSION = "3.0"
_SPEC_VERSION = "2.3"
"""2.4 lets frameworks wait for an error of `send` in place of `http.disconnect`: docs/decisions/0036."""


class ScopeMaker:
    """Makes scopes. The parts that all requests share are made once. `state` comes from the lifespan."""

    def __init__(self, root_path: str, state: dict[str, Any]) -> None:
        self._root_path = root_path
        self._state = state

    def of_connection(self, peer: Address | None, local: Address | None, scheme: str) -> dict[str, Any]:
        """Return the part of the scope that all requests of a connection share, for `http`."""
        return {
            "type": "http",
            "scheme": scheme,
            "root_path": self._root_path,
            "client": peer,
            "server": local,
        }

    def http(self, of_connection: dict[str, Any], head: Head) -> dict[str, Any]:
        """Return the scope of one request."""
        scope = of_connection.copy()
        raw_path = head.path.encode("latin-1")
        if b"%" in raw_path or not raw_path.isascii():
            path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
        else:
            path = head.path
        if self._root_path and not (path == self._root_path or path.startswith(self._root_path + "/")):
            path = self._root_path + path  # A proxy has removed the prefix, but applications expect the whole path.
        fields = head.fields
        scope["http_version"] = "1.1" if head.minor else "1.0"
        scope["method"] = head.method
        scope["path"] = path
        scope["raw_path"] = raw_path
        scope["query_string"] = head.query.encode("latin-1")
        scope["headers"] = (fields.raw or _raw_of(fields)).copy()
        scope["state"] = self._state.copy()
        # Applications may change what they are given, so that no request shares it with another.
        scope["asgi"] = {"version": _VERSION, "spec_version": _SPEC_VERSION}
        scope["extensions"] = {
            "http.response.trailers": {},
            "http.response.pathsend": {},
            "http.response.early_hint": {},
        }
        return scope

    def websocket(self, of_connection: dict[str, Any], head: Head, subprotocols: list[str]) -> dict[str, Any]:
        """Return the scope of a WebSocket. `subprotocols` are those that the client offers."""
        scope = self.http(of_connection, head)
        del scope["method"]
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = subprotocols
        scope["extensions"] = {"websocket.http.response": {}}
        return scope


def _raw_of(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Return the header lines in ASGI's form. Computed once for all requests that have the same lines."""
    fields.raw = [line.raw for line in fields.lines if line.cgi_name]
    return fields.raw
