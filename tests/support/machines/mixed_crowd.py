"""Clients of every kind at once: GET and POST, each with kept connections and with one for each request."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.support.machines.crowd import Crowd, Networked, crowd


@dataclass(frozen=True)
class Clients:
    """Those of one fault, by what they do. They know what they have seen when they have gone home."""

    crowds: dict[tuple[str, str], Crowd]

    def lost(self, method: str) -> int:
        """How many requests got anything else than their answer."""
        results = [seen.result for (asked, _), seen in self.crowds.items() if asked == method]
        return sum(sum(result.lost.values()) + result.answered - result.statuses.get("200", 0) for result in results)

    @property
    def answered(self) -> int:
        """How many requests got an answer."""
        return sum(seen.result.answered for seen in self.crowds.values())

    @property
    def answers(self) -> set[str]:
        """The first words of all answers: which releases have answered."""
        return {word for seen in self.crowds.values() for word in seen.result.answers}

    def __str__(self) -> str:
        told = {
            kind: (seen.result.answered, seen.result.lost, seen.result.statuses) for kind, seen in self.crowds.items()
        }
        return str(told)


@contextmanager
def mixed_crowd(
    machine: Networked, *options: str, each: int = 5, host: str = "127.0.0.1", port: int = 8080, name: str = ""
) -> Iterator[Clients]:
    """Clients that ask from before the block begins until it ends, so many of each of the four kinds.

    More options are those of load.py. With a name, each request has a path of its own, /METHOD-CONNECTION-NAME-NUMBER.
    """
    with ExitStack() as stack:
        clients = Clients({})
        for method in ("GET", "POST"):
            for connection in ("kept", "fresh"):
                kind = ("--clients", str(each), "--method", method, "--connection", connection, "--timeout", "60")
                named = ("--name", f"{method}-{connection}-{name}") if name else ()
                clients.crowds[method, connection] = stack.enter_context(
                    crowd(machine, *kind, *named, *options, host=host, port=port)
                )
        yield clients
