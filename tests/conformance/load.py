"""Clients that ask one thing of a service again and again, and tell what became of every request."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conformance.served import Served
from tests.support.service import PATIENCE_SECONDS, wait_until
from tests.support.serving import Client, request

FRESH, KEPT = 3, 3
ENOUGH = 50
PAUSE_SECONDS = 0.002


class Load:
    """Some clients make a connection for each request, others keep theirs."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._over = threading.Event()
        self.failures: list[str] = []
        self.answered = 0
        roles = [self._ask_anew] * FRESH + [self._ask_on] * KEPT
        self._threads = [threading.Thread(target=role) for role in roles]
        for thread in self._threads:
            thread.start()

    def wait_for_more(self) -> None:
        """Until so many more requests are answered that each client has asked again. Raises Never."""
        enough = self.answered + ENOUGH
        wait_until(lambda: self.answered > enough or self.failures, "answers to the load")

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

    def _ask_anew(self) -> None:
        while not self._over.is_set():
            try:
                client = self._served.client()
            except ConnectionRefusedError:
                return  # It has stopped: nothing is lost with a connection that is not accepted.
            with client:
                self._ask(client, "Connection: close")
            self._over.wait(PAUSE_SECONDS)

    def _ask_on(self) -> None:
        while not self._over.is_set():
            try:
                client = self._served.client()
            except ConnectionRefusedError:
                return
            with client:
                while not self._over.is_set() and self._ask(client):
                    self._over.wait(PAUSE_SECONDS)

    def _ask(self, client: Client, *lines: str) -> bool:
        """Whether the connection can be asked again."""
        try:
            client.send(request(self._served.application.target, *lines))
            answer = client.answer()
        except (OSError, AssertionError, ValueError) as error:
            self.failures.append(f"{lines}: {error!r}")
            return False
        if answer.status != 200:
            self.failures.append(f"{answer.line}: {answer.body[:200]!r}")
        self.answered += 1
        return answer.fields.get("connection", "").lower() != "close"


@contextmanager
def loaded(served: Served) -> Iterator[Load]:
    load = Load(served)
    try:
        load.wait_for_more()
        yield load
    finally:
        load.end()
