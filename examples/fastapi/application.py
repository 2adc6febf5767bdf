"""A scalable server in FastAPI: every answer names the process that gave it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open here what a worker needs of its own, such as connections: this runs once in each, after the fork."""
    app.state.answered = 0
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    """Greet."""
    app.state.answered += 1
    worker = os.environ["CLUSTERD_WORKER"]
    return f"Hello from FastAPI: worker {worker}, pid {os.getpid()}, answer {app.state.answered}\n"


@app.get("/wait/{seconds}", response_class=PlainTextResponse)
async def wait(seconds: float) -> str:
    """Wait as for a database: the same worker answers others meanwhile."""
    await asyncio.sleep(seconds)
    return f"Waited {seconds} s in pid {os.getpid()}\n"
