"""What a client asks of every framework: one check for each column, which tells what it has measured."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from websockets.sync.client import connect

from tests.conformance.load import loaded
from tests.conformance.served import WORKERS, ByClusterd, Served
from tests.support.frames import TEXT, Raw, frame
from tests.support.frameworks import Feature
from tests.support.frameworks.shared import EVENT, FILE, PIECE, PIECES
from tests.support.service import PATIENCE_SECONDS, wait_until
from tests.support.serving import Client, request


@dataclass(frozen=True)
class Seen:
    """What a check tells beside that it has succeeded."""

    measured: str = ""
    note: str = ""


NOTHING = Seen()
Check = Callable[[Served], Seen]
ServiceCheck = Callable[[ByClusterd], Seen]
TRIES = 3
PROMISED_SECONDS = 0.05
BODY = bytes(range(256)) * 4096


def takes_json(served: Served) -> Seen:
    document = {"numbers": list(range(20_000)), "text": "W\u00f6rld"}
    with served.http() as client:
        answer = client.post("/json", json=document)
    assert (answer.status_code, answer.json()) == (200, document)
    return NOTHING


def takes_an_upload(served: Served) -> Seen:
    uploads(served, BODY)
    uploads(served, (BODY[at : at + 10_000] for at in range(0, len(BODY), 10_000)))
    return NOTHING


def uploads(served: Served, content: bytes | Iterator[bytes]) -> None:
    """By Content-Length, or in chunks."""
    with served.http() as client:
        answer = client.post("/upload", content=content, headers={"Content-Type": "application/octet-stream"})
        assert (answer.status_code, answer.content == BODY) == (200, True)


def streams(served: Served) -> Seen:
    with served.http() as client, client.stream("GET", "/stream") as answer:
        assert answer.status_code == 200
        assert b"".join(answer.iter_raw()) == PIECE * PIECES
    return NOTHING


def answers_head(served: Served) -> Seen:
    with served.client() as client:
        for _ in range(2):  # The second is not answered, if the first has sent a body.
            answer = client.get("/hello?name=a", method="HEAD")
            assert answer.status == 200
    return NOTHING


def sends_a_file(served: Served) -> Seen:
    with served.http() as client:
        answer = client.get("/file")
    assert (answer.status_code, answer.content == FILE.read_bytes()) == (200, True)
    return NOTHING


def talks(served: Served) -> Seen:
    said: dict[str, list[str | bytes]] = {"text": ["text", "\u00f6" * 50_000], "bytes": [b"bytes", BODY]}
    for kind, messages in said.items():
        uri = f"ws://{served.address}/ws?name={served.name()}&kind={kind}"
        with connect(uri, proxy=None, max_size=None) as client:
            for message in messages:
                client.send(message)
                assert client.recv(PATIENCE_SECONDS) == message
    return NOTHING


def sends_events(served: Served) -> Seen:
    """The first event comes while the stream goes on."""
    with events_of(served, served.name()):
        pass
    return NOTHING


def events_of(served: Served, name: str) -> Client:
    client = served.client()
    client.send(request(f"/events?name={name}"))
    head = client.answer_head()
    assert head.status == 200
    assert head.fields["content-type"].startswith("text/event-stream")
    got = b""
    while b"first" not in got:
        got += client.chunk()
    assert got.startswith(EVENT.partition(b" ")[0])
    return client


def works_in_the_background(served: Served) -> Seen:
    name = served.name()
    with served.http() as client:
        assert client.get("/background", params={"name": name}).text == "later"
    served.wait_for_note(name)
    return NOTHING


# ---- the client that leaves


def by_closing(client: Client) -> None:
    """What has come was read, so that the kernel sends a FIN."""
    client.__exit__()


def by_a_reset(client: Client) -> None:
    client.reset()


def ends(leave: Callable[[Client], None]) -> Check:
    def check(served: Served) -> Seen:
        return measured(served, lambda name: leaves_events(served, name, leave))

    return check


def leaves_events(served: Served, name: str, leave: Callable[[Client], None]) -> float:
    client = events_of(served, name)
    left = time.monotonic()
    leave(client)
    return left


def measured(served: Served, try_once: Callable[[str], float]) -> Seen:
    """The longest that it took from a client's leaving to the end of what was done for it."""
    seconds = []
    for _ in range(TRIES):
        name = served.name()
        left = try_once(name)
        seconds.append(served.wait_for_note(name) - left)
    served.wait_for_rest()
    return Seen(f"{max(seconds) * 1000:.0f} ms")


def ends_for_one_that_stops_reading(served: Served) -> Seen:
    name = served.name()
    with served.client(receive_buffer=4096) as client:
        client.send(request(f"/flood?name={name}"))
        assert client.answer_head().status == 200
        served.wait_for_note(name)
    served.wait_for_rest()
    return NOTHING


def websocket_ends(leave: Callable[[Client], None]) -> Check:
    def check(served: Served) -> Seen:
        return measured(served, lambda name: leaves_websocket(served, name, leave))

    return check


def leaves_websocket(served: Served, name: str, leave: Callable[[Client], None]) -> float:
    """Without a closing frame, as when a browser's machine is gone."""
    talking = Raw(served, f"/ws?name={name}&kind=text")
    talking.client.send(frame(TEXT, b"here"))
    assert talking.frame() == (TEXT, b"here")
    left = time.monotonic()
    leave(talking.client)
    return left


# ---- the whole service


def is_reloaded_under_load(served: ByClusterd) -> Seen:
    with loaded(served) as load:
        done = served.service.ask_to_reload()
        assert done["succeeded"], done
        load.wait_for_more()
    assert load.failures == []
    return Seen(f"{load.answered} requests")


def stops_under_load(served: ByClusterd) -> Seen:
    with loaded(served) as load:
        assert served.service.stop() == 0
    assert load.failures == []
    return Seen(f"{load.answered} requests")


def starts_and_ends(served: ByClusterd) -> Seen:
    """It has started before the first request, and each worker ends it."""
    if served.application.title != "python-socketio":
        with served.http() as client:
            assert client.get("/started").text == "started"
    before = len(served.noted("stopped"))
    assert served.service.ask_to_reload()["succeeded"]
    wait_until(lambda: len(served.noted("stopped")) == before + WORKERS, "the end of each worker's lifespan")
    return NOTHING


CHECKS: dict[Feature, Check] = {
    Feature.JSON: takes_json,
    Feature.UPLOAD: takes_an_upload,
    Feature.STREAM: streams,
    Feature.HEAD: answers_head,
    Feature.FILE: sends_a_file,
    Feature.WEBSOCKET: talks,
    Feature.EVENTS: sends_events,
    Feature.BACKGROUND: works_in_the_background,
    Feature.CLOSES: ends(by_closing),
    Feature.RESETS: ends(by_a_reset),
    Feature.STOPS_READING: ends_for_one_that_stops_reading,
    Feature.WEBSOCKET_CLOSES: websocket_ends(by_closing),
    Feature.WEBSOCKET_RESETS: websocket_ends(by_a_reset),
}
OF_SERVICES: dict[Feature, ServiceCheck] = {
    Feature.LIFESPAN: starts_and_ends,
    Feature.RELOAD: is_reloaded_under_load,
    Feature.STOP: stops_under_load,
}
ORDER = (*CHECKS, *OF_SERVICES)
"""In which they are made: the last one ends the service."""
