"""Checks what a server gives an ASGI application against asgiref's definitions, as wsgiref.validate does for WSGI."""

from collections.abc import Iterable
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

from asgiref import typing as definitions

SCOPES: dict[str, Any] = {
    "http": definitions.HTTPScope,
    "websocket": definitions.WebSocketScope,
    "lifespan": definitions.LifespanScope,
}
EVENTS: dict[str, Any] = {
    "http.request": definitions.HTTPRequestEvent,
    "http.disconnect": definitions.HTTPDisconnectEvent,
    "websocket.connect": definitions.WebSocketConnectEvent,
    "websocket.receive": definitions.WebSocketReceiveEvent,
    "websocket.disconnect": definitions.WebSocketDisconnectEvent,
    "lifespan.startup": definitions.LifespanStartupEvent,
    "lifespan.shutdown": definitions.LifespanShutdownEvent,
}
FIRST = {"http": "http.request", "websocket": "websocket.connect", "lifespan": "lifespan.startup"}
LAST = {"http": "http.disconnect", "websocket": "websocket.disconnect", "lifespan": "lifespan.shutdown"}


class Checked:
    """An application whose server is checked. `seen` are the types that came, `faults` what was not as defined."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.seen: list[str] = []
        self.faults: list[str] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        kind = scope["type"]
        self._check(scope, SCOPES[kind], "the scope")
        self._check_bytes(scope)
        events: list[dict[str, Any]] = []

        async def checked() -> Any:
            event = await receive()
            self._check(event, EVENTS[event["type"]], event["type"])
            self._check_order(kind, events, event)
            events.append(event)
            self.seen.append(event["type"])
            return event

        await self._application(scope, checked, send)

    def _check(self, given: dict[str, Any], definition: Any, what: str) -> None:
        if type(given) is not dict:
            self.faults.append(f"{what} is a {type(given).__name__}")
        for key, kind in get_type_hints(definition, include_extras=True).items():
            # What may be None may be missing: so says the specification's text of each of them.
            if key not in given and get_origin(kind) is not NotRequired and not conforms(None, kind):
                self.faults.append(f"{what} has no {key}")
            elif key in given and not conforms(given[key], kind):
                self.faults.append(f"{key} of {what} is {given[key]!r}")

    def _check_bytes(self, scope: dict[str, Any]) -> None:
        """What the specification's text says of the values.

        But for the method, which is to be uppercased: `get` and `GET` are two methods (RFC 9110 section 9.1), and a
        proxy that forbids one does not know the other. uvicorn passes it on as it is, too.
        """
        if scope["type"] == "lifespan":
            return
        for name, _ in scope["headers"]:
            if name != name.lower() or name.startswith(b":"):
                self.faults.append(f"the header {name!r}")
        if b"?" in scope["raw_path"] or scope["query_string"].startswith(b"?"):
            self.faults.append(f"the query in {scope['raw_path']!r}, {scope['query_string']!r}")
        if not scope["path"].startswith(scope["root_path"]):
            self.faults.append(f"the root_path {scope['root_path']} of {scope['path']}")

    def _check_order(self, kind: str, before: list[dict[str, Any]], event: dict[str, Any]) -> None:
        types = [each["type"] for each in before]
        if not before and event["type"] not in (FIRST[kind], LAST[kind]):
            self.faults.append(f"{event['type']} came first")
        if LAST[kind] in types and event["type"] != LAST[kind]:
            self.faults.append(f"{event['type']} after {LAST[kind]}")
        if event["type"] == "http.request" and any(not each.get("more_body", False) for each in before):
            self.faults.append("http.request after the last one")
        if event["type"] == "websocket.receive" and (event.get("text") is None) == (event.get("bytes") is None):
            self.faults.append(f"websocket.receive with {event}")


def conforms(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, by its annotation."""
    if kind is Any or kind is object:
        return True
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (NotRequired, Required):
        return conforms(value, arguments[0])
    if origin is Literal:
        return value in arguments
    if origin is Union or (origin is not None and origin.__name__ == "UnionType"):
        return any(conforms(value, each) for each in arguments)
    if is_typeddict(kind):
        return type(value) is dict and all(
            key in value and conforms(value[key], each) for key, each in get_type_hints(kind).items()
        )
    if origin is dict:
        return type(value) is dict and all(
            conforms(key, arguments[0]) and conforms(each, arguments[1]) for key, each in value.items()
        )
    if origin is tuple:
        return (
            isinstance(value, (tuple, list)) and len(value) == len(arguments) and all(map(conforms, value, arguments))
        )
    if origin is Iterable or (origin is not None and origin.__name__ == "Iterable"):
        return all(conforms(each, arguments[0]) for each in value)
    # Exactly: an application may hand it to what takes no subclass, and True is no number.
    return type(value) is (type(None) if kind is None else kind)
