"""A scalable server in Flask: every answer names the process that gave it."""

import os

import flask

app = flask.Flask(__name__)


@app.get("/")
def hello() -> str:
    """Greet."""
    return f"Hello from Flask: worker {os.environ['CLUSTERD_WORKER']}, pid {os.getpid()}\n"


@app.get("/primes/<int:limit>")
def primes(limit: int) -> dict[str, int]:
    """Keep one processor busy: the other workers answer meanwhile."""
    found = sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))
    return {"primes": found, "pid": os.getpid()}
