"""Fuzz for a while: `run.py [SECONDS [SEED]]`. A finding is printed and ends with status 1; its seed finds it again."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from random import SystemRandom

from tests.fuzz.conversations import KINDS, conversations
from tests.fuzz.parsing import Parsing
from tests.fuzz.worker_side import WorkerSide


def main(seconds: float, seed: int) -> None:
    """A third of the time for the parser, one for the three kinds of engines, and one for the readers of the master."""
    print(f"seed {seed}: `make fuzz SEED={seed}` does the same again", flush=True)
    parsing = Parsing(seed)
    until(seconds / 3, parsing.round)
    print(f"parser: {parsing.streams} streams, {parsing.requests} requests, {parsing.refused} refused", flush=True)
    for kind in KINDS:
        with ExitStack() as stack:
            talks = stack.enter_context(conversations(kind, seed))
            until(seconds / 3 / len(KINDS), talks.round)
        print(f"{kind.name}: {talks.streams} streams, {talks.requests} requests answered", flush=True)
    side = WorkerSide(seed)
    until(seconds / 3, side.round)
    print(f"a hostile worker: {side.rounds} rounds, {side.refused} refused", flush=True)


def until(seconds: float, once: Callable[[], None]) -> None:
    """Again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        once()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        float(arguments[0]) if arguments else 60.0,
        int(arguments[1]) if len(arguments) > 1 else SystemRandom().randrange(1 << 32),
    )
