"""Applications of the other interface, by a2wsgi: Flask's as an ASGI application, Starlette's as a WSGI application."""

from typing import Any

from a2wsgi import ASGIMiddleware, WSGIMiddleware

from tests.support.frameworks import with_flask, with_starlette


def make_asgi() -> Any:
    return WSGIMiddleware(with_flask.make())


def make_wsgi() -> Any:
    return ASGIMiddleware(with_starlette.make())
