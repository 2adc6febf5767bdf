"""What the applications of all frameworks have in common: what their paths send, and notes by which they are followed.

A request names its note (`?name=N`). Notes have the time of the monotonic clock, which is the same in every process, so
that a client can tell how long after its leaving something has ended.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

NOTES = "FRAMEWORK_NOTES"
"""The environment variable that names the directory of the notes."""

FILE = Path(__file__).parents[3] / "requirements" / "test.txt"
PIECE, PIECES = b"x" * 1000, 100
FLOOD = b"y" * 65536
EVENT = b"data: first\n\n"
TICK = 0.01


def note(name: str) -> None:
    """Write down that something has happened, and when."""
    with (Path(os.environ[NOTES]) / name).open("a") as file:
        file.write(f"{time.monotonic()}\n")


def pieces() -> Iterator[bytes]:
    """A stream that ends."""
    for _ in range(PIECES):
        yield PIECE


async def async_pieces() -> AsyncIterator[bytes]:
    """The same."""
    for _ in range(PIECES):
        yield PIECE


def events(name: str) -> Iterator[bytes]:
    """Server-sent events that go on until the client leaves. A thread that only waited could not be ended."""
    try:
        yield EVENT
        while True:
            time.sleep(TICK)
            yield b": tick\n\n"
    finally:
        note(name)


async def async_events(name: str) -> AsyncIterator[bytes]:
    """Server-sent events of which there is only one: the rest is waiting."""
    try:
        yield EVENT
        await asyncio.Event().wait()
    finally:
        note(name)


def flood(name: str) -> Iterator[bytes]:
    """A stream without an end."""
    try:
        while True:
            yield FLOOD
    finally:
        note(name)


async def async_flood(name: str) -> AsyncIterator[bytes]:
    """The same."""
    try:
        while True:
            yield FLOOD
    finally:
        note(name)
