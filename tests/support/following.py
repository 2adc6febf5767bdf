"""Hears of the events of a service as they come, as `clusterctl events --follow` does."""

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

from tests.support.service import PATIENCE_SECONDS, Never, Service

Event = dict[str, Any]


class Following:
    """Every event from the beginning on, and what comes while it is entered."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._socket = socket.socket(socket.AF_UNIX)
        self._news = threading.Condition()
        self._events: list[Event] = []
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Following":
        self._socket.connect(str(self._service.control))
        self._socket.sendall(b'{"version": 1, "command": "events", "follow": true}\n')
        self._reader.start()
        # The answer begins with what is remembered: from then on nothing is missed.
        self.wait_for(lambda event: event["event"] == "ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(PATIENCE_SECONDS)
        self._socket.close()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                document = json.loads(line)
                if document["type"] == "event":
                    with self._news:
                        self._events.append(document["event"])
                        self._news.notify_all()

    def wait_for(self, wanted: Callable[[Event], bool], count: int = 1) -> list[Event]:
        """The first `count` events of that kind. Raises Never."""

        def found() -> list[Event]:
            return [event for event in self._events if wanted(event)]

        with self._news:
            if not self._news.wait_for(lambda: len(found()) >= count, PATIENCE_SECONDS):
                raise Never(f"{count} events were waited for, and {len(found())} came:\n{self._events}")
            return found()[:count]

    def messages(self, count: int, slot: int | None = None) -> list[Any]:
        """What applications have said first: so many messages, of one slot or of all."""
        wanted = self.wait_for(lambda each: each["event"] == "message" and slot in (None, each["slot"]), count)
        return [event["data"] for event in wanted]

    def wait_for_message(self, value: object) -> Event:
        """The first message that says this."""
        return self.wait_for(lambda event: event["event"] == "message" and event["data"] == value)[0]
