"""Clients that know how many answers they have had, and a scraper that knows when a counter has gone back."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.support.serving import Client, request

PATIENCE = 30.0
Key = tuple[str, tuple[tuple[str, str], ...]]
COUNTERS = ("_total", "_count", "_bucket", "_sum")


class Askers:
    """Threads that ask over kept-alive connections, one request at a time, until they are told to end."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self.answered: Counter[int] = Counter()
        """By status."""
        self.lost = 0
        """Requests whose connection ended without an answer."""
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> "Askers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def note(self, status: int) -> None:
        """Count an answer."""
        with self._lock:
            self.answered[status] += 1

    def connect(self) -> Client:
        """A new connection."""
        return Client(socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE))

    def _run(self) -> None:
        with ExitStack() as clients:
            client: Client | None = None
            while not self._is_over.is_set():
                try:
                    client = client or clients.enter_context(self.connect())
                except OSError:
                    continue  # Nothing was asked.
                try:
                    client.send(request())
                    answer = client.answer()
                except (OSError, AssertionError):
                    with self._lock:
                        self.lost += 1
                    client = None
                    continue
                self.note(answer.status)
                if answer.fields.get("connection") == "close":
                    client = None
                self._is_over.wait(0.005)


class Scraper:
    """Reads the metrics again and again, and keeps what was wrong with them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_over = threading.Event()
        self._seen: dict[Key, float] = {}
        self._lock = threading.Lock()
        self.scrapes = 0
        self.faults: list[str] = []

    def read(self) -> dict[Key, float]:
        """Every series, after a comparison with those of the scrape before."""
        with self._lock:
            found = dict(self._samples())
            for key, before in self._seen.items():
                if key not in found:
                    self.faults.append(f"{key} has gone")
                elif found[key] < before:
                    self.faults.append(f"{key} went from {before} to {found[key]}")
            self._seen = {key: value for key, value in found.items() if key[0].endswith(COUNTERS)}
            self.scrapes += 1
            return found

    def _samples(self) -> Iterator[tuple[Key, float]]:
        text = requests.get(self._url, timeout=PATIENCE).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                yield (sample.name, tuple(sorted(sample.labels.items()))), sample.value

    def total(self, name: str, **labels: str) -> float:
        """The sum of the series of a name that have these labels."""
        return sum(
            value for (each, found), value in self.read().items() if each == name and set(labels.items()) <= set(found)
        )

    @contextmanager
    def running(self) -> Iterator["Scraper"]:
        """Scrape all the time, in a thread."""

        def run() -> None:
            while not self._is_over.wait(0.02):
                self.read()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            thread.join(PATIENCE)
