"""The same small application, written for each framework: the rows of docs/compatibility.md.

What is in this package runs under the interpreter of the frameworks too, where there is no clusterd to import.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from typing import Any


class Feature(Enum):
    """A column of the grid."""

    JSON = "JSON"
    UPLOAD = "upload"
    STREAM = "stream"
    HEAD = "HEAD"
    FILE = "file"
    WEBSOCKET = "WebSocket"
    EVENTS = "SSE"
    BACKGROUND = "background task"
    LIFESPAN = "lifespan"
    CLOSES = "SSE, client closes"
    RESETS = "SSE, client resets"
    STOPS_READING = "client stops reading"
    WEBSOCKET_CLOSES = "WebSocket, client closes"
    WEBSOCKET_RESETS = "WebSocket, client resets"
    RELOAD = "reload under load"
    STOP = "stop under load"


WEBSOCKETS = (Feature.WEBSOCKET, Feature.WEBSOCKET_CLOSES, Feature.WEBSOCKET_RESETS)
STREAMS = (Feature.STREAM, Feature.EVENTS, Feature.CLOSES, Feature.RESETS, Feature.STOPS_READING)


@dataclass(frozen=True)
class Application:
    """One row: an application, and what its framework does not offer."""

    title: str
    module: str
    interface: str
    packages: tuple[str, ...]
    """The distributions whose versions the row names."""
    factory: str = "make"
    lacks: tuple[Feature, ...] = ()
    troubles: Mapping[Feature, str] = field(default_factory=dict)
    """What does not work, and why: the run sees that it does not."""
    target: str = "/hello?name=load"
    """What a load of clients asks for."""

    @property
    def path(self) -> str:
        """As `app:` in a configuration."""
        return f"{__name__}.{self.module}:{self.factory}()"

    def make(self) -> Any:
        """The application itself, where its framework is installed."""
        factory: Callable[[], Any] = getattr(import_module(f"{__name__}.{self.module}"), self.factory)
        return factory()


def _does_not_listen(name: str) -> dict[Feature, str]:
    reason = f"{name} does not receive http.disconnect: what its stream waits for goes on"
    return dict.fromkeys((Feature.CLOSES, Feature.RESETS), reason)


_SYNCHRONOUS = (*WEBSOCKETS, Feature.LIFESPAN)

APPLICATIONS = (
    Application("Starlette", "with_starlette", "asgi", ("starlette",)),
    Application(
        "Starlette, BaseHTTPMiddleware", "with_starlette", "asgi", ("starlette",), factory="make_behind_middleware"
    ),
    Application(
        "Starlette, sse-starlette", "with_starlette", "asgi", ("starlette", "sse-starlette"), factory="make_with_sse"
    ),
    Application("FastAPI", "with_fastapi", "asgi", ("fastapi",)),
    Application("FastAPI, BaseHTTPMiddleware", "with_fastapi", "asgi", ("fastapi",), factory="make_behind_middleware"),
    Application("Litestar", "with_litestar", "asgi", ("litestar",)),
    Application("Quart", "with_quart", "asgi", ("quart",)),
    Application("Sanic", "with_sanic", "asgi", ("sanic",), troubles=_does_not_listen("Sanic")),
    Application(
        "BlackSheep",
        "with_blacksheep",
        "asgi",
        ("blacksheep",),
        lacks=(Feature.BACKGROUND,),
        troubles=_does_not_listen("BlackSheep"),
    ),
    Application(
        "Falcon, ASGI",
        "with_falcon",
        "asgi",
        ("falcon",),
        factory="make_asgi",
        troubles=dict.fromkeys(
            (Feature.CLOSES, Feature.RESETS), "Falcon sees that the client has left when the stream has its next event"
        ),
    ),
    Application(
        "Django, ASGI",
        "with_django",
        "asgi",
        ("django",),
        factory="make_asgi",
        lacks=(*WEBSOCKETS, Feature.BACKGROUND, Feature.LIFESPAN),
    ),
    Application(
        "Channels", "with_channels", "asgi", ("channels", "django"), lacks=(Feature.BACKGROUND, Feature.LIFESPAN)
    ),
    Application(
        "python-socketio",
        "with_socketio",
        "asgi",
        ("python-socketio",),
        lacks=(Feature.JSON, *STREAMS),
        target="/socket.io/?EIO=4&transport=polling",
    ),
    Application(
        "Flask by a2wsgi, ASGI",
        "with_a2wsgi",
        "asgi",
        ("a2wsgi", "flask"),
        factory="make_asgi",
        lacks=_SYNCHRONOUS,
        troubles=dict.fromkeys(
            (Feature.CLOSES, Feature.RESETS, Feature.STOPS_READING),
            "a2wsgi tells the application neither of http.disconnect nor of an error of `send`",
        ),
    ),
    Application("Flask", "with_flask", "wsgi", ("flask",), lacks=_SYNCHRONOUS),
    Application("Flask under gevent", "with_gevent", "wsgi", ("flask", "gevent"), "make_flask", lacks=_SYNCHRONOUS),
    Application(
        "Django under gevent",
        "with_gevent",
        "wsgi",
        ("django", "gevent"),
        "make_django",
        lacks=(*_SYNCHRONOUS, Feature.BACKGROUND),
    ),
    Application(
        "Django, WSGI",
        "with_django",
        "wsgi",
        ("django",),
        factory="make_wsgi",
        lacks=(*_SYNCHRONOUS, Feature.BACKGROUND),
    ),
    Application("Bottle", "with_bottle", "wsgi", ("bottle",), lacks=(*_SYNCHRONOUS, Feature.BACKGROUND)),
    Application("Pyramid", "with_pyramid", "wsgi", ("pyramid",), lacks=(*_SYNCHRONOUS, Feature.BACKGROUND)),
    Application(
        "Falcon, WSGI",
        "with_falcon",
        "wsgi",
        ("falcon",),
        factory="make_wsgi",
        lacks=(*_SYNCHRONOUS, Feature.BACKGROUND),
    ),
    Application("CherryPy", "with_cherrypy", "wsgi", ("cherrypy",), lacks=_SYNCHRONOUS),
    Application(
        "WsgiDAV",
        "with_wsgidav",
        "wsgi",
        ("wsgidav",),
        lacks=(*_SYNCHRONOUS, *STREAMS, Feature.JSON, Feature.BACKGROUND),
        target="/hello",
    ),
    Application(
        "Starlette by a2wsgi, WSGI",
        "with_a2wsgi",
        "wsgi",
        ("a2wsgi", "starlette"),
        factory="make_wsgi",
        lacks=_SYNCHRONOUS,
        troubles=dict.fromkeys(
            (Feature.CLOSES, Feature.RESETS, Feature.STOPS_READING),
            "a2wsgi does not end the ASGI application when the WSGI server closes its iterable",
        ),
    ),
)
BY_TITLE = {each.title: each for each in APPLICATIONS}
