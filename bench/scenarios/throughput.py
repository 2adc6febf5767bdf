"""The tables of docs/benchmarks.md: what is asked of which servers, and what is promised."""

from bench import servers
from bench.comparison import Promise, Scenario
from bench.loads.echo import echo
from bench.loads.wrk import ab, wrk
from bench.servers import Server


def _hello(server: Server) -> str:
    return "hello:asgi" if server in _ASGI else "hello:wsgi"


def _patched(_: Server) -> str:
    return "patched:wsgi"


_ASGI = (servers.CLUSTERD_ASGI, servers.GRANIAN_ASGI, servers.UVICORN, servers.HYPERCORN)
_WSGI = (
    servers.CLUSTERD_LOOP,
    servers.CLUSTERD_THREADS,
    servers.GRANIAN_WSGI_1,
    servers.GRANIAN_WSGI_4,
    servers.GUNICORN,
    servers.UWSGI,
    servers.WAITRESS,
)
_GRANIAN_WSGI = (servers.GRANIAN_WSGI_1, servers.GRANIAN_WSGI_4)
_WSGI_PROMISES = (
    Promise(servers.CLUSTERD_LOOP, _GRANIAN_WSGI, 1.15),
    Promise(servers.CLUSTERD_THREADS, (servers.GRANIAN_WSGI_4,), 1.0),
    Promise(servers.CLUSTERD_THREADS, (servers.GUNICORN,), 3.0),
)
_ASGI_PROMISES = (Promise(servers.CLUSTERD_ASGI, (servers.UVICORN, servers.GRANIAN_ASGI), 1.15),)
_FULL_ASGI_PROMISES = (Promise(servers.CLUSTERD_ASGI, (servers.UVICORN, servers.GRANIAN_ASGI), 1.1),)
_WSGI_APPLICATION_PROMISES = (Promise(servers.CLUSTERD_THREADS, (servers.GRANIAN_WSGI_4, servers.GUNICORN), 1.0),)
_ASGI_APPLICATION_PROMISES = (Promise(servers.CLUSTERD_ASGI, (servers.UVICORN, servers.GRANIAN_ASGI), 1.0),)
_SMALL_WSGI = (servers.CLUSTERD_LOOP, servers.CLUSTERD_THREADS, servers.GRANIAN_WSGI_4, servers.GUNICORN)
_SMALL_ASGI = (servers.CLUSTERD_ASGI, servers.GRANIAN_ASGI, servers.UVICORN)
_GEVENT = (servers.CLUSTERD_GREENLETS, servers.GUNICORN_GEVENT)
_GEVENT_PROMISES = (Promise(servers.CLUSTERD_GREENLETS, (servers.GUNICORN_GEVENT,), 1.0),)
_VARYING = str(servers.APPLICATIONS / "varying.lua")
_ITEMS = str(servers.APPLICATIONS / "items.lua")
_POST = str(servers.APPLICATIONS / "post.lua")
_NEW_CONNECTIONS = (
    servers.CLUSTERD_LOOP,
    servers.CLUSTERD_THREADS,
    servers.GRANIAN_WSGI_1,
    servers.GRANIAN_WSGI_4,
    servers.NODE,
)


def _new_connections(concurrency: int) -> Scenario:
    promises = [
        Promise(servers.CLUSTERD_LOOP, (servers.GRANIAN_WSGI_1,), 1.0),
        Promise(servers.CLUSTERD_THREADS, (servers.GRANIAN_WSGI_4,), 1.0),
        Promise(servers.CLUSTERD_THREADS, (servers.CLUSTERD_LOOP,), 0.9),
    ]
    if concurrency >= 8:
        promises.append(Promise(servers.CLUSTERD_LOOP, (servers.NODE,), 1.5))
    title = f"A new connection for each request, WSGI, {concurrency} at a time (ab)"
    return Scenario(title, _NEW_CONNECTIONS, _hello, ab(concurrency), tuple(promises))


def _new_asgi_connections(concurrency: int) -> Scenario:
    promise = Promise(servers.CLUSTERD_ASGI, (servers.UVICORN, servers.GRANIAN_ASGI), 1.1)
    title = f"A new connection for each request, ASGI, {concurrency} at a time (ab)"
    return Scenario(title, _SMALL_ASGI, _hello, ab(concurrency), (promise,))


TABLES: tuple[Scenario, ...] = (
    Scenario(
        "Hello, WSGI, 16 connections",
        (*_WSGI, servers.NGINX_LIMIT),
        _hello,
        wrk(),
        (*_WSGI_PROMISES, Promise(servers.CLUSTERD_LOOP, (servers.NGINX_LIMIT,), 0.8)),
    ),
    Scenario(
        "Hello, ASGI, 16 connections",
        (*_ASGI, servers.NODE),
        _hello,
        wrk(),
        (*_ASGI_PROMISES, Promise(servers.CLUSTERD_ASGI, (servers.NODE,), 1.05)),
    ),
    Scenario(
        "Hello, WSGI, 64 connections",
        (*_WSGI[:5], servers.NGINX_LIMIT),
        _hello,
        wrk("/", 64),
        (*_WSGI_PROMISES, Promise(servers.CLUSTERD_LOOP, (servers.NGINX_LIMIT,), 0.9)),
    ),
    Scenario(
        "Hello, ASGI, 64 connections",
        (*_ASGI, servers.NODE),
        _hello,
        wrk("/", 64),
        (*_ASGI_PROMISES, Promise(servers.CLUSTERD_ASGI, (servers.NODE,), 1.05)),
    ),
    Scenario(
        "Hello, ASGI, every request with another path and another header",
        _SMALL_ASGI,
        _hello,
        wrk("/", 16, "-s", _VARYING),
        _ASGI_PROMISES,
    ),
    Scenario(
        "Hello, WSGI, every request with another path and another header",
        _SMALL_WSGI,
        _hello,
        wrk("/", 16, "-s", _VARYING),
        (Promise(servers.CLUSTERD_LOOP, (servers.GRANIAN_WSGI_4,), 1.0),),
    ),
    Scenario("10 KB POST, WSGI", _SMALL_WSGI, _hello, wrk("/echo", 16, "-s", _POST)),
    Scenario("10 KB POST, ASGI", _SMALL_ASGI, _hello, wrk("/echo", 16, "-s", _POST), _FULL_ASGI_PROMISES),
    Scenario("A stream of 64 pieces of 1 KB, WSGI", _SMALL_WSGI, _hello, wrk("/stream", 16)),
    Scenario("A stream of 64 pieces of 1 KB, ASGI", _SMALL_ASGI, _hello, wrk("/stream", 16), _FULL_ASGI_PROMISES),
    Scenario("WebSocket, 100 connections, 64 B sent back", _SMALL_ASGI, _hello, echo(100, 64), _FULL_ASGI_PROMISES),
    Scenario("WebSocket, 100 connections, 16 KB sent back", _SMALL_ASGI, _hello, echo(100, 16384), _FULL_ASGI_PROMISES),
    # With two threads: on loopback the reader pays for what sendfile(2) saves the server, and one is not enough.
    Scenario("1 MB file, WSGI", _SMALL_WSGI, _hello, wrk("/file", 16, "-t2")),
    Scenario("1 MB file, ASGI", _SMALL_ASGI, _hello, wrk("/file", 16, "-t2")),
    Scenario("5 ms of sleep in the handler, WSGI, 4 threads", _SMALL_WSGI[1:], _hello, wrk("/sleep", 64)),
    Scenario("5 ms of sleep in the handler, ASGI", _SMALL_ASGI, _hello, wrk("/sleep", 64)),
    Scenario("Hello, WSGI under gevent, 16 connections", _GEVENT, _patched, wrk(), _GEVENT_PROMISES),
    Scenario("5 ms of sleep in the handler, WSGI under gevent", _GEVENT, _patched, wrk("/sleep", 64), _GEVENT_PROMISES),
    Scenario("Flask, JSON", _SMALL_WSGI, lambda _: "flask_json:app", wrk(), _WSGI_APPLICATION_PROMISES),
    Scenario(
        "Django: a template, SQLite and a session",
        _SMALL_WSGI,
        lambda _: "django_page:app",
        wrk(),
        _WSGI_APPLICATION_PROMISES,
    ),
    Scenario("FastAPI, JSON", _SMALL_ASGI, lambda _: "fastapi_json:app", wrk(), _ASGI_APPLICATION_PROMISES),
    Scenario(
        "FastAPI: validation and a dependency",
        _SMALL_ASGI,
        lambda _: "fastapi_items:app",
        wrk("/", 16, "-s", _ITEMS),
        _ASGI_APPLICATION_PROMISES,
    ),
    Scenario(
        "Per-request metrics on and off, ASGI",
        (servers.CLUSTERD_ASGI_METRICS, servers.CLUSTERD_ASGI_UNCOUNTED),
        lambda _: "hello:asgi",
        wrk(),
        (Promise(servers.CLUSTERD_ASGI_METRICS, (servers.CLUSTERD_ASGI_UNCOUNTED,), 0.97),),
        least_rounds=15,
    ),
    Scenario(
        "Per-request metrics on and off, WSGI on the loop",
        (servers.CLUSTERD_LOOP_METRICS, servers.CLUSTERD_LOOP_UNCOUNTED),
        lambda _: "hello:wsgi",
        wrk(),
        (Promise(servers.CLUSTERD_LOOP_METRICS, (servers.CLUSTERD_LOOP_UNCOUNTED,), 0.97),),
        least_rounds=15,
    ),
    *map(_new_connections, (1, 2, 4, 8, 16)),
    *map(_new_asgi_connections, (1, 2, 4, 8, 16)),
)
