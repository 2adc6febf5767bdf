"""Sessions that all workers share: they are kept in Redis, under a name that the client has in a cookie."""

import os
import secrets

import flask
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

LIFETIME_SECONDS = 3600

app = flask.Flask(__name__)
# Connects when it is first used, and so in the worker: no connection may be shared over a fork. It tries again once:
# by default it would hold the thread for seconds while Redis is away, and other clients with it.
store = redis.Redis.from_url(
    os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), socket_timeout=2, retry=Retry(NoBackoff(), 1)
)


@app.get("/")
def visit() -> flask.Response:
    """Count the visits of a client, whichever worker it meets."""
    name = flask.request.cookies.get("session", "")
    # A name that we have not given is not taken over: somebody else might know it.
    if not store.exists(_key(name)):
        name = secrets.token_urlsafe(32)
    visits = store.hincrby(_key(name), "visits", 1)
    store.expire(_key(name), LIFETIME_SECONDS)
    response = flask.jsonify(visits=visits, worker=int(os.environ["CLUSTERD_WORKER"]), pid=os.getpid())
    response.set_cookie("session", name, max_age=LIFETIME_SECONDS, httponly=True, samesite="Lax")
    return response


@app.errorhandler(redis.RedisError)
def away(error: redis.RedisError) -> tuple[str, int, dict[str, str]]:
    """Redis does not answer."""
    return f"no sessions: {error}\n", 503, {"Retry-After": "2"}


def _key(name: str) -> str:
    return f"session:{name}"
