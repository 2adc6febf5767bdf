"""A JSON endpoint in FastAPI."""

from typing import Any

import fastapi

app = fastapi.FastAPI()


@app.get("/")
async def index() -> dict[str, Any]:
    """A small document."""
    return {"message": "Hello, World!", "numbers": list(range(10))}
