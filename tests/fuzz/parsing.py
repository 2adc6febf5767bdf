"""The parser against the reference: the same requests, the same place where each begins, the same refusals."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from clusterd.http.asgi.scope import ScopeMaker
from clusterd.http.messages.head import Head, HeadParser
from clusterd.http.messages.reception import Received, Reception
from clusterd.http.messages.refusal import Refusal
from clusterd.http.settings import Underscores
from clusterd.http.wsgi.body import Body, BodyReader
from clusterd.http.wsgi.environ import EnvironMaker
from tests.fuzz.mutation import corpus, mutated, pieces
from tests.fuzz.reference import End, Reading, read
from tests.support.settings import limits

LIMITS = limits(request_line=120, headers=400, header_count=8, body=200)
"""Low, so that the edges are met."""


@dataclass(frozen=True)
class Seen:
    """A request as the server has taken it."""

    method: str
    target: str
    minor: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    persists: bool
    environ: tuple[tuple[str, object], ...]
    scope: tuple[tuple[str, object], ...]

    @property
    def names(self) -> frozenset[bytes]:
        """The names of the fields that an ASGI application sees."""
        return frozenset(name for name, _ in dict(self.scope)["headers"])  # type: ignore[attr-defined]

    @property
    def environ_fields(self) -> int:
        """How many fields a WSGI application sees."""
        return sum(name.startswith(("HTTP_", "CONTENT_")) for name, _ in self.environ)


@dataclass(frozen=True)
class Outcome:
    """What came of a stream: its requests, and the status that refused the rest or what is left of it."""

    requests: tuple[Seen, ...]
    refused: int
    left: bytes
    is_receiving: bool
    """Whether the stream ended within a body."""


class Disagreement(AssertionError):
    """The finding: somebody could make the server and another one see different requests."""


def outcome(heads: HeadParser, data: Sequence[bytes]) -> Outcome:
    """Feed the server's own parser. Whatever escapes but a Refusal is a finding, and raised."""
    reception = Reception(heads, LIMITS, Body)
    requests: list[Seen] = []
    for piece in data:
        reception.take(piece)
        try:
            while reception.advance() is Received.REQUEST:
                requests.append(seen(reception))
                reception.finish()
        except Refusal as refusal:
            return Outcome(tuple(requests), refusal.status.value, b"", is_receiving=False)
    left = b"" if reception.is_receiving else reception.residual
    return Outcome(tuple(requests), 0, left, reception.is_receiving)


def seen(reception: Reception) -> Seen:
    """The request, and what the adapters make of its head."""
    request = reception.request
    assert request is not None
    head, body = request.head, request.body
    assert head.framing is not None
    content = b""
    if isinstance(body, Body):
        content = body.file.read()
        assert body.size == len(content)
    return Seen(
        head.method,
        head.target,
        head.minor,
        tuple(sorted(head.fields.items())),
        content,
        head.framing.persists,
        *views(head),
    )


def views(head: Head) -> tuple[tuple[tuple[str, object], ...], tuple[tuple[str, object], ...]]:
    """WSGI's and ASGI's, as far as they come from the head."""
    environs, scopes = EnvironMaker("", 4), ScopeMaker("", {})
    peer, local = ("1.2.3.4", 5), ("5.6.7.8", 80)
    file = Body()
    environ = environs.make(
        environs.of_connection(peer, local, "http"), head, None, BodyReader(file.file, lambda: None)
    )
    scope = scopes.http(scopes.of_connection(peer, local, "http"), head)
    kept = {name: value for name, value in environ.items() if name.isupper()}
    return tuple(sorted(kept.items())), (("path", scope["path"]), ("headers", tuple(scope["headers"])))


def check(heads: HeadParser, underscores: Underscores, data: bytes, dice: Random) -> Reading:
    """Raises Disagreement. `heads` has seen other streams before: what it remembers must not matter."""
    whole = outcome(heads, [data])
    for split in (pieces(dice, data), [data[at : at + 1] for at in range(len(data))]):
        if outcome(heads, split) != whole:
            raise Disagreement(f"the split matters: {data!r} gives {whole}, in {split} {outcome(heads, split)}")
    fresh = outcome(HeadParser(LIMITS, underscores), [data])
    if fresh != whole:
        raise Disagreement(f"memory matters: {data!r} gives {whole}, and without memory {fresh}")
    expected = read(data, LIMITS, underscores.value)
    compare(data, whole, expected)
    return expected


def compare(data: bytes, found: Outcome, expected: Reading) -> None:
    """The server's view and the reference's."""
    wanted = [
        (
            request.method.decode("latin-1"),
            request.target.decode("latin-1"),
            request.minor,
            tuple(sorted((n.decode("latin-1"), v.decode("latin-1")) for n, v in request.fields.items())),
            request.body,
            request.persists,
        )
        for request in expected.requests
    ]
    got = [(each.method, each.target, each.minor, each.fields, each.body, each.persists) for each in found.requests]
    if got != wanted:
        raise Disagreement(f"{data!r} holds {wanted}, the server saw {got}")
    for request, each in zip(expected.requests, found.requests, strict=True):
        names = sorted(request.handed_on)
        if names != sorted(each.names) or len(names) != each.environ_fields:
            raise Disagreement(f"{data!r}: {names} are to be handed on, the application is told {each.names}")
    if expected.end is End.BAD:
        # What is bad in a head that has no end yet may be noticed later: nothing of it is answered until then.
        is_due = expected.bad_head is None or b"\r\n\r\n" in data[expected.bad_head :]
        if not found.refused and (is_due and not could_go_on(data, found)):
            raise Disagreement(f"{data!r} is to be refused, and was not: {found}")
    elif found.refused and expected.end is End.NOTHING_MORE:
        raise Disagreement(f"{data!r} is good, and was refused with {found.refused}")
    elif expected.end is End.NOTHING_MORE and (found.left not in (b"", b"\r") or found.is_receiving):
        raise Disagreement(f"{data!r} is whole, and the server waits with {found.left!r} left")


def could_go_on(data: bytes, found: Outcome) -> bool:
    """Whether the server waits for the end of trailers, which are looked at as a whole."""
    return found.is_receiving and b"\r\n\r\n" not in data[-len(data.rpartition(b"0")[2]) :]


class Parsing:
    """One stream after the other, until told to stop; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(seed)
        self._seeds = corpus()
        self._heads = {each: HeadParser(LIMITS, each) for each in Underscores}
        self.streams = 0
        self.requests = 0
        self.refused = 0

    def round(self) -> None:
        """One stream. Raises Disagreement, or what the server lets escape."""
        underscores = self._dice.choice(list(Underscores))
        reading = check(self._heads[underscores], underscores, mutated(self._dice, self._seeds), self._dice)
        self.streams += 1
        self.requests += len(reading.requests)
        self.refused += reading.end is End.BAD
